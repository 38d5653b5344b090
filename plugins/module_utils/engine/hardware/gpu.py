# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes for GPUs, VFs, vGPUs and their users.

Two objects are equal only if they are identical, so compare addresses and keys instead of objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Sequence

from ..base.errors import printable
from . import address as addresses, catalog
from .catalog import Model
from .mig_profiles import Profile
from .vgpu_types import VgpuType


@dataclass(eq=False, repr=False)
class Holder:
    """A process that has a device open.

    Attributes:
        pid: The process ID, or None if the program in command reported the use instead of /proc.
        vm: The name of the VM that uses the device, or None.
        remedy: The way to find out whether the device is in use, if this is unknown. Such a device counts as in use.
    """

    pid: int | None
    command: str
    vm: str | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        text = self.command if self.remedy else "%s, as '%s' shows" % ("VM %s" % self.vm if self.vm else "a VM", self.command)
        if self.pid is not None:
            text = "pid %d (%s)" % (self.pid, self.command)
            text = "VM %s, %s" % (self.vm, text) if self.vm else text
        return printable(text, lines=False)

    def as_dict(self) -> dict[str, Any]:
        """Returns the object as a dictionary for a module's result."""
        return {"pid": self.pid, "command": printable(self.command, lines=False), "vm": self.vm}


@dataclass(eq=False, repr=False)
class Vgpu:
    """A vGPU that exists."""

    uuid: str | None  # None if the framework has no UUIDs, because the VF is the vGPU
    parent: str  # the address of the VF or PF on which the vGPU exists
    index: int | None  # the number of the VF, or None for a vGPU on a PF
    type_id: str
    type: str
    holders: Sequence[Holder] = ()
    params: str | None = None  # the vgpu_params of the vGPU, or None if unknown
    gi: int | None = None  # the ID of the MIG GPU instance that has the vGPU, or None if unknown

    @property
    def key(self) -> str:
        """The identifier of the vGPU in any framework: its UUID, or the address of its parent."""
        return self.uuid or self.parent

    def as_dict(self) -> dict[str, Any]:
        """Returns the object as a dictionary for a module's result."""
        return {
            "uuid": self.uuid, "type": self.type, "type_id": self.type_id, "parent": self.parent, "vf_index": self.index,
            "params": self.params or "", "gpu_instance": self.gi, "in_use_by": [holder.as_dict() for holder in self.holders],
        }


@dataclass(eq=False, repr=False)
class Vf:
    """A virtual function (VF) of a GPU.

    Attributes:
        framework: The name of the framework whose files the VF has in sysfs, regardless of the VF's driver, or none.
        holders: The processes that have the VF open through VFIO.
    """

    address: str
    index: int
    driver: str | None
    iommu_group: str | None
    framework: str
    holders: Sequence[Holder] = ()

    @property
    def offers_types(self) -> bool:
        """Whether the VF has the files of a framework in sysfs."""
        return self.framework != "none"

    @property
    def usable(self) -> bool:
        """Whether vGPUs can be created on the VF now, or as soon as the driver has registered the vGPU types."""
        return self.offers_types or self.driver == "nvidia"


@dataclass(eq=False, repr=False)
class GpuInstance:
    """A GPU instance of MIG.

    Attributes:
        start: The first memory slice of the placement, or None if unknown.
        size: The number of memory slices of the placement, or None if unknown.
        compute: The IDs of the compute instances in the GPU instance.
    """

    id: int
    profile: str
    profile_id: int
    start: int | None = None
    size: int | None = None
    compute: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the object as a dictionary for a module's result."""
        return {"id": self.id, "profile": self.profile, "compute_instances": list(self.compute)}


@dataclass(eq=False, repr=False)
class Mig:
    """The state of MIG that the driver reports for a GPU. The modes current and pending are None on a GPU without MIG."""

    current: bool | None
    pending: bool | None
    profiles: list[Profile] = field(default_factory=list)
    instances: list[GpuInstance] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the object as a dictionary for a module's result."""
        instances = [one.as_dict() for one in self.instances]
        return {"current": self.current, "pending": self.pending, "profiles": [one.name for one in self.profiles], "instances": instances}


@dataclass(eq=False, repr=False)
class Gpu:
    """A GPU (a PF) with the data from sysfs, from the files of NVIDIA's driver in /proc, and from nvidia-smi."""

    address: str
    device_id: str
    subsystem_id: str
    model: Model | None
    product: str | None = None  # the product name that the driver reports
    uuid: str | None = None
    minor: int | None = None
    driver: str | None = None
    driver_override: str | None = None
    iommu_group: str | None = None
    iommu_type: str | None = None
    alive: bool = True
    holders: Sequence[Holder] = ()  # the processes that have the whole GPU open through VFIO
    mig_silence: str | None = None  # the reason why nvidia-smi reports no MIG state
    total_vfs: int = 0
    num_vfs: int = 0
    vf_device: int = 0
    vf_offset: int = 0
    vf_stride: int = 1
    vfs: list[Vf] = field(default_factory=list)
    framework: str = "none"
    uuids: bool = True  # whether vGPUs on the GPU have UUIDs, which depends on the framework
    claims_vfs: bool = False  # whether a VF itself becomes a vGPU, which depends on the framework
    mig: Mig | None = None
    host_mode: str | None = None  # the Host VGPU Mode that nvidia-smi reports (SR-IOV, Non SR-IOV), read only for health checks
    mixed: tuple[bool, bool] | None = None  # whether mixed-size mode is supported and whether it is enabled, read only if needed
    types: list[VgpuType] = field(default_factory=list)
    types_silence: str | None = None  # the reason why the driver reported no types, although the GPU may offer types that no VF lists now
    types_ready: bool = False  # whether the driver has registered the vGPU types of the parents, read together with the types
    vgpus: list[Vgpu] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the model. For a GPU that is not in the catalog, the product name or else the PCI ID."""
        return self.model.name if self.model else self.product or "10de:%s" % self.device_id.replace("0x", "")

    @property
    def sriov(self) -> bool:
        """Whether vGPUs are created on VFs. The SR-IOV capability of a T4 has the VF device ID 0 and does not count."""
        return self.total_vfs > 0 and self.vf_device > 0 and not (self.model and not self.model.sriov)

    @property
    def has_mig(self) -> bool:
        """Whether the GPU has MIG, according to the driver or else to may_have_mig."""
        return self.mig.current is not None if self.mig else self.may_have_mig

    @property
    def may_have_mig(self) -> bool:
        """Whether the GPU may have MIG, according to the catalog. A GPU that is not in the catalog may have MIG if it has VFs for vGPUs."""
        return bool(self.model.mig_slices) if self.model else self.sriov

    @property
    def supported(self) -> bool:
        """Whether the GPU supports vGPU, according to the catalog, the driver's types and host mode, or the kernel's VFs for vGPUs."""
        return bool(self.model or self.offers or self.sriov or self.host_mode)

    @property
    def offers(self) -> bool:
        """Whether the driver offers vGPU types on the GPU, regardless of the catalog."""
        return self.framework != "none" or bool(self.types)

    def answers_to(self, word: str) -> bool:
        """Returns whether a GPU selector matches this GPU.

        A selector is an address, GPU-<uuid>, PCI IDs (10de:20b5, 10de:25b6:157e), or the name of a model or product.
        """
        ids = addresses.pci_ids(word)
        if addresses.is_address(word):
            return self.address == addresses.parse(word)
        if addresses.is_gpu_uuid(word):
            return (self.uuid or "").lower() == word.lower()
        if ids:
            return ids[0] == self.device_id.lower() and ids[1] in ("", self.subsystem_id.lower())
        names = [self.name, self.product or "", *([self.model.product] if self.model and not self.product else [])]
        return any(catalog.same_model(name, word) for name in names)
