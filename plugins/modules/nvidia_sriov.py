#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_sriov
short_description: Enable or disable the virtual functions of NVIDIA GPUs
description:
  - Enables or disables VFs through NVIDIA's C(sriov-manage) or, if the driver allows it, through C(sriov_numvfs).
  - The module verifies C(sriov_numvfs), each C(virtfn) symbolic link, and each VF's driver, because the exit status of C(sriov-manage) is unreliable.
  - If C(sriov-manage) leaves a PF without a driver or bound to C(pci-pf-stub), the module rebinds the PF to C(nvidia).
  - If the driver does not grant a GPU's unbindLock, the module retries for O(timeout) seconds, then fails and lists the processes that use the GPU.
  - The module never disables VFs while the GPU has vGPUs, or while a VM uses a VF or the whole GPU.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.check_mode_assume
  - vgpu.kvm.common.unresponsive
options:
  state:
    description: Whether the VFs of the selected GPUs must be enabled or disabled.
    type: str
    choices: [enabled, disabled]
    default: enabled
  num_vfs:
    description:
      - The number of VFs for each GPU, at least 1. If omitted, the module enables all VFs.
      - C(sriov-manage) always enables all VFs. To enable fewer VFs, the module writes the number to C(sriov_numvfs), but most NVIDIA driver releases
        reject such a write.
    type: int
  reset:
    description: Whether C(sriov-manage) resets a GPU before enabling VFs. A GPU that already has the requested VFs is not reset.
    type: bool
    default: false
  method:
    description: The interface for enabling VFs. V(auto) selects C(sriov-manage) if it is installed and all VFs are requested, and C(sriov_numvfs)
      otherwise.
    type: str
    choices: [auto, sriov_manage, sysfs]
    default: auto
  timeout:
    description: The maximum time, in seconds, to wait for the VFs of each GPU.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Enable the VFs of all GPUs
  vgpu.kvm.nvidia_sriov:
  become: true

- name: Disable the VFs of one GPU
  vgpu.kvm.nvidia_sriov:
    gpus: ["0000:67:00.0"]
    state: disabled
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["0000:e8:00.0: enable 32 VFs"]
gpus:
  description: The selected GPUs and their VFs after the run.
  returned: success
  type: list
  elements: dict
  sample: [{address: "0000:e8:00.0", sriov_numvfs: 32, sriov_totalvfs: 32, vfs: ["0000:e8:00.4", "0000:e8:00.5"]}]
unresponsive_gpus:
  description: The addresses of selected GPUs that fell off the bus and were skipped.
  returned: with O(unresponsive_gpus=warn), if any GPU is unresponsive
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
without_types:
  description: The GPUs whose VFs this run enabled but that offer no vGPU types yet. With some driver releases, C(nvidia-vgpud) must run again before
    these GPUs offer types.
  returned: success
  type: list
  elements: str
  sample: []
without_sriov:
  description: The GPUs that do not support SR-IOV vGPU, with the reasons.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:3b:00.0", reason: "T4 does not use SR-IOV for vGPUs, so vGPUs are created on the PF"}]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.0: enable 32 VFs"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: unbind_lock
      device: "0000:e8:00.0"
      found: the GPU's unbindLock was not granted for 20 s, because the GPU was in use by pid 812 (/usr/bin/nv-hostengine -n)
      expected:
      remedy: Stop all users of the GPU on the host (DCGM, nvidia-persistenced, exporters, and programs that poll nvidia-smi). Then rerun.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.sriov import main

if __name__ == "__main__":
    main()
