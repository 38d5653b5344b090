#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_attach
short_description: Attach vGPUs to libvirt's VMs
description:
  - Attaches vGPUs to the definitions of VMs, on either framework - mediated devices by UUID (C(<hostdev type='mdev'>)),
    vendor-specific VFIO by the VF (C(<hostdev type='pci' managed='no'>)).
  - The module assigns vGPUs to all requests together, with the fewest changes to the VMs. A VM keeps its vGPUs that are still requested. If an
    assignment exists, the module finds it. Otherwise the error names the conflicting requests.
  - A vGPU that another VM has, or that a process has open, is never attached. The vGPUs of a VM are those of its definition, of the running VM, of
    its managed save, of snapshots with memory and of its QEMU command line, and all vGPUs of a VF or GPU that is passed through to it.
  - A change of O(domains[].vgpus[].display), O(domains[].vgpus[].ramfb) or C(managed) keeps all other settings of the device, such as its guest
    address. If libvirt refuses the change, the old device is restored.
  - A running VM gets a change at its next start, unless O(live) is set.
  - The host requires C(virsh). The module reads libvirt's own files, and writes only with C(virsh).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.domains
options:
  domains:
    description: VMs by name, each with its desired vGPUs. Other VMs are not changed.
    required: true
  exclusive:
    description: Whether other vGPUs of these VMs are detached, including those whose mediated device no longer exists.
    type: bool
    default: true
  live:
    description:
      - Whether vGPUs are attached to a running VM now and, with O(exclusive), others are detached now. If a guest does not release one, the module
        fails after O(timeout).
    type: bool
    default: false
  connect:
    description: libvirt's URI, V(qemu:///system) with or without parameters. VMs of C(qemu:///session) are not supported.
    type: str
    default: qemu:///system
  timeout:
    description: Timeout in seconds for a change to become visible.
    type: int
    default: 30
  check_mode_assume:
    description:
      - What an earlier step of the same run would have created. Used in check mode only. With V(vgpus), a missing vGPU counts as one that
        is created later.
    type: list
    elements: str
    choices: [vgpus]
    default: []
"""

EXAMPLES = r"""
- name: Attach any free vGPU of a type to each VM
  vgpu.kvm.nvidia_vgpu_attach:
    domains:
      - {name: web1, vgpus: [{type: A40-24Q}]}
      - {name: web2, vgpus: [{type: A40-24Q, gpu: "0000:67:00.0"}]}
  become: true

- name: Attach any vGPU of a type to one VM, and a specific vGPU to another one
  vgpu.kvm.nvidia_vgpu_attach:
    domains:
      - {name: any, vgpus: [{type: A40-24Q, count: 2}]}
      - {name: certain, vgpus: [{vf: "0000:67:00.4"}]}
  become: true

- name: Attach a specific vGPU with a display
  vgpu.kvm.nvidia_vgpu_attach:
    domains:
      - name: desktop
        vgpus:
          - {uuid: 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11, display: true, ramfb: true}
  become: true

- name: Detach all vGPUs from a VM
  vgpu.kvm.nvidia_vgpu_attach:
    domains: [{name: web1, vgpus: []}]
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["web1: attach 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1 (A40-24Q)"]
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample: ["web2: attach 0b4b7a5e-98a4-5f7c-8d0f-1d0c5d7a2e11 (A40-24Q)"]
attached:
  description: The vGPUs of each VM after the run. The device is the UUID of a mediated device, or the VF's address.
  returned: success
  type: list
  elements: dict
  sample: [{vm: web1, device: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1, type: A40-24Q}]
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: not_kept
      device: web1
      found: "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11 is not attached as requested 30 s after virsh reported it"
      expected: to attach 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11 (A40-8Q)
      remedy: Check 'virsh dumpxml web1'.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu_attach import main

if __name__ == "__main__":
    main()
