#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu
short_description: Bring a host's vGPUs to a layout
description:
  - Takes the vGPUs that each GPU should hold, as types and counts, chooses VFs for them, and makes and removes what is needed.
  - vGPUs that match stay as they are. Surplus vGPUs of the listed GPUs are removed, unless a process has them open.
    On GPUs that the layout does not name, vGPUs that this module made are removed and those of others stay, with a warning.
  - The whole request is validated before the first write. Each vGPU is verified, and looked at again for O(settle) seconds.
  - A vGPU's UUID follows from the machine, the PF and the VF's number, so that it is the same whenever it is made again.
  - Works on both of NVIDIA's frameworks. On hosts with the vendor-specific VFIO framework (kernels from 6.8 on) a VF itself becomes the vGPU,
    so there are no UUIDs; VMs get it by the VF's PCI address.
  - Types with a number of slices (V(A100-1-5C)) live in GPU instances of MIG. The needed ones are made, larger first, and unneeded ones of the
    listed GPUs destroyed. The GPU must be in MIG mode before its VFs are made, see M(vgpu.kvm.nvidia_mig).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
version_added: 0.1.0
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.assume
  - vgpu.kvm.common.mdevctl
  - vgpu.kvm.common.force
  - vgpu.kvm.common.lost
  - vgpu.kvm.common.layout
options:
  layout:
    description:
      - What each GPU should hold. A GPU that is named by its address or UUID takes only the entries that do so,
        one that is named by model those with its model, and V(all) is for the rest. Entries of the same kind add up.
    required: true
  persist:
    description:
      - Whether the layout is stored in C(/etc/nvidia-vgpu/layout.json), from where C(nvidia-vgpu-restore.service) brings it
        back at boot. See M(vgpu.kvm.nvidia_vgpu_restore).
    type: bool
    default: true
  timeout:
    description: Seconds for each wait (types after VFs, a vGPU to come or to go).
    type: int
    default: 60
  settle:
    description: Seconds for which new vGPUs are watched, since a cloud agent may take their VFs away.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Two large vGPUs on each GPU
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: all
        vgpus: [{type: A40-24Q, count: 2}]
  become: true

- name: Different GPUs, different types
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:e8:00.0"
        vgpus: [{type: A40-24A, count: 2}]
      - gpu: "0000:e7:00.0"
        vgpus: [{type: A40-1B, count: 32}]
      - gpu: ["0000:e5:00.0"]
        vgpus: []
  become: true

- name: GPUs in MIG mode, one with the GPU instances that the types need, one with given ones
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:17:00.0"
        vgpus: [{type: A100-3-20C}, {type: A100-1-5C, count: 4}]
      - gpu: "0000:65:00.0"
        mig: [3g.20gb, 3g.20gb]
        vgpus: [{type: A100-3-20C, count: 2}]
  become: true

- name: Several framebuffer sizes on one GPU, and no limit of the frame rate for one of them
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:e8:00.0"
        mixed_sizes: true
        vgpus: [{type: A40-24Q, vgpu_params: frame_rate_limiter=0}, {type: A40-12Q}, {type: A40-8Q}]
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["store the layout for the boot", "0000:e8:00.4: create A40-24A (7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1)"]
lost_gpus:
  description: Addresses of the GPUs that were meant, but fell off the bus; they were passed over.
  returned: where there are such, with O(lost_gpus=warn)
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
vgpus:
  description: The vGPUs of the listed GPUs as they are now, or would be. The uuid is null on the vendor-specific VFIO framework.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:e8:00.0", vf: "0000:e8:00.4", vf_index: 0, type: A40-24A, uuid: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1}]
not_done:
  description: Steps that were not done, where the module failed after its plan was made. RV(actions) then has only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.4: create A40-8Q (b22f6b64-45e1-5c2c-b6e6-003412502047)"
    - "0000:e8:00.5: create A40-8Q (10db416a-6ee4-5b39-a309-171158b9575b)"
errors:
  description:
    - What is wrong, in words (also those of C(msg)) and as a short name for programs, the code. The device is null where it is the whole host;
      there is not always a remedy or something else that was expected.
    - Left out where Ansible itself refuses the options.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: create_failed
      device: "0000:e8:00.4"
      found: >-
        creating A40-8Q as b22f6b64-45e1-5c2c-b6e6-003412502047 failed: writing 'b22f6b64-45e1-5c2c-b6e6-003412502047' to it failed with EIO:
        the driver failed; 'dmesg' has its own words
      expected:
      remedy: Look into dmesg and 'journalctl -u nvidia-vgpu-mgr'.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu import main

if __name__ == "__main__":
    main()
