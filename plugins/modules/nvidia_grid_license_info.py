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
  - vgpu.kvm.common.reads
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
  description: Whether every vGPU of this VM has a licence, and of the expected product.
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
errors:
  description:
    - What is wrong, in words (also those of C(msg)) and as a short name for programs, the code. The device is null where it is the whole host;
      there is not always a remedy or something else that was expected.
    - Left out where Ansible itself refuses the options.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: server_unreachable
      device: nvidia-gridd.service
      found: >-
        the licence server can't be reached; its journal says: Failed to acquire license from license.example.com (Error: connection timed out)
      expected: a licence
      remedy: Look at name resolution, routes and firewalls from this VM to the server (port 443, or ServerPort).
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.grid_license_info import main

if __name__ == "__main__":
    main()
