#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_mdev
short_description: Create and remove single vGPUs as mediated devices
description:
  - Ensures that mediated devices with a given UUID, parent and type exist, or do not. A UUID that exists with another type or on another
    parent is refused. Remove that device first.
  - To configure a whole host by types and counts, use M(vgpu.kvm.nvidia_vgpu). It also restores vGPUs after a reboot, and supports hosts with
    the vendor-specific VFIO framework, on which VFs have no mediated devices.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.mdevctl
  - vgpu.kvm.common.force
options:
  uuid:
    description: UUID of a single device. If omitted, the UUID is derived from the parent's VF, and is the same in each run.
    type: str
  parent:
    description:
      - Address of the VF for the device, in any spelling, or of the PF, whose first free VF is used.
    type: str
  type:
    description: The type by full name (V(NVIDIA A40-24Q)), short name (V(A40-24Q)) or id with any prefix (V(nvidia-565), V(vfio-pci-565), V(565)).
    type: str
  state:
    description: Whether the device exists.
    type: str
    choices: [present, absent]
    default: present
  devices:
    description: Several devices in one call, instead of the single one above. All devices are validated before the first one is created.
    type: list
    elements: dict
    suboptions:
      uuid:
        description: See O(uuid).
        type: str
      parent:
        description: See O(parent).
        type: str
      type:
        description: See O(type).
        type: str
      state:
        description: See O(state).
        type: str
        choices: [present, absent]
        default: present
  timeout:
    description: Timeout of each wait in seconds.
    type: int
    default: 60
  settle:
    description: Seconds for which new devices are monitored.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Create a vGPU on a certain VF
  vgpu.kvm.nvidia_mdev:
    uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11
    parent: "0000:67:00.4"
    type: A40-24A
  become: true

- name: Create several devices, one of them by its PF
  vgpu.kvm.nvidia_mdev:
    devices:
      - {uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12, parent: "0000:68:00.4", type: NVIDIA A40-4Q}
      - {parent: "0000:68:00.0", type: nvidia-560}
  become: true

- name: Remove a device
  vgpu.kvm.nvidia_mdev:
    uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["0000:67:00.4: create A40-24A (3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11)"]
devices:
  description: The devices that exist now, or would exist after the run.
  returned: success
  type: list
  elements: dict
  sample: [{uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11, parent: "0000:67:00.4", type: A40-24A}]
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.4: create A40-8Q (b22f6b64-45e1-5c2c-b6e6-003412502047)"
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: create_failed
      device: "0000:e8:00.4"
      found: >-
        creating A40-8Q as b22f6b64-45e1-5c2c-b6e6-003412502047 failed: writing 'b22f6b64-45e1-5c2c-b6e6-003412502047' to it failed with EIO:
        the driver failed; see dmesg
      expected:
      remedy: Check dmesg and 'journalctl -u nvidia-vgpu-mgr'.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.mdev import main

if __name__ == "__main__":
    main()
