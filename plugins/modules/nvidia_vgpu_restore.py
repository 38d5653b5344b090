#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_restore
short_description: Install the service that restores vGPUs at boot
description:
  - Installs the C(vgpuctl) command and the C(vgpu-restore.service) unit, because VFs, vGPUs, MIG GPU instances, mixed-size mode, and, on some GPUs,
    MIG mode do not survive a reboot. The command contains the collection's engine in one file and has subcommands such as C(status), C(doctor),
    C(metrics), and C(restore).
  - At boot, the unit restores the layout that M(vgpu.kvm.nvidia_vgpu) stored. The unit runs after NVIDIA's vGPU services and before libvirt, cloud
    agents, and services that use all GPUs permanently (DCGM, C(nvidia-persistenced), exporters).
  - The unit creates the vGPUs of each GPU as soon as the GPU is ready. If a GPU is in use, the unit retries for 11 minutes, then fails and lists the
    missing vGPUs in the journal. The unit keeps all other vGPUs.
  - The command requires only Python 3.8 or later. The command uses C(/usr/bin/python3) if its version is sufficient. Otherwise, the command uses the
    interpreter that runs the module or, after a distribution upgrade, the first suitable interpreter in C(/usr/bin). The module replaces the command
    atomically.
  - The module only writes files. Enable the unit with M(ansible.builtin.systemd_service).
  - Earlier releases installed the C(nvidia-vgpu) command, the C(nvidia-vgpu-restore.service) unit, C(/etc/nvidia-vgpu), and C(/var/lib/nvidia-vgpu).
    The module renames these files, and enables the new unit if the old unit was enabled. If a run is interrupted, the next boot still restores the
    vGPUs, and the next run completes the renaming.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description: Whether the command and the unit must exist. V(absent) disables the unit, and removes the unit, the command, and the stored layout.
    type: str
    choices: [present, absent]
    default: present
  before:
    description: Additional units that must start after the restore, such as a cloud agent. The list always includes the units of libvirt, nova, and
      kubelet.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Install the restore unit
  vgpu.kvm.nvidia_vgpu_restore:
    before: [my-agent.service]
  become: true

- name: Enable the restore unit
  ansible.builtin.systemd_service:
    name: vgpu-restore.service
    enabled: true
    daemon_reload: true
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/usr/local/sbin/vgpuctl: write the file"]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "/etc/systemd/system/vgpu-restore.service: write the file"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: error
      device: /etc/systemd/system/vgpu-restore.service
      found: "the file cannot be written: No space left on device"
      expected:
      remedy: The old file is unchanged. Free disk space or repair the file system, then rerun.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu_restore import main

if __name__ == "__main__":
    main()
