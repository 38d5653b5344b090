#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_grid_license_info
short_description: Read a vGPU guest's licence, wait for it, and tell why there is none
description:
  - Reads the licence's state from C(nvidia-smi). A licence is fetched in the background after the start of C(nvidia-gridd); with O(wait) the module
    looks again until it is there.
  - Where there is no licence, it tells why - after the token's own claims, the daemon, and what its journal says since its last start. Changes nothing.
  - The token is in no message and no result.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
version_added: 1.0.0
extends_documentation_fragment:
  - vgpu.kvm.common
options:
  wait:
    description: Seconds to wait for a licence, an hour at most; V(0) looks once.
    type: int
    default: 0
  required:
    description: Whether the module fails when there is no licence, after O(wait).
    type: bool
    default: false
  product:
    description: What the licensed product's name must have in it, for example V(Virtual Workstation). Another product counts as not licensed.
    type: str
  timeout:
    description: Seconds that a program which is asked (C(nvidia-smi), C(journalctl)) may take.
    type: int
    default: 30
attributes:
  check_mode:
    description: Changes nothing, in check mode as in real mode.
  diff_mode:
    description: Has nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Wait for the licence
  vgpu.kvm.nvidia_grid_license_info:
    wait: 120
    required: true
  become: true

- name: Read the state
  vgpu.kvm.nvidia_grid_license_info:
  become: true
  register: license

- name: Tell why there is none
  ansible.builtin.debug:
    msg: "{{ license['reasons'] | map(attribute='remedy') }}"
  when: not license['licensed']
"""

RETURN = r"""
licensed:
  description: Whether every vGPU of this VM has a licence, and of the wanted product.
  returned: success
  type: bool
  sample: true
gpus:
  description:
    - Each GPU's licence. The status is nvidia-smi's own; restricted tells whether an unlicensed GPU is throttled already, null where that is not told.
      The expiry is null for a licence without an end.
  returned: success
  type: list
  elements: dict
  sample:
    - address: "0000:02:00.0"
      name: NVIDIA A40-24Q
      product: NVIDIA RTX Virtual Workstation
      status: "Licensed (Expiry: 2026-11-26 7:29:4 GMT)"
      licensed: true
      restricted: false
      expiry: "2026-11-26T07:29:04Z"
tokens:
  description: The tokens in the folder that C(gridd.conf) names. When each ends is null for one without an end and for one that can't be read.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /etc/nvidia/ClientConfigToken/client_configuration_token_vgpu_kvm.tok
      mode: "0744"
      expires: "2035-11-22T07:29:04Z"
clock_synchronized:
  description: Whether systemd knows the clock to be synchronised, which licences need; null where it does not tell. A clock that is not is warned of.
  returned: success
  type: bool
  sample: true
feature:
  description: The feature that C(/etc/nvidia/gridd.conf) asks for by name; null where it is left to the vGPU's type.
  returned: success
  type: str
  sample: vgpu
reasons:
  description: Why there is no licence, the cause before its consequences. Empty when there is one.
  returned: success
  type: list
  elements: dict
  sample: []
troubles:
  description:
    - What is wrong, in words (also those of C(msg)) and as a short name for programs, the code. The device is null where it is the whole host;
      there is not always a remedy or something else that was wanted.
    - Left out where Ansible itself refuses the options.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: server_unreachable
      device: nvidia-gridd.service
      found: >-
        the licence server can't be reached; its journal says: Failed to acquire license from license.example.com (Error: connection timed out)
      wanted: a licence
      remedy: Look at name resolution, routes and firewalls from this VM to the server (port 443, or ServerPort).
"""

import time

from ansible_collections.vgpu.kvm.plugins.module_utils import _module
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import Trouble, raise_if_any, trouble
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.guest import gridd_conf, license as licensing, license_status, token
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files


MOST = 3600
UNSYNCHRONIZED = (
    "The clock of this VM is not synchronised (timedatectl): licences and tokens have times, and a wrong clock makes them invalid. Set up chrony or "
    "systemd-timesyncd."
)


def _gpu(gpu):
    state = licensing.state(gpu.status)
    return {
        "address": gpu.address,
        "name": gpu.name,
        "product": gpu.product,
        "status": gpu.status,
        "licensed": state.licensed,
        "restricted": state.restricted,
        "expiry": state.expiry,
    }


def _tokens(ctx):
    found = []
    for path, mode, text in license_status.token_files(ctx)[1]:
        found.append({"path": path, "mode": "%04o" % mode, "expires": token.iso(token.read(text).expires)})
    return found


def _other_product(look, wanted):
    """Licences of another product than the wanted one."""
    return [
        Trouble(
            "it is licensed as %s" % (gpu.product or "a product without a name"),
            device=gpu.address,
            wanted=wanted,
            remedy="Set vgpu_license_feature to that product, and look on the server whether it has licences of it.",
            code="wrong_product",
        )
        for gpu in look.licensable
        if wanted.lower() not in (gpu.product or "").lower()
    ]


def work(module, ctx):
    params = module.params
    if params["wait"] > MOST:
        raise trouble("it is %d" % params["wait"], device="wait", wanted="seconds, from 0 to %d" % MOST, code="bad_time")
    look = license_status.waited(ctx, params["wait"], params["timeout"])
    found = [] if look.licensed else license_status.reasons(ctx, look, time.time(), params["timeout"])
    if look.licensed and params["product"]:
        found = _other_product(look, params["product"])
    if params["required"]:
        raise_if_any(found)
    synchronized = license_status.clock_synchronized(ctx, params["timeout"])
    feature = gridd_conf.values(files.read_text(ctx.root, gridd_conf.PATH) or "").get("FeatureType")
    names = {number: name for name, number in gridd_conf.FEATURES.items()}
    return {
        "changed": False,
        "licensed": not found,
        "gpus": [_gpu(gpu) for gpu in look.gpus],
        "tokens": _tokens(ctx),
        "clock_synchronized": synchronized,
        "warnings": [UNSYNCHRONIZED] if synchronized is False else [],
        "feature": names.get(feature),
        "reasons": [one.as_dict() for one in found],
    }


def main():
    _module.run(
        {
            "wait": {"type": "int", "default": 0},
            "required": {"type": "bool", "default": False},
            "product": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        work,
        reads_only=True,
    )


if __name__ == "__main__":
    main()
