#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

# This file contains only the module documentation. The code is in plugins/action.

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_host_reboot
short_description: Reboot a vGPU host that is not in use
description:
  - Checks whether a VM runs on the host, with or without a GPU, whether a program uses a GPU, and whether an installation or another run is
    changing the host. If the host is idle, the module reboots the host with M(ansible.builtin.reboot) and waits until the host is available again.
  - The module checks the host immediately before the reboot. A check in an earlier task could be outdated, because a host might wait while other
    hosts reboot.
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
    description: The VMs, programs, and devices that a reboot may interrupt, as in M(vgpu.kvm.nvidia_gpu_info).
    type: list
    elements: str
    default: []
  one_at_a_time:
    description:
      - Whether only one host in this run reboots at a time, regardless of the strategy.
      - Use this option instead of C(throttle), which does not limit tasks in included files with the C(free) and C(host_pinned) strategies.
    type: bool
    default: true
  reboot_timeout:
    description: The maximum time, in seconds, to wait for the host to become available after the reboot.
    type: int
    default: 900
  msg:
    description: The message that the host's users receive before the reboot.
    type: str
    default: Reboot by Ansible to configure NVIDIA vGPU (vgpu.kvm)
  read:
    description: Whether the module first checks whether the host is in use. Set to V(false) if another module has already checked the host, such as
      M(vgpu.kvm.nvidia_guest_info) in a VM.
    type: bool
    default: true
  progress:
    description: Sentences about the run's completed and remaining steps. The module appends these sentences to error messages.
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

- name: Reboot the host even if the VM named scratch is running
  vgpu.kvm.nvidia_host_reboot:
    may_disturb: [scratch]
  become: true
"""

RETURN = r"""
rebooted:
  description: Whether the module started the reboot.
  returned: always
  type: bool
  sample: true
elapsed:
  description: Seconds from the start of the reboot until the host was available again.
  returned: if the reboot was started
  type: int
  sample: 184
"""
