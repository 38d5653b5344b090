#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_mdev
short_description: Create and remove individual vGPUs as mediated devices
description:
  - Creates or removes mediated devices by UUID, parent, and type. If a device with the requested UUID has a different type or parent, the module
    fails. Remove the existing device first.
  - The module does not support the vendor-specific VFIO framework, which has no mediated devices. To configure a whole host by types and counts on
    either framework, or to restore the vGPUs at boot, use M(vgpu.kvm.nvidia_vgpu).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.mdevctl
  - vgpu.kvm.common.force
options:
  uuid:
    description: The UUID of a single device. If omitted, the module derives the UUID from the VF that O(parent) selects. Each run derives the same
      UUID.
    type: str
  parent:
    description:
      - The VF's PCI address in any format. If the address belongs to a PF, the module uses the PF's first free VF.
    type: str
  type:
    description:
      - The vGPU type by full name (V(NVIDIA A40-24Q)), short name (V(A40-24Q)), or ID with any prefix (V(nvidia-565), V(vfio-pci-565), V(565)).
    type: str
  state:
    description: Whether the mediated device must exist.
    type: str
    choices: [present, absent]
    default: present
  devices:
    description: A list of devices to use instead of the single device that O(uuid), O(parent), and O(type) describe. The module validates all devices
      before any change.
    type: list
    elements: dict
    suboptions:
      uuid:
        description: The device UUID, as in O(uuid).
        type: str
      parent:
        description: The device's VF or PF, as in O(parent).
        type: str
      type:
        description: The device's vGPU type, as in O(type).
        type: str
      state:
        description: Whether the device must exist, as in O(state).
        type: str
        choices: [present, absent]
        default: present
  timeout:
    description: The maximum time, in seconds, to wait for each change to take effect.
    type: int
    default: 60
  settle:
    description: The time, in seconds, during which the module monitors new devices.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Create a vGPU on a specific VF
  vgpu.kvm.nvidia_mdev:
    uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11
    parent: "0000:67:00.4"
    type: A40-24A
  become: true

- name: Create two vGPUs, one on a specific VF and one on any free VF of a PF
  vgpu.kvm.nvidia_mdev:
    devices:
      - {uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12, parent: "0000:68:00.4", type: NVIDIA A40-4Q}
      - {parent: "0000:68:00.0", type: nvidia-560}
  become: true

- name: Remove a vGPU
  vgpu.kvm.nvidia_mdev:
    uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["0000:67:00.4: create A40-24A (3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11)"]
devices:
  description: The requested devices that exist after the run, or would exist in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11, parent: "0000:67:00.4", type: A40-24A}]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.4: create A40-8Q (b22f6b64-45e1-5c2c-b6e6-003412502047)"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: create_failed
      device: "0000:e8:00.4"
      found: >-
        creating A40-8Q with the UUID b22f6b64-45e1-5c2c-b6e6-003412502047 failed: writing 'b22f6b64-45e1-5c2c-b6e6-003412502047' failed with EIO:
        the driver failed, and dmesg may show the cause
      expected:
      remedy: Find the cause in the output of 'dmesg' and 'journalctl -u nvidia-vgpu-mgr'.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.mdev import main

if __name__ == "__main__":
    main()
