#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_attach
short_description: Attach vGPUs to libvirt VMs
description:
  - Adds vGPUs to VM definitions. The module attaches a mediated device by UUID (C(<hostdev type='mdev'>)), and a vGPU of the vendor-specific VFIO
    framework by VF (C(<hostdev type='pci' managed='no'>)).
  - The module assigns vGPUs to all requests at once, with the fewest changes to the VMs. A VM keeps the vGPUs that match its requests. If no
    assignment satisfies all requests, the module fails and lists the conflicting requests.
  - The module never attaches a vGPU that is assigned to another VM or in use by a process. A vGPU is assigned to a VM if the VM's definition, running
    instance, managed save, memory snapshots, or QEMU command line contains the vGPU, or if the vGPU's VF or GPU is passed through to the VM.
  - When the module changes O(domains[].vgpus[].display), O(domains[].vgpus[].ramfb), or C(managed), it keeps all other device settings, such as the
    address in the guest. If libvirt rejects the change, the module restores the previous device.
  - Changes to a running VM take effect at the VM's next start, unless O(live=true).
  - The module requires C(virsh) on the host. The module reads libvirt's files directly but makes changes only with C(virsh).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.domains
options:
  domains:
    description: The VMs and their desired vGPUs. The module does not change VMs that are not listed.
    required: true
  exclusive:
    description: Whether the module detaches all other vGPUs from the listed VMs, including vGPUs whose mediated devices no longer exist.
    type: bool
    default: true
  live:
    description:
      - Whether the module changes running VMs immediately. If V(true), the module attaches the requested vGPUs and, with O(exclusive), detaches all
        others. If a guest does not release a vGPU, the module fails after O(timeout).
    type: bool
    default: false
  connect:
    description: The libvirt connection URI, which is V(qemu:///system) with or without parameters. The module does not support C(qemu:///session).
    type: str
    default: qemu:///system
  timeout:
    description: The maximum time, in seconds, to wait for libvirt to report a change.
    type: int
    default: 30
  check_mode_assume:
    description:
      - The results of earlier steps that check mode treats as complete. The module uses this option only in check mode. With V(vgpus), the plan is
        based on a host on which an earlier step created all missing vGPUs.
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

- name: Attach any two vGPUs of a type to one VM, and a specific vGPU to another VM
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
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["web1: attach 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1 (A40-24Q)"]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample: ["web2: attach 0b4b7a5e-98a4-5f7c-8d0f-1d0c5d7a2e11 (A40-24Q)"]
attached:
  description: The vGPUs attached to each VM after the run. C(device) is the UUID of a mediated device, or the address of a VF.
  returned: success
  type: list
  elements: dict
  sample: [{vm: web1, device: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1, type: A40-24Q}]
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: not_kept
      device: web1
      found: "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11 is not attached as requested 30 s after virsh reported success"
      expected: to attach 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11 (A40-8Q)
      remedy: Check 'virsh dumpxml web1'.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu_attach import main

if __name__ == "__main__":
    main()
