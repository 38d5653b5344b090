#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu
short_description: Create and remove vGPUs to match a layout
description:
  - Creates and removes vGPUs to match the desired types and counts for each GPU, and selects the VFs for the vGPUs.
  - The module keeps vGPUs that match the layout and removes surplus vGPUs from the listed GPUs, or fails if a process uses a surplus vGPU. On GPUs
    that the layout does not name, the module removes only vGPUs that it created, and warns about all others.
  - The module validates the whole request before the first change, verifies each vGPU, and monitors new vGPUs for O(settle) seconds.
  - The module derives the UUID of a vGPU from the machine's identity, the PF, and the VF number. A recreated vGPU has the same VF and UUID as before.
  - The module supports both of NVIDIA's frameworks. On hosts with the vendor-specific VFIO framework (kernels 6.8 and later), a VF itself becomes the
    vGPU. The vGPU has no UUID, and VM definitions contain the VF's PCI address instead.
  - MIG-backed types (such as V(A100-1-5C)) require GPU instances. The module creates the required GPU instances, largest first, and destroys unneeded
    instances on the listed GPUs. If the layout lists no vGPUs for a GPU, the GPU keeps its GPU instances, unless an earlier layout had MIG-backed
    vGPUs or GPU instances on this GPU. Set MIG mode with M(vgpu.kvm.nvidia_mig) before enabling the GPU's VFs.
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
      - The desired vGPUs for each GPU. Only the most specific entries for a GPU apply, as described for O(layout[].gpu). The module combines entries
        with the same precedence.
    required: true
  persist:
    description:
      - Whether the module stores the layout in C(/etc/vgpuctl/layout.json). C(vgpu-restore.service), which M(vgpu.kvm.nvidia_vgpu_restore) installs,
        restores the stored layout at boot.
    type: bool
    default: true
  timeout:
    description: The maximum time, in seconds, to wait for vGPU types after VFs are enabled. The same limit applies to the creation and the removal of
      each vGPU.
    type: int
    default: 60
  settle:
    description: The time, in seconds, during which the module monitors new vGPUs, because a cloud agent might unbind their VFs.
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

- name: Create MIG-backed vGPUs with derived GPU instances on one GPU, and with explicit GPU instances on another GPU
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:17:00.0"
        vgpus: [{type: A100-3-20C}, {type: A100-1-5C, count: 4}]
      - gpu: "0000:65:00.0"
        mig: [3g.20gb, 3g.20gb]
        vgpus: [{type: A100-3-20C, count: 2}]
  become: true

- name: Create vGPUs of different framebuffer sizes on one GPU, including one vGPU without a frame rate limit
  vgpu.kvm.nvidia_vgpu:
    layout:
      - gpu: "0000:e8:00.0"
        mixed_sizes: true
        vgpus: [{type: A40-24Q, vgpu_params: frame_rate_limiter=0}, {type: A40-12Q}, {type: A40-8Q}]
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["store the layout for the next boot", "0000:e8:00.4: create A40-24A (7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1)"]
unresponsive_gpus:
  description: The addresses of selected GPUs that fell off the bus and were skipped.
  returned: with O(unresponsive_gpus=warn), if any GPU is unresponsive
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
vgpus:
  description: The vGPUs of the listed GPUs after the run or, in check mode, as planned. C(uuid) is null on the vendor-specific VFIO framework.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:e8:00.0", vf: "0000:e8:00.4", vf_index: 0, type: A40-24A, uuid: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1}]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.4: create A40-8Q (b22f6b64-45e1-5c2c-b6e6-003412502047)"
    - "0000:e8:00.5: create A40-8Q (10db416a-6ee4-5b39-a309-171158b9575b)"
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

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu import main

if __name__ == "__main__":
    main()
