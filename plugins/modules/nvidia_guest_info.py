#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_guest_info
short_description: Read the vGPU of a VM and its driver
description:
  - Reads, in the VM, its NVIDIA devices, the driver, and what the driver reports about the vGPU, and reports problems - no vGPU, another type than
    expected, a driver that does not match the host's, missing headers, nouveau, Secure Boot. Changes nothing.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
options:
  vgpu_type:
    description:
      - The type that the VM should have, as on the host, such as V(A40-24Q). The running driver names the VM's type. Before a driver is running, the
        type comes from the PCI ids (for Turing and later), and a difference is a warning.
    type: str
  host_version:
    description:
      - Version of the driver on the VM's host, such as V(550.163.02). If set, the module checks the guest driver against NVIDIA's rules. These
        allow the host's branch, the previous branch, and since release 19 also the previous long-term branch.
    type: str
  driver_version:
    description: Version of the guest driver to check. If omitted, the installed version.
    type: str
  builds:
    description: Whether a kernel module will be built, which needs the headers of the running kernel.
    type: bool
    default: false
  signs:
    description: Whether the kernel module is signed with a key that the machine trusts, which Secure Boot requires.
    type: bool
    default: false
  health:
    description:
      - Whether RV(problems) also includes what the VM's kernel log and the journal of C(nvidia-gridd) show, of this boot and the last 24 hours.
        These findings are warnings, with codes that begin with V(log_).
    type: bool
    default: false
  timeout:
    description: Timeout in seconds for the programs that are run (C(modinfo), C(nvidia-smi)).
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Read the vGPU
  vgpu.kvm.nvidia_guest_info:
    vgpu_type: A40-24Q
    host_version: 550.163.02
  become: true
  register: vm

- name: Fail if there are problems
  ansible.builtin.assert:
    that: vm['problems'] | length == 0
    fail_msg: "{{ vm['problems'] }}"
"""

RETURN = r"""
guest:
  description:
    - Properties of the VM. Kernel, distribution, driver, Secure Boot and initramfs_tool are those of M(vgpu.kvm.nvidia_gpu_info).
    - C(driver.flavour) is V(guest) if NVIDIA's guest driver is installed.
  returned: success
  type: dict
  sample:
    distribution: {id: debian, version: "12", name: Debian GNU/Linux 12 (bookworm), family: debian}
    kernel: 6.1.0-50-amd64
    headers: true
    secure_boot:
    initramfs_tool: update-initramfs
    driver: {loaded: 550.163.01, on_disk: 550.163.01, flavour: guest, nouveau_loaded: false, scheduler: null}
gpus:
  description:
    - The VM's NVIDIA GPUs in order of address. C(name), C(virtualization), C(passthrough) and C(framebuffer_mib) are null if the driver does not
      report them. C(passthrough) is true for a whole GPU that the VM has instead of a vGPU.
    - C(type) is the short name of the vGPU's type, from the driver or, before a driver is installed, from the PCI ids. It is null if
      unknown, and for a whole GPU.
    - C(fabric) has the module id of a GPU on an NVSwitch board, and the state and status of its NVLink fabric. It is null if the driver shows none.
    - C(in_use_by) has the programs that use the GPU through a device node of NVIDIA's or of DRM (a desktop). NVIDIA's own services are not listed.
  returned: success
  type: list
  elements: dict
  sample:
    - address: "0000:02:00.0"
      device_id: "0x2235"
      subsystem_id: "0x14df"
      driver: nvidia
      name: NVIDIA A40-24Q
      type: A40-24Q
      virtualization: VGPU
      passthrough: false
      framebuffer_mib: 24576
      fabric:
      in_use_by: []
busy:
  description:
    - Programs whose work a reboot would interrupt, which install packages, drivers or boot files, and the holder of this collection's lock.
  returned: success
  type: list
  elements: str
  sample: ["pid 812 (apt-get --yes upgrade) holds /var/lib/dpkg/lock-frontend"]
reboot_required:
  description: Whether the driver on disk differs from the loaded one, or the vGPU is bound to nouveau.
  returned: success
  type: bool
  sample: false
problems:
  description: The problems, each with its remedy.
  returned: success
  type: list
  elements: dict
  sample:
    - code: no_vgpu
      device: PCI bus
      found: this VM has no NVIDIA GPU and therefore no vGPU
      expected: a vGPU (a display function of vendor 10de)
      remedy: Attach a vGPU to the VM on its host, then start the VM again. 'lspci -d 10de:' shows the vGPU.
      severity: error
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
      device: /etc/nvidia/gridd.conf
      found: "it can't be read: Is a directory"
      expected:
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.guest_info import main

if __name__ == "__main__":
    main()
