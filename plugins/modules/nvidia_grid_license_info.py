#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_grid_license_info
short_description: Check or wait for a vGPU guest's license, and report why a license is missing
description:
  - Reads the license state from C(nvidia-smi). After startup, C(nvidia-gridd) acquires a license in the background. With O(wait), the module checks
    the state repeatedly until the VM has a license or the time expires.
  - If the license is missing, the module reports the reasons, which it derives from the token's claims, the state of C(nvidia-gridd), and the
    C(nvidia-gridd) journal since the last start. The module never changes the VM.
  - The token never appears in messages or results.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
options:
  wait:
    description: The maximum time to wait for a license, in seconds, from 0 to 3600. If V(0), the module checks the license state once.
    type: int
    default: 0
  required:
    description: Whether the module fails if the VM has no license after O(wait) seconds.
    type: bool
    default: false
  product:
    description: A string that the licensed product's name must contain, such as V(Virtual Workstation). Licenses for other products do not count.
    type: str
  timeout:
    description: The maximum time, in seconds, for each program that the module runs, such as C(nvidia-smi) and C(journalctl).
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Wait for the license
  vgpu.kvm.nvidia_grid_license_info:
    wait: 120
    required: true
  become: true

- name: Read the license state
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
  description: Whether every vGPU of this VM has a license for the expected product.
  returned: success
  type: bool
  sample: true
gpus:
  description:
    - The license of each GPU. C(status) is the status that C(nvidia-smi) prints. C(restricted) indicates whether the driver currently throttles an
      unlicensed GPU, and is null if unknown. C(expiry) is null for a license that never expires.
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
  description: The tokens in the token directory that C(gridd.conf) specifies. C(expires) is null if a token never expires or cannot be parsed.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /etc/nvidia/ClientConfigToken/client_configuration_token_vgpu_kvm.tok
      mode: "0744"
      expires: "2035-11-22T07:29:04Z"
clock_synchronized:
  description: Whether the clock is synchronized according to systemd, or null if unknown. Licenses require an accurate clock, so the module warns if
    the clock is not synchronized.
  returned: success
  type: bool
  sample: true
feature:
  description: The feature that C(/etc/nvidia/gridd.conf) requests, or null if the vGPU type determines the license.
  returned: success
  type: str
  sample: vgpu
reasons:
  description: The reasons for a missing license, with causes before consequences. The list is empty if the VM is licensed.
  returned: success
  type: list
  elements: dict
  sample: []
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: server_unreachable
      device: nvidia-gridd.service
      found: >-
        the license server cannot be reached, according to the nvidia-gridd journal: Failed to acquire license from license.example.com
        (Error: connection timed out)
      expected: a license
      remedy: Check name resolution, routes, and firewalls from this VM to the license server (port 443, or ServerPort).
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.grid_license_info import main

if __name__ == "__main__":
    main()
