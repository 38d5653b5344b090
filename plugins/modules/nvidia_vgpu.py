#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu
short_description: Create and remove vGPUs to match a layout
description:
  - Takes the desired vGPUs of each GPU as types and counts, selects VFs for them, and creates and removes vGPUs as needed.
  - Matching vGPUs are unchanged. Surplus vGPUs of the listed GPUs are removed, unless a process has them open.
    On GPUs that the layout does not name, vGPUs that this module created are removed, and all others stay, with a warning.
  - The whole request is validated before the first write. Each vGPU is verified, and monitored for O(settle) seconds.
  - A vGPU's UUID is derived from the machine, the PF and the VF's number. A recreated vGPU has the same VF and the same UUID.
  - Supports both of NVIDIA's frameworks. On hosts with the vendor-specific VFIO framework (kernels 6.8 and later), a VF itself becomes the vGPU.
    Such a vGPU has no UUID, and is attached to VMs by the VF's PCI address.
  - Types with a number of slices (V(A100-1-5C)) require GPU instances of MIG. Required instances are created, larger ones first, and unneeded ones
    of the listed GPUs are destroyed. A GPU whose list is empty, or that the layout does not name, keeps its GPU instances, unless an earlier layout
    had MIG-backed vGPUs or GPU instances on it. MIG mode must be set before the GPU's VFs are enabled, see M(vgpu.kvm.nvidia_mig).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.check_mode_assume
  - vgpu.kvm.common.mdevctl
  - vgpu.kvm.common.force
  - vgpu.kvm.common.unresponsive
  - vgpu.kvm.common.layout
options:
  layout:
    description:
      - The desired vGPUs of each GPU. Only the most specific entries for a GPU apply, see O(layout[].gpu). Entries of the same kind are
        combined.
    required: true
  persist:
    description:
      - Whether the layout is stored in C(/etc/vgpuctl/layout.json), from which C(vgpu-restore.service) restores it
        at boot. See M(vgpu.kvm.nvidia_vgpu_restore).
    type: bool
    default: true
  timeout:
    description: Timeout in seconds of each wait (for types after VFs, for a vGPU to appear or to disappear).
    type: int
    default: 60
  settle:
    description: Seconds for which new vGPUs are monitored, because a cloud agent may unbind their VFs.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Create two large vGPUs on each GPU
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: all
        vgpus: [{type: A40-24Q, count: 2}]
  become: true

- name: Create different types on different GPUs
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:e8:00.0"
        vgpus: [{type: A40-24A, count: 2}]
      - gpu: "0000:e7:00.0"
        vgpus: [{type: A40-1B, count: 32}]
      - gpu: ["0000:e5:00.0"]
        vgpus: []
  become: true

- name: Create MIG-backed vGPUs, on one GPU with the GPU instances that the types require, on another one with explicit ones
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:17:00.0"
        vgpus: [{type: A100-3-20C}, {type: A100-1-5C, count: 4}]
      - gpu: "0000:65:00.0"
        mig: [3g.20gb, 3g.20gb]
        vgpus: [{type: A100-3-20C, count: 2}]
  become: true

- name: Create several framebuffer sizes on one GPU, one of them without a frame rate limit
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:e8:00.0"
        mixed_sizes: true
        vgpus: [{type: A40-24Q, vgpu_params: frame_rate_limiter=0}, {type: A40-12Q}, {type: A40-8Q}]
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, or would execute in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["store the layout for the boot", "0000:e8:00.4: create A40-24A (7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1)"]
unresponsive_gpus:
  description: The addresses of the selected GPUs that fell off the bus and that the module skipped.
  returned: with O(unresponsive_gpus=warn), if there are any
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
vgpus:
  description: The vGPUs of the listed GPUs after the run, in check mode as planned. The uuid is null on the vendor-specific VFIO framework.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:e8:00.0", vf: "0000:e8:00.4", vf_index: 0, type: A40-24A, uuid: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1}]
not_done:
  description: The steps that the module did not execute because an earlier step failed. RV(actions) then lists only the executed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.4: create A40-8Q (b22f6b64-45e1-5c2c-b6e6-003412502047)"
    - "0000:e8:00.5: create A40-8Q (10db416a-6ee4-5b39-a309-171158b9575b)"
errors:
  description:
    - The errors that made the module fail. C(msg) has the same errors as text. C(code) identifies the kind of an error for programs. C(device) is
      null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - The module does not return RV(errors) if Ansible's argument validation fails.
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

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu import main

if __name__ == "__main__":
    main()
