#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_restore
short_description: Install the service that restores vGPUs at boot
description:
  - VFs and vGPUs do not survive a reboot, nor do GPU instances of MIG, mixed-size mode and, on some GPUs, MIG mode. This module installs
    the command C(vgpuctl) (C(status), C(doctor), C(metrics), C(restore)), which is the collection's engine as one file, and the unit
    C(vgpu-restore.service). The unit restores the layout that M(vgpu.kvm.nvidia_vgpu) stored, after NVIDIA's vGPU services, and before libvirt, cloud
    agents and services that keep all GPUs open (DCGM, C(nvidia-persistenced), exporters).
  - Each GPU gets its vGPUs as soon as it is ready. For a GPU in use, the unit retries for 11 minutes. Then the unit fails, and its journal
    names the missing vGPUs. All others stay.
  - The command requires Python 3.8 or newer and no other file. It uses C(/usr/bin/python3) if that is 3.8 or newer, else the Python that runs the
    module, or the first one in C(/usr/bin) after an upgrade of the distribution. The command is replaced atomically.
  - The module only writes files. Enable the unit with M(ansible.builtin.systemd_service).
  - A host of an earlier release has the command C(nvidia-vgpu), the unit C(nvidia-vgpu-restore.service), C(/etc/nvidia-vgpu) and
    C(/var/lib/nvidia-vgpu). The module renames them, and enables the new unit if the old one was enabled. If it is interrupted, the next boot
    still restores the vGPUs, and the next run continues.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description: Whether the files exist. V(absent) also disables the unit and removes the layout that is stored for the boot.
    type: str
    choices: [present, absent]
    default: present
  before:
    description: More units that must start after the vGPUs are restored, such as a cloud's agent. libvirt, nova and kubelet are included.
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
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/usr/local/sbin/vgpuctl: write it"]
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "/etc/systemd/system/vgpu-restore.service: write it"
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: error
      device: /etc/systemd/system/vgpu-restore.service
      found: "the file can't be written: No space left on device"
      expected:
      remedy: The old file is unchanged. Free disk space or repair the file system, then run again.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu_restore import main

if __name__ == "__main__":
    main()
