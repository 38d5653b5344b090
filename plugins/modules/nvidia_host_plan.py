#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_host_plan
short_description: Plan all stages of a vGPU host after one reading of it
description:
  - Reads a host once, and plans what M(vgpu.kvm.nvidia_pci_driver), M(vgpu.kvm.nvidia_fabric), M(vgpu.kvm.nvidia_mig), M(vgpu.kvm.nvidia_sriov),
    M(vgpu.kvm.nvidia_vgpu), M(vgpu.kvm.nvidia_vgpu_attach) and M(vgpu.kvm.nvidia_vgpu_restore) would do, each as if all
    earlier stages had been done (O(ahead)). Changes nothing.
  - With O(driver), also plans the installation of NVIDIA's driver, before the bundle is copied to the host.
  - A refusal of one of them is part of its plan and does not fail this module. The role preflight reports all refusals in one message. The role
    host runs only stages with work.
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
    description: Number of VFs of each GPU. If omitted, all VFs.
    type: int
  layout:
    description: The desired vGPUs of each GPU, as in M(vgpu.kvm.nvidia_vgpu). If omitted, neither vGPUs nor MIG mode are planned.
  domains:
    description: VMs, each with its desired vGPUs, as in M(vgpu.kvm.nvidia_vgpu_attach).
    default: []
  domains_exclusive:
    description: As O(vgpu.kvm.nvidia_vgpu_attach#module:exclusive).
    type: bool
    default: true
  domains_live:
    description: As O(vgpu.kvm.nvidia_vgpu_attach#module:live).
    type: bool
    default: false
  connect:
    description: libvirt's URI.
    type: str
    default: qemu:///system
  stages:
    description:
      - The stages of role C(host) that a run has. Only these are planned. O(ahead) expects only results of these stages.
      - RV(converged) is V(false) if a stage is missing.
    type: list
    elements: str
    choices: [gpu_release, iommu, driver, reboot, services, fabric, mig, sriov, vgpus, verify, libvirt_attach]
    default: [gpu_release, iommu, driver, reboot, services, fabric, mig, sriov, vgpus, verify, libvirt_attach]
  driver:
    description: The driver to install, as in M(vgpu.kvm.nvidia_driver). If omitted, no driver is planned.
    type: dict
    suboptions:
      kind:
        description: As O(vgpu.kvm.nvidia_driver#module:kind).
        type: str
        choices: [host, guest]
        default: host
      supply:
        description: The bundle and the signing key on the controller, from the lookup P(vgpu.kvm.driver_files#lookup).
        type: dict
      version:
        description: The expected version. If empty, the version of the bundle; without a bundle, any version.
        type: str
        default: ''
      format:
        description: The package of the bundle to install, as O(vgpu.kvm.nvidia_driver_bundle#module:format).
        type: str
        choices: [auto, run, deb, rpm]
        default: auto
      checksum:
        description: The checksum of the bundle, as V(sha256:…). This module only checks its form.
        type: str
        default: ''
      keys_on_host:
        description: Whether the signing key and its certificate are files of the host.
        type: bool
        default: false
      dkms:
        description: As O(vgpu.kvm.nvidia_driver#module:dkms).
        type: bool
        default: true
      load:
        description: As O(vgpu.kvm.nvidia_driver#module:load).
        type: bool
        default: true
      reboots:
        description: Whether the caller reboots the host if needed. If so, the kernel module is not loaded before.
        type: bool
        default: false
      iommu_flags:
        description: The kernel flags that the run sets. If empty, the default of this host.
        type: list
        elements: str
        default: []
      temporary:
        description:
          - Paths of files that only an installation needs.
          - Existing files are returned as C(leftovers) of the driver's plan, unless a running installation may need them.
        type: list
        elements: str
        default: []
      module_type:
        description: As O(vgpu.kvm.nvidia_driver#module:module_type).
        type: str
        choices: [auto, open, proprietary]
        default: auto
      replace_datacenter:
        description: As O(vgpu.kvm.nvidia_driver#module:replace_datacenter).
        type: bool
        default: false
      allow_downgrade:
        description: As O(vgpu.kvm.nvidia_driver#module:allow_downgrade).
        type: bool
        default: true
      extra_arguments:
        description: As O(vgpu.kvm.nvidia_driver#module:extra_arguments).
        type: list
        elements: str
        default: []
      tmpdir:
        description: Directory on the host to which the bundle and the package are copied.
        type: path
      host_version:
        description: In a VM, the version of the host's driver, if known.
        type: str
        default: ''
      compatibility:
        description:
          - More rows for the table of drivers, kernels, GPUs and editions of NVIDIA's software that are known to be incompatible.
          - A row causes a warning before an installation. It applies if all its conditions hold, and takes precedence over the collection's own
            rows.
          - A version range is V(535), V(..535), V(6.14..) or V(535..570). A bound includes all versions that begin with it.
        type: list
        elements: dict
        default: []
        suboptions:
          note:
            description: The known problem, as a clause.
            type: str
            required: true
          driver:
            description: Version range of the driver to install.
            type: str
          kernel:
            description: Version range of the running kernel, or of the kernel of the next boot. Quote the value.
            type: str
          gpus:
            description: Architectures such as V(Hopper), models, product names, PCI ids or addresses. At least one of them must match the GPU.
            type: list
            elements: str
          edition:
            description: The edition of the vGPU software, derived from the names of bundle and package.
            type: str
            choices: [grid, ai_enterprise]
          host_driver:
            description: In a VM, the range of host driver versions that the row is for.
            type: str
          remedy:
            description: The remedy, as a sentence.
            type: str
          source:
            description: The source of this information.
            type: str
          works:
            description:
              - With V(true), the combination is known to work. It suppresses the warnings of rows that have no other kinds of conditions than this
                row.
            type: bool
  restore:
    description: Whether the layout is stored for the boot and the restore unit is installed.
    type: bool
    default: true
  restore_before:
    description: As O(vgpu.kvm.nvidia_vgpu_restore#module:before).
    type: list
    elements: str
    default: []
  iommu_flags:
    description: As O(vgpu.kvm.nvidia_gpu_info#module:iommu_flags).
    type: list
    elements: str
    default: []
  may_disturb:
    description: As O(vgpu.kvm.nvidia_gpu_info#module:may_disturb).
    type: list
    elements: str
    default: []
  before_drain:
    description: Whether the host is drained before the run. If so, nothing is refused because a device is in use.
    type: bool
    default: false
  ahead:
    description: Whether each stage is planned as if the earlier stages had been done. Otherwise the current state of the host counts.
    type: bool
    default: true
  warn:
    description: Whether the plans' warnings are shown.
    type: bool
    default: true
  timeout:
    description: Timeout in seconds for the programs that are run (C(modinfo)).
    type: int
    default: 30
  health:
    description: As O(vgpu.kvm.nvidia_gpu_info#module:health).
    type: bool
    default: false
  detail:
    description:
      - The amount of data in RV(info) and RV(plans). V(all) lists everything. With V(counts), the size of the result does not depend on the number of
        VFs and vGPUs - RV(info) is as in O(vgpu.kvm.nvidia_gpu_info#module:detail), and a plan has its first 20 actions, or its first 20 refusals.
      - V(vgpus) lists vGPUs and users. RV(plans) are as with V(counts).
    type: str
    choices: [all, vgpus, counts]
    default: counts
  most_problems:
    description: As O(vgpu.kvm.nvidia_gpu_info#module:most_problems).
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
  description: The host and its GPUs, as M(vgpu.kvm.nvidia_gpu_info) returns them.
  returned: success
  type: dict
  contains:
    host: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:host).", type: dict, returned: success}
    gpus: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:gpus).", type: list, elements: dict, returned: success}
    boot_causes: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:boot_causes).", type: list, elements: dict, returned: success}
    in_use: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:in_use).", type: list, elements: dict, returned: success}
    in_the_way: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:in_the_way).", type: list, elements: dict, returned: success}
    libvirt_domains: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:libvirt_domains).", type: list, elements: dict, returned: success}
    in_use_count: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:in_use_count).", type: int, returned: success}
    in_the_way_count: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:in_the_way_count).", type: int, returned: success}
    libvirt_domains_count: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:libvirt_domains_count).", type: int, returned: success}
    busy: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:busy).", type: list, elements: str, returned: success}
    reboot_required: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:reboot_required).", type: bool, returned: success}
    reboot_reasons: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:reboot_reasons).", type: list, elements: str, returned: success}
    problems: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:problems).", type: list, elements: dict, returned: success}
    problems_left_out: {description: "As RV(vgpu.kvm.nvidia_gpu_info#module:problems_left_out).", type: dict, returned: success}
plans:
  description:
    - For each stage, the result of its module in check mode, limited to values that roles need. A refusal has failed, msg and errors instead of
      actions.
    - If O(detail) omits some, actions_left_out or errors_left_out has their number.
  returned: success
  type: dict
  contains:
    release: {description: Of M(vgpu.kvm.nvidia_pci_driver) with driver none., type: dict, returned: success}
    fabric: {description: Of M(vgpu.kvm.nvidia_fabric)., type: dict, returned: on a host with NVSwitches}
    mig: {description: Of M(vgpu.kvm.nvidia_mig)., type: dict, returned: with O(layout) if a GPU has MIG}
    sriov: {description: Of M(vgpu.kvm.nvidia_sriov)., type: dict, returned: success}
    vgpus: {description: Of M(vgpu.kvm.nvidia_vgpu)., type: dict, returned: with O(layout)}
    attach: {description: Of M(vgpu.kvm.nvidia_vgpu_attach)., type: dict, returned: with O(domains)}
    restore: {description: Of M(vgpu.kvm.nvidia_vgpu_restore)., type: dict, returned: success}
    driver:
      description:
        - Of M(vgpu.kvm.nvidia_driver). In addition, install, version, format and loads describe the installation, even in a refusal.
      type: dict
      returned: with O(driver)
selected:
  description: Addresses of the GPUs that O(gpus) selects. All GPUs if O(gpus) is invalid, which the plans report.
  returned: success
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
converged:
  description: Whether the host has converged, which means that all stages are planned and none has work or a refusal.
  returned: success
  type: bool
  sample: false
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

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.host_plan import main

if __name__ == "__main__":
    main()
