#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_gpu_info
short_description: Read a host's NVIDIA GPUs and vGPUs
description:
  - Reads GPUs, drivers, IOMMU, VFs, vGPU types, vGPUs and their users from the kernel's own files, and detects
    common problems of NVIDIA vGPU.
  - Changes nothing. Runs C(nvidia-smi) only for data that sysfs does not have - for GPUs with MIG, and for type names on
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
        Missing flags are reported in RV(host), RV(problems) and RV(reboot_reasons).
    type: list
    elements: str
    default: []
  may_disturb:
    description:
      - Devices, VMs and programs that a reboot may interrupt. Addresses of GPUs and VFs in any spelling, UUIDs of vGPUs, names of VMs and of
        programs. The option only determines what RV(in_the_way) omits.
    type: list
    elements: str
    default: []
  health:
    description:
      - Whether RV(problems) also includes findings in logs and drift from the stored state - missing stored vGPUs and VFs, services that are not
        running or would not start at the next boot, VMs whose vGPU is missing or attached to another VM.
      - The module reads the journals of NVIDIA's and libvirt's services, the kernel log, the QEMU logs of VMs with vGPUs, and the log of NVIDIA's
        installer, limited to this boot and the last 24 hours. Findings are warnings, because they may have been fixed since. Their codes begin with
        V(log_). V(log_unknown) shows error lines that this collection can't explain.
    type: bool
    default: false
  detail:
    description:
      - The amount of data. V(all) lists VFs, types and vGPUs; V(vgpus) lists only vGPUs; V(counts) lists none of them, and only the first 10 of
        RV(in_use), RV(in_the_way) and RV(libvirt_domains).
      - Omitted items are counted (C(vfs_there), C(vfs_used), C(vgpu_counts), RV(in_use_count)). A fleet's controller keeps the result of
        each host. With V(counts), its size does not depend on the number of VFs, vGPUs and VMs.
    type: str
    choices: [all, vgpus, counts]
    default: all
  most_problems:
    description: The most problems of one code in RV(problems), 0 for all. RV(problems_left_out) has the number of omitted ones.
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

- name: Fail with the remedies if there are errors
  ansible.builtin.assert:
    that: info['problems'] | selectattr('severity', 'equalto', 'error') | length == 0
    fail_msg: "{{ info['problems'] | map(attribute='remedy') | join(' ') }}"
"""

RETURN = r"""
host:
  description:
    - The host without its GPUs.
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
        - Whether the kernel has an active IOMMU, its units, those of O(iommu_flags) that are not in force, and this host's default flags.
        - The kind is V(intel) or V(amd), from the firmware's tables (DMAR, IVRS); null if the firmware has none.
      type: dict
      returned: success
      sample: {active: true, kind: intel, units: [dmar0], default_flags: [intel_iommu=on, iommu=pt], missing_flags: []}
    secure_boot: {description: Whether Secure Boot is on and shim validates; null without UEFI., type: bool, returned: success, sample: false}
    enrolled_certificates:
      description:
        - Fingerprints (SHA-256 of the DER form) of the certificates that firmware and shim trust, if Secure Boot is on.
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
        on_disk is null during an installation by M(vgpu.kvm.nvidia_driver), and after an interrupted one, because any file may be damaged.
      type: dict
      returned: success
      sample: {loaded: 550.163.02, on_disk: 550.163.02, flavour: vgpu, nouveau_loaded: false, scheduler: equal_share}
    next_kernel:
      description:
        - The kernel of the next boot, with its flags and the version of its module C(nvidia), null without the module. The release is null unless
          GRUB has its common default (the newest kernel, or the saved entry on the Red Hat family). The flags are null if unknown.
      type: dict
      returned: success
      sample: {release: 6.1.0-51-amd64, driver: 550.163.02, cmdline: [quiet, intel_iommu=on, iommu=pt]}
    services:
      description:
        - The services that vGPUs depend on, as systemd reports them. C(nvidia-vgpud) is a one-shot, V(inactive) with result V(success)
          is its healthy state; started is whether it was started since the boot.
        - Empty without systemd.
      type: dict
      returned: success
      sample:
        nvidia-vgpud: {load: loaded, active: inactive, result: success, enabled: enabled, started: true}
        nvidia-vgpu-mgr: {load: loaded, active: active, result: success, enabled: enabled, started: true}
        vgpu-restore: {load: loaded, active: active, result: success, enabled: enabled, started: true}
    fabric:
      description:
        - The NVLink fabric of a host with NVSwitches; null on other hosts. C(nvlsm) is whether the NVSwitches are behind a network adapter, and
          Fabric Manager therefore requires C(nvlsm).
        - C(manager) is Fabric Manager, with the mode from its configuration file, V(2) for vGPU, and the state of its service.
        - C(partitions) is null if Fabric Manager does not report them, and C(silence) has the reason. C(gpus) are module ids, C(vfs) the VFs for
          which this collection activated a partition. C(failed) lists devices with failed NVLinks.
      type: dict
      returned: success
      sample:
gpus:
  description:
    - The GPUs, in order of address. The framework is mdev, vendor_vfio, or none; types_ready is whether the driver lists vGPU types on its
      VFs (or PF). A vGPU on vendor_vfio has no uuid, and the key vgpu of its VF shows its type.
    - host_vgpu_mode is the Host VGPU Mode of C(nvidia-smi -q), SR-IOV or Non SR-IOV. With O(health), it is read for GPUs without vGPU types in sysfs;
      otherwise it is null. If it contradicts sysfs, the problems have the code C(vgpu_mode).
    - The key fabric is null on a host without NVSwitches. Otherwise it has the GPU's module id, by which Fabric Manager names it, and the state and
      status of its fabric as C(nvidia-smi -q) shows them.
    - The key mig is null if the driver does not report MIG; otherwise it has the modes current and pending (null on a GPU without MIG),
      the names of the profiles, and the GPU instances. A vGPU's GPU instance is known on VFs, and for mediated devices in use.
    - C(vfs_there) is the number of enabled VFs, C(vfs_used) the number of VFs with a vGPU, C(vgpu_counts) has vGPUs by type. O(detail) selects which
      of the lists C(vfs), C(types) and C(vgpus) are present.
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
      with their devices (addresses, and UUIDs of mediated devices). NVIDIA's own services are omitted.
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
    - The running programs that a reboot would interrupt while they install packages, drivers or boot files, and the holder of this collection's lock.
  returned: success
  type: list
  elements: str
  sample: ["pid 812 (apt-get --yes upgrade) holds /var/lib/dpkg/lock-frontend"]
libvirt_domains:
  description:
    - libvirt's VMs with devices of the host, including stopped VMs, from libvirt's own files.
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
  description: The reasons for the reboot.
  returned: success
  type: list
  elements: str
  sample: ["the kernel runs without intel_iommu=on iommu=pt"]
problems:
  description:
    - The problems, each with its remedy. The severity is error or warning.
    - If the device is a GPU, a VF or a vGPU, C(gpu) is the GPU's address.
    - If another problem causes this one, C(follows) is the code of the root cause. Root causes come first.
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
    - The errors that made the module fail. C(msg) has the same errors as text. C(code) identifies the kind of an error for programs. C(device) is
      null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - The module does not return RV(errors) if Ansible's argument validation fails.
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
