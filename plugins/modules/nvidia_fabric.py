#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_fabric
short_description: Run NVIDIA Fabric Manager in vGPU mode on a host with NVSwitches
description:
  - Sets C(FABRIC_MODE=2) in Fabric Manager's configuration file, enables and starts the service, and waits until Fabric Manager reports its
    partitions. The module changes no other lines in the file.
  - The module changes nothing if the host has no NVSwitches, or if O(layout) has no whole-card vGPUs. MIG-backed vGPUs do not use the NVLink fabric.
  - Fabric Manager must have exactly the same version as the driver. The module communicates with Fabric Manager through the C(libnvfm.so.1) library.
    The C(fabric) role installs Fabric Manager and this library.
  - The module never restarts or stops Fabric Manager while a VM or a program uses a GPU.
  - M(vgpu.kvm.nvidia_vgpu) and M(vgpu.kvm.nvidia_vgpu_attach) activate the partitions, and C(vgpu-restore.service) activates the partitions again at
    each boot.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.layout
options:
  state:
    description:
      - V(present) configures and starts Fabric Manager.
      - V(absent) restores the original value of C(FABRIC_MODE). If the collection installed Fabric Manager, the module stops and disables the
        service.
    type: str
    choices: [present, absent]
    default: present
  layout:
    description: The desired vGPUs, as in M(vgpu.kvm.nvidia_vgpu). If omitted, the module sets up Fabric Manager if the host has NVSwitches.
  packages:
    description: The packages that the caller installed for Fabric Manager. The module records these packages. With O(state=absent), RV(packages)
      lists the packages that the caller must remove.
    type: list
    elements: str
    default: []
  timeout:
    description: The maximum time, in seconds, to wait for the service to start. The same limit applies to Fabric Manager's first response.
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
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample:
    - "/usr/share/nvidia/nvswitch/fabricmanager.cfg: set FABRIC_MODE=2 (previously 0)"
    - "nvidia-fabricmanager.service: restart the service"
fabric:
  description:
    - The NVSwitches, Fabric Manager, and its partitions, in the format of C(host.fabric) from M(vgpu.kvm.nvidia_gpu_info).
    - Null if the host has no NVSwitches, or if O(layout) has no whole-card vGPUs.
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
  description: In check mode, the version of Fabric Manager that must be installed before this module runs. Null if no installation is needed. An
    empty string if the driver version is unknown.
  returned: success
  type: str
  sample: 550.163.02
packages:
  description: The packages that the module recorded from O(packages).
  returned: success
  type: list
  elements: str
  sample: [nvidia-fabricmanager-550, nvidia-fabricmanager-dev-550]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "nvidia-fabricmanager.service: restart the service"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: fabric_service_failed
      device: nvidia-fabricmanager.service
      found: "systemctl exited with status 1: Job for nvidia-fabricmanager.service failed."
      expected: to restart the service
      remedy: "Find the cause in 'journalctl -u nvidia-fabricmanager' and /var/log/fabricmanager.log, fix the cause, then rerun."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.fabric import main

if __name__ == "__main__":
    main()
