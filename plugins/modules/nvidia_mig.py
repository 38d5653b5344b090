#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_mig
short_description: Set MIG mode and GPU instances of NVIDIA GPUs
description:
  - Enables or disables MIG mode, and creates GPU instances (each with its default compute instance) from a list of profiles.
  - Set MIG mode before VFs are enabled, and create GPU instances afterwards, because enabling VFs removes GPU instances. With O(layout)
    this module sets only the mode that the types need; M(vgpu.kvm.nvidia_vgpu) creates the GPU instances that its types need.
  - On GPUs of the Ampere generation, a change of the mode requires a reset, and the mode is kept across reboots. Later GPUs need no reset, but may
    lose the mode. C(vgpu-restore.service) therefore sets the mode at boot. A GPU in use by a process or a vGPU is never reset.
  - The whole request is validated before the first change, and the changes of C(nvidia-smi) are verified.
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
    description: Whether the GPUs of O(gpus) are in MIG mode. If omitted, the mode is unchanged.
    type: str
    choices: [enabled, disabled]
  instances:
    description:
      - GPU instances that each GPU of O(gpus) should have, by profile name (V(1g.5gb)) or number, one item for each instance. Matching instances
        stay. Others are destroyed, unless they have a vGPU. If omitted, all instances stay.
    type: list
    elements: str
  layout:
    description:
      - Instead of the options above, a layout as for M(vgpu.kvm.nvidia_vgpu). MIG mode is enabled on GPUs whose types have a number of slices
        (V(A100-1-5C)) or that have C(mig), and disabled on GPUs with other types. GPUs that the layout does not name, or for which
        it lists no vGPUs, are unchanged.
  cycle_vfs:
    description:
      - Whether enabled VFs are disabled to change the mode. Enable them again with M(vgpu.kvm.nvidia_sriov).
        With V(false), such a change is refused. A change is always refused while the GPU has a vGPU.
    type: bool
    default: false
  timeout:
    description: Timeout of each step in seconds.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Enable MIG mode first
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

- name: Set the mode of each GPU for a layout
  vgpu.kvm.nvidia_mig:
    layout:
      - gpu: A100
        vgpus: [{type: A100-1-5C, count: 7}]
    cycle_vfs: true
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, or would execute in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["0000:17:00.0: enable MIG mode"]
gpus:
  description: The selected GPUs after the run, in check mode as planned. The mode is whether MIG is enabled.
  returned: success
  type: list
  elements: dict
  sample: [{address: "0000:17:00.0", mode: true, instances: [1g.5gb, 1g.5gb, 3g.20gb]}]
unresponsive_gpus:
  description: The addresses of the selected GPUs that fell off the bus and that the module skipped.
  returned: with O(unresponsive_gpus=warn), if there are any
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
without_mig:
  description: GPUs without MIG, with the reason.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:e8:00.0", reason: A40 has no MIG}]
not_done:
  description: The steps that the module did not execute because an earlier step failed. RV(actions) then lists only the executed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.0: enable MIG mode"
errors:
  description:
    - The errors that made the module fail. C(msg) has the same errors as text. C(code) identifies the kind of an error for programs. C(device) is
      null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - The module does not return RV(errors) if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: mig_pending
      device: "0000:e8:00.0"
      found: >-
        the change of MIG mode to on is pending until a reset of the GPU
        (nvidia-smi printed: Resetting GPU 00000000:E8:00.0 is not supported.)
      expected:
      remedy: "Stop all users of the GPU and run again, or reboot: this GPU keeps the mode across a reboot."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.mig import main

if __name__ == "__main__":
    main()
