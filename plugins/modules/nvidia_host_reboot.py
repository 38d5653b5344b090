#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# Only the documentation: plugins/action has the code.

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_host_reboot
short_description: Reboot a vGPU host that is not in use
description:
  - Reads the users of the host's GPUs, vGPUs and VMs, and whether an installation or another run changes the host. If there are none, reboots the
    host like M(ansible.builtin.reboot) and waits until it is back.
  - Check and reboot are one task, because a host may have to wait for the reboots of others, and an earlier result would be outdated.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: linux
options:
  may_disturb:
    description: Devices, VMs and programs that may be interrupted, as in M(vgpu.kvm.nvidia_gpu_info).
    type: list
    elements: str
    default: []
  one_at_a_time:
    description:
      - Whether a host waits until the other hosts of this run are back, under any strategy.
      - C(throttle) does not limit tasks of included files under the strategies C(free) and C(host_pinned).
    type: bool
    default: true
  reboot_timeout:
    description: Seconds to wait for the host to come back.
    type: int
    default: 900
  msg:
    description: The message for users of the host before the reboot.
    type: str
    default: Rebooted by Ansible for NVIDIA vGPU (vgpu.kvm)
  read:
    description: Whether the module reads the host first. Set V(false) if another module has read it, such as M(vgpu.kvm.nvidia_guest_info) in a VM.
    type: bool
    default: true
  progress:
    description: The completed and open steps of the run, as sentences. They are added to the message of a failure.
    type: str
    default: ""
seealso:
  - module: ansible.builtin.reboot
  - module: vgpu.kvm.nvidia_gpu_info
"""

EXAMPLES = r"""
- name: Reboot the hosts one at a time
  vgpu.kvm.nvidia_host_reboot:
    reboot_timeout: 1800
  become: true

- name: Reboot, although a VM is running that may be interrupted
  vgpu.kvm.nvidia_host_reboot:
    may_disturb: [scratch]
  become: true
"""

RETURN = r"""
rebooted:
  description: Whether the reboot was started.
  returned: always
  type: bool
  sample: true
elapsed:
  description: Seconds until the host was back.
  returned: if the reboot was started
  type: int
  sample: 184
"""
