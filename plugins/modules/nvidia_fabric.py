#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_fabric
short_description: Run NVIDIA Fabric Manager in vGPU mode on a host with NVSwitches
description:
  - Sets C(FABRIC_MODE=2) in Fabric Manager's configuration file, enables and starts its service, and waits until it reports its partitions.
    No other line of the file is changed.
  - Does nothing on a host without NVSwitches, or if O(layout) has no whole-card vGPU, because MIG-backed vGPUs need no fabric.
  - Fabric Manager must be installed in exactly the driver's version, with its library C(libnvfm.so.1). Role C(fabric) installs both.
  - Fabric Manager is never restarted or stopped while a VM or a program uses a GPU.
  - M(vgpu.kvm.nvidia_vgpu) and M(vgpu.kvm.nvidia_vgpu_attach) activate the partitions. C(vgpu-restore.service) activates them at each boot.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.layout
options:
  state:
    description:
      - V(absent) restores the original C(FABRIC_MODE) from before this collection changed it. If the collection installed Fabric Manager, its service
        is stopped and disabled.
    type: str
    choices: [present, absent]
    default: present
  layout:
    description: The vGPUs, as for M(vgpu.kvm.nvidia_vgpu). If omitted, Fabric Manager is set up on every host with NVSwitches.
  packages:
    description: Packages that the caller installed for Fabric Manager. They are recorded, and returned with O(state=absent).
    type: list
    elements: str
    default: []
  timeout:
    description: Timeout in seconds for starting the service, and afterwards for Fabric Manager's first answer.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Run Fabric Manager in vGPU mode
  vgpu.kvm.nvidia_fabric:
  become: true
  register: fabric

- name: Show the active partitions
  ansible.builtin.debug:
    msg: "{{ fabric['fabric']['partitions'] | selectattr('active') | map(attribute='id') }}"
  when: fabric['fabric'] is not none
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample:
    - "/usr/share/nvidia/nvswitch/fabricmanager.cfg: set FABRIC_MODE=2 (0 until now)"
    - "nvidia-fabricmanager.service: restart the service"
fabric:
  description:
    - NVSwitches, Fabric Manager and its partitions, as C(host.fabric) of M(vgpu.kvm.nvidia_gpu_info).
    - Null on a host without NVSwitches, and if O(layout) needs no fabric.
  returned: success
  type: dict
  sample:
    switches: ["0000:07:00.0"]
    nvlsm: false
    manager: {package: nvidia-fabricmanager-550, version: 550.163.02, mode: "2", restart: false, active: active, enabled: enabled}
    partitions: [{id: 7, active: true, gpus: [1], vfs: ["0000:1b:00.4"]}]
    silence:
    failed: []
installs:
  description: In check mode, the version of Fabric Manager that must be installed first, or null. Empty if the driver's version is unknown.
  returned: success
  type: str
  sample: 550.163.02
packages:
  description: The recorded packages of O(packages).
  returned: success
  type: list
  elements: str
  sample: [nvidia-fabricmanager-550, nvidia-fabricmanager-dev-550]
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "nvidia-fabricmanager.service: restart the service"
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: fabric_service_failed
      device: nvidia-fabricmanager.service
      found: "systemctl ended with 1: Job for nvidia-fabricmanager.service failed."
      expected: to restart the service
      remedy: "'journalctl -u nvidia-fabricmanager' and /var/log/fabricmanager.log show why."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.fabric import main

if __name__ == "__main__":
    main()
