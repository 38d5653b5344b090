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
  - Verifies C(sriov_numvfs), each C(virtfn) link and each VF's driver, because the exit status of C(sriov-manage) is unreliable.
    A PF that was left without a driver or on C(pci-pf-stub) is bound to C(nvidia) again. A refused unbindLock is retried until O(timeout).
    Afterwards, the error names the processes that have the GPU open.
  - VFs are never disabled while the GPU has vGPUs, or while a VM uses a VF or the whole GPU.
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
    description: Whether the GPUs' VFs are enabled.
    type: str
    choices: [enabled, disabled]
    default: enabled
  num_vfs:
    description:
      - The number of VFs, at least 1. If omitted, all VFs of the GPU. C(sriov-manage) can only enable all VFs, so a smaller number is written to
        C(sriov_numvfs), which most releases of NVIDIA's driver refuse.
    type: int
  reset:
    description: Whether C(sriov-manage) resets the GPU before it enables VFs. If the VFs are already enabled, there is no reset.
    type: bool
    default: false
  method:
    description: The method of enabling VFs. V(auto) uses C(sriov-manage) if it is installed.
    type: str
    choices: [auto, sriov_manage, sysfs]
    default: auto
  timeout:
    description: Timeout of each GPU in seconds.
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
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["0000:e8:00.0: enable 32 VFs"]
gpus:
  description: The selected GPUs with their VFs, after the change.
  returned: success
  type: list
  elements: dict
  sample: [{address: "0000:e8:00.0", sriov_numvfs: 32, sriov_totalvfs: 32, vfs: ["0000:e8:00.4", "0000:e8:00.5"]}]
unresponsive_gpus:
  description: Addresses of the selected GPUs that fell off the bus and were skipped.
  returned: with O(unresponsive_gpus=warn), if there are any
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
without_types:
  description: GPUs whose VFs this run enabled, but that offer no vGPU types yet. Some releases of the driver require another run of C(nvidia-vgpud).
  returned: success
  type: list
  elements: str
  sample: []
without_sriov:
  description: GPUs without SR-IOV vGPU, with the reason.
  returned: success
  type: list
  elements: dict
  sample: [{gpu: "0000:3b:00.0", reason: "T4 has no SR-IOV vGPU: its vGPUs are created on the PF"}]
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.0: enable 32 VFs"
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: unbind_lock
      device: "0000:e8:00.0"
      found: the GPU's unbindLock was not granted for 20 s; it is open in pid 812 (/usr/bin/nv-hostengine -n)
      expected:
      remedy: Stop all users of the GPU on the host (DCGM, nvidia-persistenced, exporters, pollers of nvidia-smi), then run again.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.sriov import main

if __name__ == "__main__":
    main()
