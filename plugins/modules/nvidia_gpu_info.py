#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_gpu_info
short_description: Read a host's NVIDIA GPUs and vGPUs
description:
  - Reads the state of GPUs, drivers, the IOMMU, VFs, and vGPUs from the kernel, and detects common NVIDIA vGPU problems.
  - The module never changes the host. The module runs C(nvidia-smi) only for data that sysfs does not provide, such as MIG data, or type names on
    hosts with the vendor-specific VFIO framework.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
options:
  iommu_flags:
    description:
      - The expected kernel command line flags, such as V(intel_iommu=on) and V(iommu=pt). The module reports missing flags in RV(host), RV(problems),
        and RV(reboot_reasons).
    type: list
    elements: str
    default: []
  may_disturb:
    description:
      - The VMs, programs, and devices that a reboot is allowed to interrupt. List VM names, program names, vGPU UUIDs, or GPU and VF addresses in any
        format. RV(in_the_way) lists all other users.
    type: list
    elements: str
    default: []
  health:
    description:
      - Whether the module runs additional checks. These checks find errors in logs, missing vGPUs and VFs of the stored layout, services that are not
        running or will not start at the next boot, and VMs whose vGPU is missing or attached to another VM.
      - The module reads the NVIDIA and libvirt journals, the kernel log, the QEMU logs of VMs with vGPUs, and the log of NVIDIA's installer. The
        module ignores entries older than 24 hours, and journal and kernel log entries from earlier boots. The module reports errors from logs as
        warnings, because their causes might already be fixed. The codes of these warnings begin with V(log_). Warnings with the code V(log_unknown)
        contain error lines that the collection cannot explain.
    type: bool
    default: false
  detail:
    description:
      - The amount of returned data. V(all) lists VFs, types, and vGPUs. V(vgpus) lists only vGPUs. V(counts) omits these lists and returns only the
        first 10 items of RV(in_use), RV(in_the_way), and RV(libvirt_domains).
      - With each value, the result includes the numbers of VFs, vGPUs, and users (C(vfs_there), C(vfs_used), C(vgpu_counts), RV(in_use_count)).
      - Use V(counts) for a large fleet, because the controller keeps the results of all hosts in memory. With V(counts), the size of the result does
        not depend on the numbers of VFs, vGPUs, and VMs.
    type: str
    choices: [all, vgpus, counts]
    default: all
  most_problems:
    description: The maximum number of problems with the same code in RV(problems). V(0) means no limit. RV(problems_left_out) counts the omitted
      problems.
    type: int
    default: 0
  timeout:
    description: The maximum time, in seconds, for each program that the module runs, such as C(modinfo).
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Read the state of the GPUs
  vgpu.kvm.nvidia_gpu_info:
    iommu_flags: [intel_iommu=on, iommu=pt]
  register: info
  become: true

- name: Fail and show the remedies if the host has errors
  ansible.builtin.assert:
    that: info['problems'] | selectattr('severity', 'equalto', 'error') | length == 0
    fail_msg: "{{ info['problems'] | map(attribute='remedy') | join(' ') }}"
"""

RETURN = r"""
host:
  description:
    - The properties of the host, except its GPUs.
  returned: success
  type: dict
  contains:
    distribution:
      description: The distribution according to os-release(5). C(family) is V(debian), V(redhat), or V(other).
      type: dict
      returned: success
      sample: {id: debian, version: "12", name: Debian GNU/Linux 12 (bookworm), family: debian}
    kernel: {description: The running kernel's release., type: str, returned: success, sample: 6.1.0-50-amd64}
    cpu_vendor: {description: The CPU's vendor ID., type: str, returned: success, sample: GenuineIntel}
    cmdline: {description: The running kernel's flags., type: list, elements: str, returned: success, sample: [intel_iommu=on, iommu=pt]}
    iommu:
      description:
        - The host's IOMMU. C(active) indicates whether the kernel uses the IOMMU, and C(units) lists the IOMMU units. C(missing_flags) lists the
          flags from O(iommu_flags) that are not active. C(default_flags) lists the flags that this collection sets by default on this host.
        - C(kind) is V(intel) if the firmware provides a DMAR table, V(amd) if the firmware provides an IVRS table, and null otherwise.
      type: dict
      returned: success
      sample: {active: true, kind: intel, units: [dmar0], default_flags: [intel_iommu=on, iommu=pt], missing_flags: []}
    secure_boot:
      description: Whether Secure Boot is enabled and shim validates signatures. Null on a host without UEFI.
      type: bool
      returned: success
      sample: false
    enrolled_certificates:
      description:
        - If Secure Boot is enabled, the SHA-256 fingerprints of the DER certificates that the firmware and shim trust.
      type: list
      elements: str
      returned: success
      sample: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]
    bootloader:
      description: The boot loader that started the host, which is V(grub), V(systemd-boot), V(refind), V(zfsbootmenu), V(ostree), or V(unknown).
      type: str
      returned: success
      sample: grub
    initramfs_tool:
      description: The tool that builds the initramfs, which is V(update-initramfs), V(dracut), or V(none).
      type: str
      returned: success
      sample: update-initramfs
    initramfs_command:
      description: The command that rebuilds the initramfs for all kernels. The list is empty if the host has no initramfs tool.
      type: list
      elements: str
      returned: success
      sample: [update-initramfs, -u, -k, all]
    driver:
      description: >-
        The loaded version of NVIDIA's driver and the version on disk. C(flavour) is V(vgpu) (the host driver), V(guest) (the driver for VMs),
        V(datacenter) (a driver without vGPU support), or V(none). C(scheduler) is the scheduler for time-sliced vGPUs, which is V(best_effort),
        V(equal_share), V(fixed_share), V(other), or null if the driver does not report a scheduler. C(on_disk) is null during an installation by
        M(vgpu.kvm.nvidia_driver) and after an interrupted installation, because the driver's files might be incomplete.
      type: dict
      returned: success
      sample: {loaded: 550.163.02, on_disk: 550.163.02, flavour: vgpu, nouveau_loaded: false, scheduler: equal_share}
    next_kernel:
      description:
        - The kernel for the next boot. C(release) is the kernel's release, or null if the module cannot determine the boot entry. The module can
          determine systemd-boot's default entry and GRUB's common defaults, which are the newest kernel or, on the Red Hat family, the saved entry.
        - C(driver) is the version of this kernel's C(nvidia) module, or null if the kernel has no such module. C(cmdline) lists the kernel flags, or
          is null if the flags are unknown.
      type: dict
      returned: success
      sample: {release: 6.1.0-51-amd64, driver: 550.163.02, cmdline: [quiet, intel_iommu=on, iommu=pt]}
    services:
      description:
        - The states of the services that vGPUs require, as systemd reports them. C(started) indicates whether systemd has started the service since
          boot. C(nvidia-vgpud) is a one-shot service whose healthy state is V(inactive) with the result V(success).
        - Empty on a host without systemd.
      type: dict
      returned: success
      sample:
        nvidia-vgpud: {load: loaded, active: inactive, result: success, enabled: enabled, started: true}
        nvidia-vgpu-mgr: {load: loaded, active: active, result: success, enabled: enabled, started: true}
        vgpu-restore: {load: loaded, active: active, result: success, enabled: enabled, started: true}
    fabric:
      description:
        - The NVLink fabric on a host with NVSwitches. Null on other hosts. C(nvlsm) is true if the NVSwitches are behind a network adapter. Fabric
          Manager requires the C(nvlsm) service on such hosts.
        - C(manager) describes Fabric Manager and the state of its service. C(mode) is the mode in the configuration file, which must be V(2) for
          vGPUs.
        - If Fabric Manager does not report partitions, C(partitions) is null, and C(silence) contains the reason. In a partition, C(gpus) lists
          module IDs, and C(vfs) lists the VFs for which this collection activated the partition. C(failed) lists devices with failed NVLinks.
      type: dict
      returned: success
      sample:
gpus:
  description:
    - The GPUs, sorted by address. C(framework) is V(mdev), V(vendor_vfio), or V(none). C(types_ready) indicates whether the driver lists vGPU types
      on the GPU's VFs or PF. On V(vendor_vfio), a vGPU has no C(uuid), and the C(vgpu) key of the VF contains the vGPU type.
    - C(host_vgpu_mode) is the Host VGPU Mode from C(nvidia-smi -q), which is V(SR-IOV) or V(Non SR-IOV). With O(health), the module reads
      C(host_vgpu_mode) for GPUs without vGPU types in sysfs. In all other cases, C(host_vgpu_mode) is null. If C(host_vgpu_mode) contradicts sysfs,
      RV(problems) contains a problem with the code V(vgpu_mode).
    - C(fabric) is null on a host without NVSwitches. On other hosts, C(fabric) contains the module ID by which Fabric Manager identifies the GPU, and
      the fabric state and status that C(nvidia-smi -q) prints for the GPU.
    - C(mig) is null if the driver does not report MIG. Otherwise, C(mig) contains the current and pending modes (null if the GPU is not MIG-capable),
      the profile names, and the GPU instances. For a vGPU, C(gpu_instance) is null unless the vGPU uses the vendor-specific VFIO framework or is a
      mediated device in use.
    - C(vfs_there) is the number of enabled VFs, and C(vfs_used) is the number of VFs with a vGPU. C(vgpu_counts) contains the number of vGPUs by
      type. O(detail) determines which of the lists C(vfs), C(types), and C(vgpus) are returned.
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
  description: The lines in configuration files that would bind a GPU to vfio-pci at the next boot.
  returned: success
  type: list
  elements: dict
  sample: [{path: /etc/modprobe.d/vfio.conf, line: "options vfio-pci ids=10de:2235", what: "vfio-pci binds to 10de:2235"}]
in_use:
  description:
    - The VMs, and the programs on the host (such as CUDA jobs), that a reboot or the removal of vGPUs would disrupt. C(devices) lists the addresses
      of the devices in use or, for mediated devices, the UUIDs. RV(in_use) omits NVIDIA's own services.
    - A process whose open files the module cannot read counts as a user. For such a process, C(command) states that the files cannot be read.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, command: qemu-system-x86, vm: web1, devices: ["0000:e8:00.4"]}]
in_use_count:
  description: The total number of users, including the users that RV(in_use) omits.
  returned: success
  type: int
  sample: 1
in_the_way:
  description: The users from RV(in_use) that a reboot must not interrupt. The list excludes a user if O(may_disturb) contains the VM or program name,
    or all devices of the process.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, command: qemu-system-x86, vm: web1, devices: ["0000:e8:00.4"]}]
in_the_way_count:
  description: The total number of users, including the users that RV(in_the_way) omits.
  returned: success
  type: int
  sample: 1
busy:
  description:
    - The running programs that install packages, drivers, or boot files. A reboot would interrupt these programs. The list includes the program that holds
      this collection's lock.
  returned: success
  type: list
  elements: str
  sample: ["pid 812 (apt-get --yes upgrade) holds /var/lib/dpkg/lock-frontend"]
libvirt_domains:
  description:
    - The libvirt VMs, including stopped VMs, to which devices of the host are attached. The module reads this data from libvirt's files.
    - A VM's devices include the devices in the VM's managed save, memory snapshots, and QEMU command line.
  returned: success
  type: list
  elements: dict
  sample: [{name: web1, running: false, devices: [{device: "0000:e8:00.4", managed: false}]}]
libvirt_domains_count:
  description: The total number of VMs, including the VMs that RV(libvirt_domains) omits.
  returned: success
  type: int
  sample: 1
reboot_required:
  description: Whether the host must reboot before vGPUs can work.
  returned: success
  type: bool
  sample: false
reboot_reasons:
  description: The reasons for the required reboot.
  returned: success
  type: list
  elements: str
  sample: ["the kernel runs without intel_iommu=on iommu=pt"]
problems:
  description:
    - The host's problems, each with a remedy. C(severity) is V(error) or V(warning).
    - If C(device) is a GPU, VF, or vGPU, C(gpu) is the GPU's address.
    - For a problem caused by another problem, C(follows) is the root cause's code. Root causes come first in the list.
  returned: success
  type: list
  elements: dict
  sample:
    - code: vfs_off
      device: "0000:e8:00.0"
      found: the VFs of the GPU are disabled (sriov_numvfs is 0)
      expected: 32 VFs
      remedy: Enable the VFs with the sriov role or the nvidia_sriov module.
      severity: error
      gpu: "0000:e8:00.0"
problems_left_out:
  description: The number of problems, keyed by code, that RV(problems) omits because of O(most_problems).
  returned: success
  type: dict
  sample: {}
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
      device: /etc/modprobe.d/local.conf
      found: "the file cannot be read: Is a directory"
      expected:
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.gpu_info import main

if __name__ == "__main__":
    main()
