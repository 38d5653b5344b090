#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_host_plan
short_description: Plan a vGPU host's configuration from one snapshot
description:
  - Reads the host state once and plans the changes that M(vgpu.kvm.nvidia_pci_driver), M(vgpu.kvm.nvidia_fabric), M(vgpu.kvm.nvidia_mig),
    M(vgpu.kvm.nvidia_sriov), M(vgpu.kvm.nvidia_vgpu), M(vgpu.kvm.nvidia_vgpu_attach), and M(vgpu.kvm.nvidia_vgpu_restore) would make. With
    O(ahead=true), each plan is based on the state that the earlier stages would create. The module never changes the host.
  - With O(driver), the module plans the installation of NVIDIA's driver. The bundle does not have to be on the host yet.
  - If a stage would fail, its plan contains the errors, but this module does not fail. The C(preflight) role reports the errors of all plans in one
    message. The C(host) role runs only stages whose plans contain actions.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
  - vgpu.kvm.common.mdevctl
  - vgpu.kvm.common.force
  - vgpu.kvm.common.unresponsive
  - vgpu.kvm.common.layout
  - vgpu.kvm.common.domains
options:
  num_vfs:
    description: The number of VFs for each GPU. If omitted, the module plans all VFs of each GPU.
    type: int
  layout:
    description: The desired vGPUs for each GPU, as in M(vgpu.kvm.nvidia_vgpu). If omitted, the module plans neither vGPUs nor MIG mode.
  domains:
    description: The VMs with their desired vGPUs, as in M(vgpu.kvm.nvidia_vgpu_attach).
    default: []
  domains_exclusive:
    description: Whether to plan the detachment of all other vGPUs from these VMs, as with O(vgpu.kvm.nvidia_vgpu_attach#module:exclusive).
    type: bool
    default: true
  domains_live:
    description: Whether to plan immediate changes to running VMs, as with O(vgpu.kvm.nvidia_vgpu_attach#module:live).
    type: bool
    default: false
  connect:
    description: The libvirt connection URI, as in O(vgpu.kvm.nvidia_vgpu_attach#module:connect).
    type: str
    default: qemu:///system
  stages:
    description:
      - The stages of the C(host) role that the run includes. The module plans only these stages. With O(ahead=true), each plan takes only the results
        of these stages into account.
      - If a stage is missing from this list, RV(converged) is V(false).
    type: list
    elements: str
    choices: [gpu_release, iommu, driver, reboot, services, fabric, mig, sriov, vgpus, verify, libvirt_attach]
    default: [gpu_release, iommu, driver, reboot, services, fabric, mig, sriov, vgpus, verify, libvirt_attach]
  driver:
    description: The driver to install, as in M(vgpu.kvm.nvidia_driver). If omitted, the module does not plan the driver stage.
    type: dict
    suboptions:
      kind:
        description: The driver type, as in O(vgpu.kvm.nvidia_driver#module:kind).
        type: str
        choices: [host, guest]
        default: host
      supply:
        description: The bundle and the signing key on the controller, as the P(vgpu.kvm.driver_files#lookup) lookup returns them.
        type: dict
      version:
        description: The expected driver version. If empty, the bundle's version applies. Without a bundle, the module accepts any version.
        type: str
        default: ''
      format:
        description: The package format to install from the bundle, as in O(vgpu.kvm.nvidia_driver_bundle#module:format).
        type: str
        choices: [auto, run, deb, rpm]
        default: auto
      checksum:
        description: The bundle's checksum, as V(sha256:…). This module validates only the checksum format.
        type: str
        default: ''
      keys_on_host:
        description: Whether the signing key and its certificate are files on the host.
        type: bool
        default: false
      dkms:
        description: Whether the installer registers the kernel module with DKMS, as with O(vgpu.kvm.nvidia_driver#module:dkms).
        type: bool
        default: true
      load:
        description: Whether the installer loads the kernel module, as with O(vgpu.kvm.nvidia_driver#module:load).
        type: bool
        default: true
      reboots:
        description: Whether the caller reboots the host if needed. If a reboot follows, the plan does not include loading the kernel module.
        type: bool
        default: false
      iommu_flags:
        description: The kernel flags that the run sets. If empty, the host's default flags apply.
        type: list
        elements: str
        default: []
      temporary:
        description:
          - Paths of files that are needed only during an installation.
          - The driver plan lists existing files at these paths as C(leftovers), unless a running installation might need the files.
        type: list
        elements: str
        default: []
      module_type:
        description: The kernel module type, as in O(vgpu.kvm.nvidia_driver#module:module_type).
        type: str
        choices: [auto, open, proprietary]
        default: auto
      replace_datacenter:
        description: Whether the plan may include the removal of a data center driver, as with O(vgpu.kvm.nvidia_driver#module:replace_datacenter).
        type: bool
        default: false
      allow_downgrade:
        description: Whether an older driver version may replace a newer version, as with O(vgpu.kvm.nvidia_driver#module:allow_downgrade).
        type: bool
        default: true
      extra_arguments:
        description: Additional arguments for NVIDIA's installer, as in O(vgpu.kvm.nvidia_driver#module:extra_arguments).
        type: list
        elements: str
        default: []
      tmpdir:
        description: The directory on the host to which the caller copies the bundle and the package.
        type: path
      host_version:
        description: In a VM, the host driver version, if known.
        type: str
        default: ''
      compatibility:
        description:
          - Additional rows for the compatibility table, which lists incompatible combinations of drivers, kernels, GPUs, and vGPU software editions.
          - If all conditions of a row match, the module warns before an installation. Rows in this option take precedence over the collection's rows.
          - Examples of version ranges are V(535), V(..535), V(6.14..), and V(535..570). A bound such as V(535) includes all 535 versions.
        type: list
        elements: dict
        default: []
        suboptions:
          note:
            description: The known problem, as a clause for the warning text.
            type: str
            required: true
          driver:
            description: The version range of the driver to install.
            type: str
          kernel:
            description: The version range of the running kernel or of the kernel for the next boot. Quote the value.
            type: str
          gpus:
            description: Architectures (such as V(Hopper)), models, product names, PCI IDs, or PCI addresses. At least one item must match a GPU.
            type: list
            elements: str
          edition:
            description: The vGPU software edition. The module derives the edition from the names of the bundle and the package.
            type: str
            choices: [grid, ai_enterprise]
          host_driver:
            description: In a VM, the version range of the host driver.
            type: str
          remedy:
            description: The remedy for the known problem, as a sentence.
            type: str
          source:
            description: The source of information about the known problem.
            type: str
          works:
            description:
              - Whether the combination is known to work. If V(true), a match suppresses the warnings from other rows, except rows with a condition
                that this row does not have (for example, O(driver.compatibility[].gpus)).
            type: bool
  restore:
    description: Whether to plan the storage of the layout and the installation of the unit that restores the layout at boot.
    type: bool
    default: true
  restore_before:
    description: Additional units that must start after the restore, as in O(vgpu.kvm.nvidia_vgpu_restore#module:before).
    type: list
    elements: str
    default: []
  iommu_flags:
    description: The expected kernel command line flags, as in O(vgpu.kvm.nvidia_gpu_info#module:iommu_flags).
    type: list
    elements: str
    default: []
  may_disturb:
    description: The VMs, programs, and devices that a reboot may interrupt, as in O(vgpu.kvm.nvidia_gpu_info#module:may_disturb).
    type: list
    elements: str
    default: []
  before_drain:
    description: Whether the caller will drain the host before any change. If V(true), devices in use do not cause errors in the plans.
    type: bool
    default: false
  ahead:
    description: Whether each plan is based on the state that the earlier stages would create. If V(false), each plan is based on the host's current
      state.
    type: bool
    default: true
  warn:
    description: Whether the module shows the plans' warnings.
    type: bool
    default: true
  timeout:
    description: The maximum time, in seconds, for each program that the module runs, such as C(modinfo).
    type: int
    default: 30
  health:
    description: Whether the module runs additional checks, as with O(vgpu.kvm.nvidia_gpu_info#module:health).
    type: bool
    default: false
  detail:
    description:
      - The amount of data in RV(info) and RV(plans). V(all) returns all data. With V(counts), the size of the result does not depend on the numbers
        of VFs and vGPUs. RV(info) contains the data that O(vgpu.kvm.nvidia_gpu_info#module:detail) describes, and each plan contains only the first
        20 actions or errors.
      - With V(vgpus), RV(info) also lists vGPUs and users, and RV(plans) contains the same data as with V(counts).
    type: str
    choices: [all, vgpus, counts]
    default: counts
  most_problems:
    description: The maximum number of problems with the same code, as in O(vgpu.kvm.nvidia_gpu_info#module:most_problems).
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Plan all stages
  vgpu.kvm.nvidia_host_plan:
    layout:
      - {gpu: all, vgpus: [{type: A40-24Q, count: 2}]}
  become: true
  register: host_plan

- name: Show the planned actions
  ansible.builtin.debug:
    msg: "{{ host_plan['plans'] | dict2items | map(attribute='value.actions', default=[]) | flatten }}"
  when: not host_plan['converged']
"""

RETURN = r"""
info:
  description: The data about the host and its GPUs, as M(vgpu.kvm.nvidia_gpu_info) returns it.
  returned: success
  type: dict
  contains:
    host:
      description: The host without its GPUs, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:host).
      type: dict
      returned: success
    gpus:
      description: The host's GPUs, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:gpus).
      type: list
      elements: dict
      returned: success
    boot_causes:
      description: The lines in configuration files that would bind a GPU to vfio-pci at the next boot, in the same format as
        RV(vgpu.kvm.nvidia_gpu_info#module:boot_causes).
      type: list
      elements: dict
      returned: success
    in_use:
      description: The running VMs and the programs that use GPUs, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:in_use).
      type: list
      elements: dict
      returned: success
    in_the_way:
      description: The VMs and programs that a reboot must not interrupt, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:in_the_way).
      type: list
      elements: dict
      returned: success
    libvirt_domains:
      description: The libvirt VMs to which host devices are attached, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:libvirt_domains).
      type: list
      elements: dict
      returned: success
    in_use_count:
      description: The number of running VMs and of programs that use GPUs, as in RV(vgpu.kvm.nvidia_gpu_info#module:in_use_count).
      type: int
      returned: success
    in_the_way_count:
      description: The number of VMs and programs that a reboot must not interrupt, as in RV(vgpu.kvm.nvidia_gpu_info#module:in_the_way_count).
      type: int
      returned: success
    libvirt_domains_count:
      description: The number of libvirt VMs to which host devices are attached, as in RV(vgpu.kvm.nvidia_gpu_info#module:libvirt_domains_count).
      type: int
      returned: success
    busy:
      description: The installations that a reboot would interrupt, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:busy).
      type: list
      elements: str
      returned: success
    reboot_required:
      description: Whether the host must reboot before vGPUs can work, as in RV(vgpu.kvm.nvidia_gpu_info#module:reboot_required).
      type: bool
      returned: success
    reboot_reasons:
      description: The reasons for the required reboot, as in RV(vgpu.kvm.nvidia_gpu_info#module:reboot_reasons).
      type: list
      elements: str
      returned: success
    problems:
      description: The host's problems with remedies, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:problems).
      type: list
      elements: dict
      returned: success
    problems_left_out:
      description: The number of omitted problems, keyed by code, in the same format as RV(vgpu.kvm.nvidia_gpu_info#module:problems_left_out).
      type: dict
      returned: success
plans:
  description:
    - The plans, keyed by name. Each plan is the result of a module in check mode, limited to the values that roles need. If a stage would fail, its
      plan contains C(failed), C(msg), and C(errors) instead of C(actions).
    - If O(detail) omits actions or errors, C(actions_left_out) or C(errors_left_out) is the number of omitted items.
  returned: success
  type: dict
  contains:
    release: {description: The plan for M(vgpu.kvm.nvidia_pci_driver) with driver V(none)., type: dict, returned: success}
    fabric: {description: The plan for M(vgpu.kvm.nvidia_fabric)., type: dict, returned: on a host with NVSwitches}
    mig: {description: The plan for M(vgpu.kvm.nvidia_mig)., type: dict, returned: with O(layout) if a GPU is MIG-capable}
    sriov: {description: The plan for M(vgpu.kvm.nvidia_sriov)., type: dict, returned: success}
    vgpus: {description: The plan for M(vgpu.kvm.nvidia_vgpu)., type: dict, returned: with O(layout)}
    attach: {description: The plan for M(vgpu.kvm.nvidia_vgpu_attach)., type: dict, returned: with O(domains)}
    restore: {description: The plan for M(vgpu.kvm.nvidia_vgpu_restore)., type: dict, returned: success}
    driver:
      description:
        - The plan for M(vgpu.kvm.nvidia_driver). Even if the installation would fail, the keys C(install), C(version), C(format), and C(loads)
          describe the installation.
      type: dict
      returned: with O(driver)
selected:
  description: The addresses of the GPUs that O(gpus) selects. If O(gpus) is invalid, the plans contain the error, and RV(selected) lists all GPUs.
  returned: success
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
converged:
  description: Whether the host needs no changes. True if the module planned all stages, and no plan contains actions or errors.
  returned: success
  type: bool
  sample: false
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

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.host_plan import main

if __name__ == "__main__":
    main()
