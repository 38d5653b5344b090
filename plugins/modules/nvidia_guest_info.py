#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_guest_info
short_description: Read the state of a VM's vGPU and driver
description:
  - Runs inside a VM and reads the NVIDIA devices, the driver state, and the vGPU data that the driver reports. The module never changes the VM.
  - The module reports problems, such as a missing vGPU, an unexpected vGPU type, an incompatible driver, missing kernel headers, a loaded nouveau
    driver, or a kernel module that Secure Boot would reject.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
options:
  vgpu_type:
    description:
      - The expected vGPU type, as named on the host, such as V(A40-24Q). The module reads the actual type from the running driver. If no driver is
        running, the module derives the type from the PCI IDs (Turing and later), and a mismatch causes only a warning.
    type: str
  host_version:
    description:
      - The driver version on the VM's host, such as V(550.163.02). If set, the module checks the guest driver against NVIDIA's rules, which allow the
        host driver's branch, the previous branch, and, since release 19, the previous long-term branch.
    type: str
  driver_version:
    description: The guest driver version to check. If omitted, the module checks the installed version.
    type: str
  builds:
    description: Whether a later step builds a kernel module, which requires the running kernel's headers.
    type: bool
    default: false
  signs:
    description: Whether a later step signs the kernel module with a key that the machine trusts, as Secure Boot requires.
    type: bool
    default: false
  health:
    description:
      - Whether RV(problems) includes errors from the VM's kernel log and the C(nvidia-gridd) journal. The module ignores log entries that are older
        than 24 hours or from an earlier boot. The module reports these errors as warnings, whose codes begin with V(log_).
    type: bool
    default: false
  timeout:
    description: The maximum time, in seconds, for each program that the module runs, such as C(modinfo) and C(nvidia-smi).
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Read the state of the vGPU
  vgpu.kvm.nvidia_guest_info:
    vgpu_type: A40-24Q
    host_version: 550.163.02
  become: true
  register: vm

- name: Fail if the VM has problems
  ansible.builtin.assert:
    that: vm['problems'] | length == 0
    fail_msg: "{{ vm['problems'] }}"
"""

RETURN = r"""
guest:
  description:
    - The VM's properties. M(vgpu.kvm.nvidia_gpu_info) describes the keys C(kernel), C(distribution), C(driver), C(secure_boot), and
      C(initramfs_tool).
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
    - The VM's NVIDIA GPUs, sorted by address. C(name), C(virtualization), C(passthrough), and C(framebuffer_mib) are null if the driver does not
      report these values. C(passthrough) is true if the VM has a whole GPU instead of a vGPU.
    - C(type) is the short vGPU type name, from the driver or, before a driver is installed, from the PCI IDs. C(type) is null for an unknown type and
      for a whole GPU.
    - For a GPU on an NVSwitch board, C(fabric) contains the module ID, and the NVLink fabric state and status. C(fabric) is null if the driver
      reports no fabric.
    - C(in_use_by) lists the programs, such as a desktop, that use the GPU through an NVIDIA or DRM device node. NVIDIA's own services are not listed.
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
    - The running programs that install packages, drivers, or boot files. A reboot would interrupt these programs. The list includes the program that holds
      this collection's lock.
  returned: success
  type: list
  elements: str
  sample: ["pid 812 (apt-get --yes upgrade) holds /var/lib/dpkg/lock-frontend"]
reboot_required:
  description: Whether a reboot is required because the driver on disk differs from the loaded driver or the vGPU is bound to nouveau.
  returned: success
  type: bool
  sample: false
problems:
  description: The VM's problems, each with a remedy.
  returned: success
  type: list
  elements: dict
  sample:
    - code: no_vgpu
      device: PCI bus
      found: this VM has no NVIDIA GPU and therefore no vGPU
      expected: a vGPU, which is a display device of PCI vendor 10de
      remedy: "Attach a vGPU to the VM on the host, then start the VM again. To check for the vGPU, run 'lspci -d 10de:' in the VM."
      severity: error
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
      device: /etc/nvidia/gridd.conf
      found: "the file cannot be read: Is a directory"
      expected:
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.guest_info import main

if __name__ == "__main__":
    main()
