# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provides the documentation fragments that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation fragments: DOCUMENTATION is common to all modules, and each other fragment describes one option or a group of options."""

    DOCUMENTATION = r"""
options:
  sysfs_root:
    description:
      - The directory that contains the host's C(/sys), C(/proc), C(/dev) and C(/etc).
      - Set this option in a container that has the host's root directory mounted, for example at V(/host), and in tests. The module always runs
        programs such as C(sriov-manage) from the running system.
    type: str
    default: /
attributes:
  check_mode:
    description: In check mode, the module reports the steps that it would execute, and changes nothing.
    support: full
  diff_mode:
    description: In diff mode, the module returns the actual or planned changes.
    support: full
  platform:
    description: The platform on which the module runs.
    platforms: linux
    support: full
"""

    LOCK = r"""
options:
  lock_timeout:
    description:
      - Seconds that the module waits while another program of this collection, such as another playbook or C(vgpuctl restore), changes the host's
        vGPUs. After this time, the module fails and names that program.
    type: int
    default: 300
"""

    CHECK_MODE_ASSUME = r"""
options:
  check_mode_assume:
    description:
      - The states that earlier steps of the same run would set up. The module uses this option only in check mode, to plan later steps on an
        unconfigured host instead of failing.
      - V(driver) is a loaded vGPU host driver to which the GPUs are bound, V(iommu) is an active IOMMU, and V(vfs) is enabled VFs. V(mig) is the MIG
        mode that a layout requires, and V(no_vgpus) is the removal of the vGPUs before VFs are disabled.
    type: list
    elements: str
    choices: [driver, iommu, vfs, mig, no_vgpus]
    default: []
"""

    UNRESPONSIVE = r"""
options:
  unresponsive_gpus:
    description:
      - Whether the module fails or warns if a selected GPU fell off the bus (its configuration space reads as all ones). The module configures the
        other GPUs in either case.
      - With V(fail), the module fails at the end and names the unresponsive GPUs. V(warn) is for playbooks that continue and check the GPUs at the
        end, such as playbooks with the role P(vgpu.kvm.host#role).
    type: str
    choices: [fail, warn]
    default: fail
"""

    GPUS = r"""
options:
  gpus:
    description:
      - The GPUs (PFs) that the module selects. V(all) selects every GPU that supports vGPU. Other values are a PCI address in any format
        (V(0000:e8:00.0), V(e8:00.0), V(00000000:E8:00.0)), V(GPU-<uuid>), a model such as V(A40), a product name such as V(NVIDIA A100 80GB PCIe), or
        PCI ids (V(10de:20b5), with the subsystem V(10de:25b6:157e)).
    type: list
    elements: str
    default: [all]
"""

    MDEVCTL = r"""
options:
  mdevctl:
    description:
      - Whether the module maintains mdevctl definitions (C(manual)) of the vGPUs. mdevctl and libvirt then show the vGPUs.
      - The module keeps the attributes of an existing definition.
      - With V(auto), the module maintains definitions only if mdevctl is installed.
    type: str
    choices: [auto, "true", "false"]
    default: auto
"""

    FORCE = r"""
options:
  force_remove:
    description:
      - The vGPUs that the module may remove although a process has them open, as UUIDs or, for vGPUs without UUIDs, as addresses of their VFs. The
        kernel removes such a vGPU only when the process releases it. The VM loses its vGPU, or the module fails after O(timeout).
    type: list
    elements: str
    default: []
"""

    READS = r"""
attributes:
  check_mode:
    description: The module never changes the host.
  diff_mode:
    description: The module does not return a diff.
    support: none
"""

    LAYOUT = r"""
options:
  layout:
    type: list
    elements: dict
    suboptions:
      gpu:
        description:
          - The GPUs of the entry, as V(all), a PCI address in any format, V(GPU-<uuid>), a model such as V(A40), a product name such as
            V(NVIDIA A100 80GB PCIe), or PCI ids (V(10de:20b5), with the subsystem V(10de:25b6:157e)).
          - The module applies the most specific entry for a GPU. The order of precedence is address or UUID, PCI ids with a subsystem, PCI ids or
            product name, model, and V(all). V(NVIDIA A40) is the model V(A40) with its vendor, not a product name.
          - If several selectors of one entry match a GPU, the module applies the vGPUs of the entry once.
          - Hosts with different GPUs can share a layout. The module skips an entry with PCI ids, or with a known model or product, that the host does
            not have, and fails if no entry of the layout matches the host.
        type: list
        elements: str
        required: true
      vgpus:
        description: The desired vGPUs of each GPU of the entry. With an empty list, the module removes all vGPUs of these GPUs.
        type: list
        elements: dict
        default: []
        suboptions:
          type:
            description: The vGPU type by full name (V(NVIDIA A40-24Q)), short name (V(A40-24Q)) or id with any prefix (V(nvidia-565)).
            type: str
            required: true
          count: {description: The number of vGPUs of this type., type: int, default: 1}
          uuid: {description: "The UUID of a single vGPU, only on hosts whose vGPUs are mediated devices.", type: str}
          vf:
            description:
              - The VF of a single vGPU, by its number (V(0) is C(virtfn0)) or its address. If omitted, matching vGPUs stay on their VFs, the module
                recreates missing vGPUs on their earlier VFs, and creates new vGPUs on free VFs in the order of the VF numbers.
            type: str
          vgpu_params:
            description:
              - NVIDIA's parameters of the vGPU as a comma-separated list, such as V(frame_rate_limiter=0,disable_vnc=1). With an empty string, the
                module clears all parameters. If omitted, the module clears the parameters that M(vgpu.kvm.nvidia_vgpu) set, once the vGPU is not in
                use, and keeps all others. A new vGPU does not inherit parameters from its VF.
            type: str
          fabric:
            description:
              - On a host with NVSwitches, a name for the whole-card vGPUs of one VM. All vGPUs of the layout with the same name share one partition
                of the NVLink fabric. If omitted, the vGPUs of each libvirt VM share a partition, and any other whole card has a separate partition.
              - The board has a fixed list of partitions. The module refuses a set of cards that is not a partition, and the error lists the
                partitions.
            type: str
      mixed_sizes:
        description:
          - Whether vGPUs of different framebuffer sizes may share the GPU. The module enables mixed-size mode before it creates the first vGPU, and
            recreates unused vGPUs if needed. C(vgpu-restore.service) enables the mode at boot. The module disables the mode when the GPU has no vGPU
            and no vGPU of the layout requires it.
        type: bool
        default: false
      mig:
        description:
          - The GPU instances of MIG by profile name, such as V(3g.20gb), with one item for each instance. If omitted, the module derives the GPU
            instances from the types.
        type: list
        elements: str
"""

    DOMAINS = r"""
options:
  domains:
    type: list
    elements: dict
    suboptions:
      name: {description: The name of a defined libvirt VM. The name may contain spaces., type: str, required: true}
      vgpus:
        description: The desired vGPUs of the VM. With O(vgpu.kvm.nvidia_vgpu_attach#module:exclusive), an empty list detaches all vGPUs of the VM.
        type: list
        elements: dict
        default: []
        suboptions:
          type:
            description: The vGPU type by full or short name (V(A40-24Q)). The module attaches any free vGPU of this type, but keeps a vGPU of the VM.
            type: str
          count: {description: The number of vGPUs of this type. The default is 1., type: int}
          gpu:
            description: The GPU whose vGPUs the module may attach, by address in any format, C(GPU-<uuid>), PCI ids, model or product name.
            type: str
          uuid: {description: The UUID of the mediated device to attach., type: str}
          vf:
            description: The address of the VF of the vGPU to attach, in any format. On a GPU without SR-IOV, the address of a GPU with one vGPU.
            type: str
          display:
            description: Whether libvirt shows the display of the vGPU in the VM's viewer (mediated devices only). The VM requires a C(<graphics>)
              element. If omitted, the module keeps the setting of the VM's definition. Without a display, ramfb is also disabled.
            type: bool
          ramfb:
            description: Whether the display of the vGPU also shows boot messages. This setting requires O(domains[].vgpus[].display), and only one
              vGPU of a VM may have it.
            type: bool
"""
