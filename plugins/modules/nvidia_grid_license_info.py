#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_grid_license_info
short_description: Read a vGPU guest's license, wait for it, and report why it is missing
description:
  - Reads the license's state from C(nvidia-smi). C(nvidia-gridd) acquires a license in the background after its start; with O(wait) the module
    polls until there is one.
  - If there is no license, the module reports the reasons - from the token's claims, the daemon, and its journal since its last start. Changes
    nothing.
  - The token never appears in a message or a result.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
options:
  wait:
    description: Seconds to wait for a license, an hour at most; V(0) checks once.
    type: int
    default: 0
  required:
    description: Whether the module fails if there is no license after O(wait).
    type: bool
    default: false
  product:
    description: Text that the licensed product's name must contain, for example V(Virtual Workstation). Another product counts as not licensed.
    type: str
  timeout:
    description: Timeout in seconds for the programs that are run (C(nvidia-smi), C(journalctl)).
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Wait for the license
  vgpu.kvm.nvidia_grid_license_info:
    wait: 120
    required: true
  become: true

- name: Read the state
  vgpu.kvm.nvidia_grid_license_info:
  become: true
  register: license

- name: Show the reasons for a missing license
  ansible.builtin.debug:
    msg: "{{ license['reasons'] | map(attribute='remedy') }}"
  when: not license['licensed']
"""

RETURN = r"""
licensed:
  description: Whether every vGPU of this VM has a license of the expected product.
  returned: success
  type: bool
  sample: true
gpus:
  description:
    - Each GPU's license. The status is as nvidia-smi prints it; restricted is whether an unlicensed GPU is throttled already, null if unknown.
      The expiry is null for a license that never expires.
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
  description: The tokens in the directory that C(gridd.conf) names. C(expires) is null for a token that never expires or can't be read.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /etc/nvidia/ClientConfigToken/client_configuration_token_vgpu_kvm.tok
      mode: "0744"
      expires: "2035-11-22T07:29:04Z"
clock_synchronized:
  description: Whether systemd reports the clock as synchronized, which licenses need; null if unknown. The module warns if the clock is not
    synchronized.
  returned: success
  type: bool
  sample: true
feature:
  description: The feature that C(/etc/nvidia/gridd.conf) requests by name; null if the vGPU's type decides.
  returned: success
  type: str
  sample: vgpu
reasons:
  description: The reasons for a missing license, causes before their consequences. Empty with a license.
  returned: success
  type: list
  elements: dict
  sample: []
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: server_unreachable
      device: nvidia-gridd.service
      found: >-
        the license server can't be reached; its journal shows: Failed to acquire license from license.example.com (Error: connection timed out)
      expected: a license
      remedy: Check name resolution, routes and firewalls from this VM to the server (port 443, or ServerPort).
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.grid_license_info import main

if __name__ == "__main__":
    main()
