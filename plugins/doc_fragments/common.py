# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation fragments that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options and attributes."""

    DOCUMENTATION = r"""
options:
  sysfs_root:
    description:
      - Directory below which the host's C(/sys), C(/proc), C(/dev) and C(/etc) are found.
      - For a container that has the host's root mounted, for example at V(/host), and for tests.
        Programs such as C(sriov-manage) are always those of the running system.
    type: str
    default: /
attributes:
  check_mode:
    description: Can run in check mode and report what it would do, without doing it.
    support: full
  diff_mode:
    description: Returns what changes, or would change, in diff mode.
    support: full
  platform:
    description: Where the module runs.
    platforms: linux
    support: full
"""

    LOCK = r"""
options:
  lock_timeout:
    description:
      - Seconds to wait for another program of this collection that changes the host's vGPUs at the same time
        (another playbook, C(vgpuctl restore)). After this time, the module fails and names that program.
    type: int
    default: 300
"""

    CHECK_MODE_ASSUME = r"""
options:
  check_mode_assume:
    description:
      - What an earlier step of the same run would have done. Used in check mode only.
        With this option, a check of a bare host continues instead of failing because of missing parts.
      - V(driver) is the loaded vGPU host driver with the GPUs bound to it, V(iommu) an active IOMMU, V(vfs) enabled VFs,
        V(mig) the MIG mode that a layout needs, V(no_vgpus) the removal of the vGPUs before VFs are disabled.
    type: list
    elements: str
    choices: [driver, iommu, vfs, mig, no_vgpus]
    default: []
"""

    UNRESPONSIVE = r"""
options:
  unresponsive_gpus:
    description:
      - What the module does if a selected GPU fell off the bus (its configuration space reads as all ones). The other GPUs are
        processed in either case.
      - V(fail) fails at the end and names these GPUs. V(warn) warns of them, for playbooks that continue and check at the end, as the role
        P(vgpu.kvm.host#role) does.
    type: str
    choices: [fail, warn]
    default: fail
"""

    GPUS = r"""
options:
  gpus:
    description:
      - The selected GPUs (PFs), each as V(all) (every GPU that supports vGPU), a PCI address in any
        spelling (V(0000:e8:00.0), V(e8:00.0), V(00000000:E8:00.0)), V(GPU-<uuid>), a model such as V(A40), a product name such as
        V(NVIDIA A100 80GB PCIe), or PCI ids (V(10de:20b5), with the subsystem V(10de:25b6:157e)).
    type: list
    elements: str
    default: [all]
"""

    MDEVCTL = r"""
options:
  mdevctl:
    description:
      - Whether the module maintains mdevctl definitions (C(manual)) of the vGPUs, so that mdevctl and libvirt show them.
      - The attributes of an existing definition are kept.
      - V(auto) maintains definitions if mdevctl is installed.
    type: str
    choices: [auto, "true", "false"]
    default: auto
"""

    FORCE = r"""
options:
  force_remove:
    description:
      - UUIDs of vGPUs (or addresses of their VFs, for vGPUs without UUIDs) that may be removed although a process has them open. The kernel removes
        such a vGPU only when that process releases it. The VM loses its GPU, or the module fails after O(timeout).
    type: list
    elements: str
    default: []
"""

    READS = r"""
attributes:
  check_mode:
    description: The module never changes the host.
  diff_mode:
    description: The module has no diff.
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
          - The GPU or GPUs as V(all), a PCI address in any spelling, V(GPU-<uuid>), a model such as V(A40), a product name such as
            V(NVIDIA A100 80GB PCIe), or PCI ids (V(10de:20b5), with the subsystem V(10de:25b6:157e)).
          - The most specific entry for a GPU counts. Precedence - address or UUID, PCI ids with a subsystem, PCI ids or product name, model, V(all).
            V(NVIDIA A40) is the model V(A40) with its vendor, not a product.
          - If several selectors of one entry match a GPU, the GPU gets the entry's vGPUs once.
          - An entry with PCI ids, or a known model or product, that this host does not have is skipped, so that hosts with different GPUs can
            share a layout. A layout without any entry for this host is an error.
        type: list
        elements: str
        required: true
      vgpus:
        description: The vGPUs for each of these GPUs. An empty list removes all vGPUs of the GPU.
        type: list
        elements: dict
        default: []
        suboptions:
          type:
            description: The type by full name (V(NVIDIA A40-24Q)), short name (V(A40-24Q)) or id with any prefix (V(nvidia-565)).
            type: str
            required: true
          count: {description: The number of vGPUs., type: int, default: 1}
          uuid: {description: "The UUID for one vGPU. Only on hosts whose vGPUs are mediated devices.", type: str}
          vf:
            description:
              - The VF for one vGPU, by its number (V(0) is C(virtfn0)) or its address. If omitted, matching vGPUs stay on their VFs, missing ones
                return to their VFs, and others get free VFs in the order of their numbers.
            type: str
          vgpu_params:
            description:
              - NVIDIA's parameters of the vGPU as a comma-separated list, such as V(frame_rate_limiter=0,disable_vnc=1). An empty string clears them.
                If omitted, parameters that M(vgpu.kvm.nvidia_vgpu) has set are cleared once the vGPU is not in use, and others are kept. A new vGPU
                does not inherit parameters from its VF.
            type: str
          fabric:
            description:
              - On a host with NVSwitches, a name for vGPUs of several whole cards that one VM gets. The vGPUs of the layout with this name share one
                partition of the NVLink fabric. If omitted, the vGPUs of each VM in libvirt share one, and any other whole card has its own.
              - The board has a fixed list of partitions. A set of cards without a partition is refused, and the error lists the partitions.
            type: str
      mixed_sizes:
        description:
          - Whether vGPUs of different framebuffer sizes may share the GPU. The mode is set before the first vGPU, so enabling it recreates
            unused vGPUs. The mode is set again at boot, and disabled when no vGPU needs it and the GPU is empty.
        type: bool
        default: false
      mig:
        description:
          - GPU instances of MIG by profile name, such as V(3g.20gb), one item for each instance. If omitted, they follow from the types.
        type: list
        elements: str
"""

    DOMAINS = r"""
options:
  domains:
    type: list
    elements: dict
    suboptions:
      name: {description: "The VM's name in libvirt, including spaces. The VM must be defined.", type: str, required: true}
      vgpus:
        description: The VM's vGPUs. An empty list detaches all, if O(vgpu.kvm.nvidia_vgpu_attach#module:exclusive).
        type: list
        elements: dict
        default: []
        suboptions:
          type: {description: "Any free vGPU of this type, by full or short name (V(A40-24Q)). A vGPU that the VM already has is kept.", type: str}
          count: {description: "The number of vGPUs of this type. The default is 1.", type: int}
          gpu: {description: "Selects only vGPUs of this GPU - address in any spelling, C(GPU-<uuid>), PCI ids, model or product name.", type: str}
          uuid: {description: The UUID of a mediated device., type: str}
          vf: {description: "The vGPU on this VF, by its address in any spelling. On a GPU without SR-IOV, the GPU's address, if it has one vGPU.", type: str}
          display:
            description: Whether libvirt shows the vGPU's display to its viewers (mediated devices only). The VM requires a C(<graphics>). If
              omitted, the setting of the definition is kept. Without a display, ramfb is off, too.
            type: bool
          ramfb: {description: "Whether that display shows boot messages, too. Needs O(domains[].vgpus[].display); one vGPU of a VM at most.", type: bool}
"""
