# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation fragments that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation fragments. DOCUMENTATION applies to all modules, and each other fragment describes one option or a group of options."""

    DOCUMENTATION = r"""
options:
  sysfs_root:
    description:
      - The directory that contains the host's C(/sys), C(/proc), C(/dev), and C(/etc).
      - Set this option in tests and in containers that mount the host's root directory, for example at V(/host). The module always runs programs such
        as C(sriov-manage) from the running system.
    type: str
    default: /
attributes:
  check_mode:
    description: In check mode, the module reports the steps that it would execute but changes nothing.
    support: full
  diff_mode:
    description: In diff mode, the module returns the actual changes or, in check mode, the planned changes.
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
      - The maximum time, in seconds, to wait while another program of this collection, such as another playbook run or C(vgpuctl restore), changes
        the host's vGPUs. After this time, the module fails and names the other program.
    type: int
    default: 300
"""

    CHECK_MODE_ASSUME = r"""
options:
  check_mode_assume:
    description:
      - The results of earlier steps that check mode treats as complete. The module uses this option only in check mode, to plan later steps on an
        unconfigured host.
      - V(driver) means that the vGPU host driver is loaded and bound to the GPUs, V(iommu) that the IOMMU is active, V(vfs) that VFs are enabled,
        V(mig) that MIG mode is set as the layout requires, and V(no_vgpus) that vGPUs are removed before VFs are disabled.
    type: list
    elements: str
    choices: [driver, iommu, vfs, mig, no_vgpus]
    default: []
"""

    UNRESPONSIVE = r"""
options:
  unresponsive_gpus:
    description:
      - Whether the module fails or warns if a selected GPU fell off the bus (its configuration space reads as all ones). In either case, the module
        configures the other GPUs.
      - With V(fail), the module fails at the end and lists the unresponsive GPUs. Use V(warn) in playbooks that check the GPUs at the end, such as
        playbooks that use the P(vgpu.kvm.host#role) role.
    type: str
    choices: [fail, warn]
    default: fail
"""

    GPUS = r"""
options:
  gpus:
    description:
      - The GPUs (PFs) that the module selects. V(all) selects every GPU that supports vGPU. Other values are PCI addresses in any format
        (V(0000:e8:00.0), V(e8:00.0), V(00000000:E8:00.0)), V(GPU-<uuid>), models such as V(A40), product names such as V(NVIDIA A100 80GB PCIe), and
        PCI IDs (V(10de:20b5) or, with the subsystem, V(10de:25b6:157e)).
    type: list
    elements: str
    default: [all]
"""

    MDEVCTL = r"""
options:
  mdevctl:
    description:
      - Whether the module maintains mdevctl definitions for the vGPUs. With these definitions, whose start mode is C(manual), mdevctl and libvirt
        list the vGPUs.
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
      - The vGPUs that the module may remove even if they are in use, as UUIDs or, for vGPUs without UUIDs, as VF addresses. The kernel removes such a
        vGPU only when the process, usually a VM, releases the vGPU. If the process does not release the vGPU within O(timeout) seconds, the module
        fails. Otherwise, the VM loses the vGPU.
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
          - The GPUs to which the entry applies, as V(all), PCI addresses in any format, V(GPU-<uuid>), models such as V(A40), product names such as
            V(NVIDIA A100 80GB PCIe), or PCI IDs (V(10de:20b5) or, with the subsystem, V(10de:25b6:157e)).
          - The module applies the most specific entry for a GPU. The order of precedence is address or UUID, PCI IDs with a subsystem, PCI IDs or
            product name, model, and V(all). V(NVIDIA A40) counts as the model V(A40), not as a product name.
          - If several selectors in one entry match a GPU, the module applies the entry's vGPUs once.
          - Hosts with different GPUs can share a layout. The module skips entries for PCI IDs, known models, or known products that the host does not
            have, and fails if no entry in the layout matches the host.
        type: list
        elements: str
        required: true
      vgpus:
        description: The desired vGPUs for each GPU of the entry. If the list is empty, the module removes all vGPUs from the GPUs.
        type: list
        elements: dict
        default: []
        suboptions:
          type:
            description: The vGPU type by full name (V(NVIDIA A40-24Q)), short name (V(A40-24Q)), or ID with any prefix (V(nvidia-565)).
            type: str
            required: true
          count: {description: The number of vGPUs of this type., type: int, default: 1}
          uuid: {description: "The UUID of a single vGPU (mediated devices only).", type: str}
          vf:
            description:
              - The VF of a single vGPU, by number (V(0) is C(virtfn0)) or address. If omitted, the module keeps matching vGPUs on their VFs,
                recreates missing vGPUs on their previous VFs, and creates new vGPUs on free VFs in VF number order.
            type: str
          vgpu_params:
            description:
              - The NVIDIA vGPU parameters as a comma-separated list, such as V(frame_rate_limiter=0,disable_vnc=1). If empty, the module clears all
                parameters. If omitted, the module clears parameters that M(vgpu.kvm.nvidia_vgpu) set, as soon as the vGPU is not in use, and keeps
                all others. A new vGPU does not inherit parameters from the VF.
            type: str
          fabric:
            description:
              - On a host with NVSwitches, a name for the whole-card vGPUs of one VM. All vGPUs in the layout with the same name share one NVLink
                fabric partition. If omitted, the vGPUs of each libvirt VM share a partition, and all other whole-card vGPUs have separate partitions.
              - The board supports a fixed list of partitions. If no partition matches the set of GPUs, the module fails, and the error lists all
                partitions.
            type: str
      mixed_sizes:
        description:
          - Whether vGPUs of different framebuffer sizes may share the GPU. The module enables mixed-size mode before it creates the first vGPU, and
            recreates unused vGPUs if needed. At boot, C(vgpu-restore.service) enables mixed-size mode. The module disables mixed-size mode if the GPU
            has no vGPUs and the layout does not require this mode.
        type: bool
        default: false
      mig:
        description:
          - The MIG GPU instances by profile name, such as V(3g.20gb), with one item per instance. If omitted, the module derives the GPU instances
            from the vGPU types.
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
        description: The VM's desired vGPUs. With O(vgpu.kvm.nvidia_vgpu_attach#module:exclusive), an empty list detaches all vGPUs from the VM.
        type: list
        elements: dict
        default: []
        suboptions:
          type:
            description: The vGPU type by full or short name (V(A40-24Q)). The module keeps attached vGPUs of this type, and adds free vGPUs as
              needed.
            type: str
          count: {description: The number of vGPUs of this type. The default is 1., type: int}
          gpu:
            description: The GPU whose vGPUs the module may attach, by address in any format, V(GPU-<uuid>), PCI IDs, model, or product name.
            type: str
          uuid: {description: The UUID of the mediated device to attach., type: str}
          vf:
            description: The VF address of the vGPU to attach, in any format. For a GPU without SR-IOV, use the address of the GPU, which must have
              exactly one vGPU.
            type: str
          display:
            description: Whether libvirt shows the vGPU's display in the VM's viewer (mediated devices only). The VM requires a C(<graphics>) element.
              If omitted, the module keeps the setting from the VM definition. Without a display, ramfb is also disabled.
            type: bool
          ramfb:
            description: Whether the vGPU's display shows boot messages. Requires O(domains[].vgpus[].display). Only one vGPU per VM may have this
              setting.
            type: bool
"""
