#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_mig
short_description: Set the MIG mode and GPU instances of NVIDIA GPUs
description:
  - Enables or disables MIG mode, and creates GPU instances (each with its default compute instance) from a list of profiles.
  - Set MIG mode before you enable VFs, and create GPU instances afterwards, because enabling VFs removes existing GPU instances.
  - With O(layout), this module sets only the MIG mode that the vGPU types require. To create the GPU instances for a layout, use
    M(vgpu.kvm.nvidia_vgpu).
  - Ampere GPUs require a reset to change MIG mode, and keep the mode across reboots. Later GPUs require no reset but can lose the mode at a reboot,
    so C(vgpu-restore.service) sets MIG mode at boot. The module never resets a GPU that a process or a vGPU uses.
  - The module validates the whole request before the first change, and verifies the changes that C(nvidia-smi) makes.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.check_mode_assume
  - vgpu.kvm.common.unresponsive
  - vgpu.kvm.common.layout
options:
  mode:
    description: Whether MIG mode must be enabled or disabled on the GPUs in O(gpus). If omitted, the module does not change the mode.
    type: str
    choices: [enabled, disabled]
  instances:
    description:
      - The GPU instances for each GPU in O(gpus), by profile name (V(1g.5gb)) or profile number, with one item per instance.
      - The module keeps matching instances and destroys all others, except instances with vGPUs. If omitted, the module keeps all instances.
    type: list
    elements: str
  layout:
    description:
      - A layout in the format of M(vgpu.kvm.nvidia_vgpu), instead of O(mode) and O(instances). The module enables MIG mode on GPUs with MIG-backed
        types (such as V(A100-1-5C)) or C(mig) in their layout entry, and disables MIG mode on GPUs with other types.
      - The module does not change GPUs that the layout does not name or for which the layout lists no vGPUs.
  cycle_vfs:
    description:
      - Whether the module may disable VFs to change MIG mode. Afterwards, re-enable the VFs with M(vgpu.kvm.nvidia_sriov). If V(false), the module
        fails if VFs are enabled on a GPU whose MIG mode must change. If such a GPU has a vGPU, the module always fails.
    type: bool
    default: false
  timeout:
    description: The maximum time, in seconds, for each step.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Enable MIG mode before the VFs
  vgpu.kvm.nvidia_mig:
    gpus: ["0000:17:00.0"]
    mode: enabled
  become: true

- name: Enable the VFs
  vgpu.kvm.nvidia_sriov:
    gpus: ["0000:17:00.0"]
  become: true

- name: Create the GPU instances
  vgpu.kvm.nvidia_mig:
    gpus: ["0000:17:00.0"]
    instances: [3g.20gb, 1g.5gb, 1g.5gb]
  become: true

- name: Set the MIG mode that a layout requires on each GPU
  vgpu.kvm.nvidia_mig:
    layout:
      - gpu: A100
        vgpus: [{type: A100-1-5C, count: 7}]
    cycle_vfs: true
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["0000:17:00.0: enable MIG mode"]
gpus:
  description: The selected GPUs after the run or, in check mode, as planned. C(mode) indicates whether MIG mode is enabled.
  returned: success
  type: list
  elements: dict
  sample: [{address: "0000:17:00.0", mode: true, instances: [1g.5gb, 1g.5gb, 3g.20gb]}]
unresponsive_gpus:
  description: The addresses of selected GPUs that fell off the bus and were skipped.
  returned: with O(unresponsive_gpus=warn), if any GPU is unresponsive
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
without_mig:
  description: The GPUs that do not support MIG, with the reasons.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:e8:00.0", reason: A40 does not support MIG}]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.0: enable MIG mode"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: mig_pending
      device: "0000:e8:00.0"
      found: >-
        MIG mode will be enabled only after a reset of the GPU
        (nvidia-smi printed: Resetting GPU 00000000:E8:00.0 is not supported.)
      expected:
      remedy: Stop all users of the GPU, then rerun. Alternatively, reboot the host, because this GPU keeps the mode across a reboot.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.mig import main

if __name__ == "__main__":
    main()
