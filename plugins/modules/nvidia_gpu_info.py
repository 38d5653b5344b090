#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_gpu_info
short_description: Read a host's NVIDIA GPUs and vGPUs
description:
  - Reads GPUs, drivers, IOMMU, VFs, vGPU types, vGPUs and who uses them from the kernel's own files, and recognizes
    the failures that operators of NVIDIA vGPU meet.
  - Changes nothing. Runs C(nvidia-smi) only for what sysfs does not show - for GPUs that can be partitioned by MIG, and for type names on
    hosts with the vendor-specific VFIO framework.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
options:
  iommu_flags:
    description:
      - Expected flags of the kernel command line, for example V(intel_iommu=on) and V(iommu=pt).
        Those that are missing are reported in RV(host), RV(problems) and RV(reboot_reasons).
    type: list
    elements: str
    default: []
  may_disturb:
    description:
      - What a reboot may interrupt although it is in use. Addresses of GPUs and VFs in any spelling, UUIDs of vGPUs, names of VMs and of programs.
        The option only determines what RV(in_the_way) omits.
    type: list
    elements: str
    default: []
  health:
    description:
      - Whether RV(problems) also includes drift from the stored state - vGPUs and VFs that are stored for this host and missing, services that do
        not run or would not start at the next boot, VMs that need a vGPU that is missing or that another VM has - and what the logs show.
      - Read are the journals of NVIDIA's and libvirt's services, the kernel log, the QEMU logs of VMs with vGPUs, and the log of NVIDIA's installer, as
        far as they are of this boot and the last 24 hours. What they show may be repaired since, so it is a warning. Its code begins with
        V(log_); V(log_unknown) shows lines that report an error and that this collection does not know.
    type: bool
    default: false
  detail:
    description:
      - How much of the GPUs is listed. V(all) lists VFs, types and vGPUs; V(vgpus) lists vGPUs, and neither VFs nor types; V(counts) none of them, and of
        RV(in_use), RV(in_the_way) and RV(libvirt_domains) the first 10.
      - What is left out is counted (C(vfs_there), C(vfs_used), C(vgpu_counts), RV(in_use_count)). A fleet's controller holds the result of
        each host, which with V(counts) does not grow with the number of VFs, vGPUs and VMs.
    type: str
    choices: [all, vgpus, counts]
    default: all
  most_problems:
    description: How many problems of one code RV(problems) holds, 0 for all; RV(problems_left_out) has the number of others.
    type: int
    default: 0
  timeout:
    description: Timeout in seconds for the programs that are run (C(modinfo)).
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Read the GPUs
  vgpu.kvm.nvidia_gpu_info:
    iommu_flags: [intel_iommu=on, iommu=pt]
  register: info
  become: true

- name: Fail with the remedies if vGPUs can't work
  ansible.builtin.assert:
    that: info['problems'] | selectattr('severity', 'equalto', 'error') | length == 0
    fail_msg: "{{ info['problems'] | map(attribute='remedy') | join(' ') }}"
"""

RETURN = r"""
host:
  description:
    - The host apart from its GPUs.
  returned: success
  type: dict
  contains:
    distribution:
      description: The distribution from os-release(5). The family is V(debian), V(redhat) or V(other).
      type: dict
      returned: success
      sample: {id: debian, version: "12", name: Debian GNU/Linux 12 (bookworm), family: debian}
    kernel: {description: Release of the running kernel., type: str, returned: success, sample: 6.1.0-50-amd64}
    cpu_vendor: {description: The CPU's vendor ID., type: str, returned: success, sample: GenuineIntel}
    cmdline: {description: Flags of the running kernel., type: list, elements: str, returned: success, sample: [intel_iommu=on, iommu=pt]}
    iommu:
      description:
        - Whether the kernel drives an IOMMU, its units, which of O(iommu_flags) are not in force, and the flags that this host needs by default.
        - The kind is V(intel) or V(amd) after the firmware's tables (DMAR, IVRS); null if the firmware lists none.
      type: dict
      returned: success
      sample: {active: true, kind: intel, units: [dmar0], default_flags: [intel_iommu=on, iommu=pt], missing_flags: []}
    secure_boot: {description: Whether Secure Boot is on and shim validates; null without UEFI., type: bool, returned: success, sample: false}
    enrolled_certificates:
      description:
        - Fingerprints (SHA-256 of the DER form) of the certificates that firmware and shim trust, where Secure Boot is on.
      type: list
      elements: str
      returned: success
      sample: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]
    bootloader:
      description: "What started this system: grub, systemd-boot, refind, zfsbootmenu, ostree or unknown."
      type: str
      returned: success
      sample: grub
    initramfs_tool: {description: "update-initramfs, dracut or none.", type: str, returned: success, sample: update-initramfs}
    initramfs_command:
      description: The command that rebuilds the initramfs of all kernels; empty without a tool.
      type: list
      elements: str
      returned: success
      sample: [update-initramfs, -u, -k, all]
    driver:
      description: >-
        NVIDIA's driver, loaded and on disk. C(flavour) is vgpu (the host driver), guest (the driver of VMs), datacenter (neither) or none.
        The scheduler of time-sliced vGPUs is best_effort, equal_share, fixed_share or other; null if the driver does not report it.
        on_disk is null while an installation by M(vgpu.kvm.nvidia_driver) runs or after it was interrupted, as any of its files may be damaged.
      type: dict
      returned: success
      sample: {loaded: 550.163.02, on_disk: 550.163.02, flavour: vgpu, nouveau_loaded: false, scheduler: equal_share}
    next_kernel:
      description:
        - The kernel that the next boot starts, with its flags and the version of its module C(nvidia), null if it has none. The release is null where
          GRUB's default is not the usual one (the newest kernel, or the saved entry on Red Hat's family), the flags are null if they are unknown.
      type: dict
      returned: success
      sample: {release: 6.1.0-51-amd64, driver: 550.163.02, cmdline: [quiet, intel_iommu=on, iommu=pt]}
    services:
      description:
        - The services that vGPUs depend on, as systemd reports them. C(nvidia-vgpud) is a one-shot, V(inactive) with result V(success)
          is its healthy state; started is whether it was started since the boot.
        - Empty where systemd does not run.
      type: dict
      returned: success
      sample:
        nvidia-vgpud: {load: loaded, active: inactive, result: success, enabled: enabled, started: true}
        nvidia-vgpu-mgr: {load: loaded, active: active, result: success, enabled: enabled, started: true}
        vgpu-restore: {load: loaded, active: active, result: success, enabled: enabled, started: true}
    fabric:
      description:
        - The NVLink fabric of a host with NVSwitches; null on other hosts. C(nvlsm) is whether the NVSwitches are behind a network adapter, so that
          Fabric Manager needs C(nvlsm).
        - C(manager) is Fabric Manager, with the mode from its configuration file, V(2) for vGPU, and the state of its service.
        - C(partitions) is null if Fabric Manager does not report them; C(silence) is why. C(gpus) are module ids, C(vfs) the VFs for which this
          collection activated a partition. C(failed) lists devices with failed NVLinks.
      type: dict
      returned: success
      sample:
gpus:
  description:
    - The GPUs, in order of address. The framework is mdev, vendor_vfio, or none; types_ready is whether the driver lists vGPU types on its
      VFs (or PF). A vGPU on vendor_vfio has no uuid, and the key vgpu of its VF shows its type.
    - host_vgpu_mode is what C(nvidia-smi -q) has as Host VGPU Mode, SR-IOV or Non SR-IOV. With O(health) it is read of GPUs on which sysfs shows no vGPU
      types yet; otherwise it is null. If it differs from what sysfs shows, the problems have the code C(vgpu_mode).
    - The key fabric is null on a host without NVSwitches. Otherwise it has the GPU's module id, by which Fabric Manager names it, and the state and
      status of its fabric as C(nvidia-smi -q) shows them.
    - The key mig is null if the driver reports nothing about it; otherwise it has the modes current and pending (null on a GPU without MIG),
      the names of the profiles, and the GPU instances. A vGPU's GPU instance is known on VFs, and for mediated devices in use.
    - C(vfs_there) are the VFs that are on, C(vfs_used) those of them with a vGPU, C(vgpu_counts) vGPUs by type. The lists C(vfs), C(types) and C(vgpus)
      are present as O(detail) selects.
  returned: success
  type: list
  elements: dict
  sample:
    - address: "0000:e8:00.0"
      device_id: "0x2235"
      subsystem_id: "0x145a"
      model: A40
      name: NVIDIA A40
      framebuffer_mib: 49152
      architecture: Ampere
      supported: true
      alive: true
      uuid: GPU-2a9d5bc8-8dc1-5d6e-b9a0-5f2d8e1c0e8f
      driver: nvidia
      driver_override:
      iommu_group: "31"
      iommu_type: identity
      sriov_totalvfs: 32
      sriov_numvfs: 32
      vfs_there: 32
      vfs_used: 1
      framework: mdev
      types_ready: true
      host_vgpu_mode:
      fabric:
      mig:
      mig_slices: 0
      vgpu_counts: [{type: A40-24A, vgpus: 1, in_use: 0}]
      vfs: [{address: "0000:e8:00.4", index: 0, driver: nvidia, iommu_group: "40", vgpu: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1}]
      types: [{id: "575", name: NVIDIA A40-24A, short: A40-24A, framebuffer_mib: 24576, max_instances: 2}]
      vgpus:
        - uuid: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1
          type: A40-24A
          type_id: "575"
          parent: "0000:e8:00.4"
          vf_index: 0
          params: ""
          gpu_instance:
          in_use_by: []
          framebuffer_mib: 24576
      in_use_by: []
boot_causes:
  description: Lines of configuration files that bind a GPU to vfio-pci at the next boot.
  returned: success
  type: list
  elements: dict
  sample: [{path: /etc/modprobe.d/vfio.conf, line: "options vfio-pci ids=10de:2235", what: "vfio-pci takes 10de:2235"}]
in_use:
  description:
    - VMs, users of vGPUs or whole GPUs, and programs that use a GPU on the host (such as CUDA), which a reboot or a removal would disrupt,
      with the devices that each has (addresses, and UUIDs of mediated devices). NVIDIA's own services are left out.
    - A process whose open files can't be read counts as a user, and its C(command) shows that.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, command: qemu-system-x86, vm: web1, devices: ["0000:e8:00.4"]}]
in_use_count:
  description: The number of users, including those that RV(in_use) omits.
  returned: success
  type: int
  sample: 1
in_the_way:
  description: Those of RV(in_use) that O(may_disturb) does not cover, by the VM's or the program's name or by all devices that the process has.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, command: qemu-system-x86, vm: web1, devices: ["0000:e8:00.4"]}]
in_the_way_count:
  description: The number of users, including those that RV(in_the_way) omits.
  returned: success
  type: int
  sample: 1
busy:
  description:
    - Programs whose work a reboot would interrupt, which install packages, drivers or boot files, and the holder of this collection's lock.
  returned: success
  type: list
  elements: str
  sample: ["pid 812 (apt-get --yes upgrade) holds /var/lib/dpkg/lock-frontend"]
libvirt_domains:
  description:
    - libvirt's VMs that have devices of the host, also those that do not run, from libvirt's own files.
    - A VM also has the devices of its managed save and of its snapshots with memory, and those on its QEMU command line.
  returned: success
  type: list
  elements: dict
  sample: [{name: web1, running: false, devices: [{device: "0000:e8:00.4", managed: false}]}]
libvirt_domains_count:
  description: The number of VMs, including those that RV(libvirt_domains) omits.
  returned: success
  type: int
  sample: 1
reboot_required:
  description: Whether the host must reboot before vGPUs can work.
  returned: success
  type: bool
  sample: false
reboot_reasons:
  description: Why.
  returned: success
  type: list
  elements: str
  sample: ["the kernel runs without intel_iommu=on iommu=pt"]
problems:
  description:
    - What is wrong, each with its remedy. The severity is error or warning.
    - Where the device is a GPU, one of its VFs or of its vGPUs, C(gpu) is the GPU's address.
    - C(follows) is the code of the root cause, where the problem follows from another one. Root causes come first.
  returned: success
  type: list
  elements: dict
  sample:
    - code: vfs_off
      device: "0000:e8:00.0"
      found: its VFs are off (sriov_numvfs is 0)
      expected: 32 VFs
      remedy: Enable them (role sriov or module nvidia_sriov).
      severity: error
      gpu: "0000:e8:00.0"
problems_left_out:
  description: By code, the number of problems that RV(problems) omits because of O(most_problems).
  returned: success
  type: dict
  sample: {}
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
      device: /etc/modprobe.d/local.conf
      found: "it can't be read: Is a directory"
      expected:
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.gpu_info import main

if __name__ == "__main__":
    main()
