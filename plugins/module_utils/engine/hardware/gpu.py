# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine knows of a host, as plain objects. Two are equal only if they are one: compare addresses and keys."""

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
    """A process that has a device open. vm: the QEMU guest's name. pid None: not /proc, but the program in command reported the holder.

    remedy: it is not known whether somebody uses the device, which counts as use; what to do about that.
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
        """For a module's result."""
        return {"pid": self.pid, "command": printable(self.command, lines=False), "vm": self.vm}


@dataclass(eq=False, repr=False)
class Vgpu:
    """A vGPU that exists."""

    uuid: str | None  # None where the framework has none: there the VF is the vGPU
    parent: str  # the VF (or PF) that it lives on
    index: int | None  # the VF's number; None on a PF
    type_id: str
    type: str
    holders: Sequence[Holder] = ()
    params: str | None = None  # its vgpu_params; None when unknown
    gi: int | None = None  # the GPU instance of MIG that it lives in; None when unknown

    @property
    def key(self) -> str:
        """What distinguishes it from others, on any framework."""
        return self.uuid or self.parent

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "uuid": self.uuid, "type": self.type, "type_id": self.type_id, "parent": self.parent, "vf_index": self.index,
            "params": self.params or "", "gpu_instance": self.gi, "in_use_by": [holder.as_dict() for holder in self.holders],
        }


@dataclass(eq=False, repr=False)
class Vf:
    """A virtual function. framework: whose files it shows, whatever driver it is bound to, or none. holders: who has it open through VFIO."""

    address: str
    index: int
    driver: str | None
    iommu_group: str | None
    framework: str
    holders: Sequence[Holder] = ()

    @property
    def offers_types(self) -> bool:
        """Whether the files of a framework are there."""
        return self.framework != "none"

    @property
    def usable(self) -> bool:
        """Whether vGPUs can be created on it (now, or as soon as the types are registered)."""
        return self.offers_types or self.driver == "nvidia"


@dataclass(eq=False, repr=False)
class GpuInstance:
    """A GPU instance of MIG. start and size: its placement in memory slices; compute: ids of its compute instances."""

    id: int
    profile: str
    profile_id: int
    start: int | None = None
    size: int | None = None
    compute: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {"id": self.id, "profile": self.profile, "compute_instances": list(self.compute)}


@dataclass(eq=False, repr=False)
class Mig:
    """MIG as the driver reports it. current and pending are None on a GPU without MIG."""

    current: bool | None
    pending: bool | None
    profiles: list[Profile] = field(default_factory=list)
    instances: list[GpuInstance] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        instances = [one.as_dict() for one in self.instances]
        return {"current": self.current, "pending": self.pending, "profiles": [one.name for one in self.profiles], "instances": instances}


@dataclass(eq=False, repr=False)
class Gpu:
    """A PF with all that sysfs and NVIDIA's proc files show of it."""

    address: str
    device_id: str
    subsystem_id: str
    model: Model | None
    product: str | None = None  # as the driver names it
    uuid: str | None = None
    minor: int | None = None
    driver: str | None = None
    driver_override: str | None = None
    iommu_group: str | None = None
    iommu_type: str | None = None
    alive: bool = True
    holders: Sequence[Holder] = ()  # who has the whole GPU open through VFIO
    mig_silence: str | None = None  # why nvidia-smi reports nothing, where that is the reason that mig is unknown
    total_vfs: int = 0
    num_vfs: int = 0
    vf_device: int = 0
    vf_offset: int = 0
    vf_stride: int = 1
    vfs: list[Vf] = field(default_factory=list)
    framework: str = "none"
    uuids: bool = True  # whether its vGPUs have UUIDs, as the framework defines
    claims_vfs: bool = False  # whether a VF of it is itself a vGPU
    mig: Mig | None = None
    host_mode: str | None = None  # Host VGPU Mode as nvidia-smi has it (SR-IOV, Non SR-IOV), read only for the health
    mixed: tuple[bool, bool] | None = None  # mixed-size mode as (supported, on), read only where it matters
    types: list[VgpuType] = field(default_factory=list)
    types_silence: str | None = None  # why types that no VF lists now are unknown, though the GPU may offer them
    types_ready: bool = False  # whether the driver has registered the types of its parents, read with the types
    vgpus: list[Vgpu] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's name, or the device id when it isn't in the table."""
        return self.model.name if self.model else self.product or "10de:%s" % self.device_id.replace("0x", "")

    @property
    def sriov(self) -> bool:
        """Whether vGPUs live on VFs. A T4 shows the capability with VF device id 0: that isn't it."""
        return self.total_vfs > 0 and self.vf_device > 0 and not (self.model and not self.model.sriov)

    @property
    def has_mig(self) -> bool:
        """Whether the GPU can be partitioned, as the driver reports, or else as the table has it. A GPU that is not in the table may."""
        return self.mig.current is not None if self.mig else self.may_have_mig

    @property
    def may_have_mig(self) -> bool:
        """Whether it is worth asking the driver for MIG."""
        return bool(self.model.mig_slices) if self.model else self.sriov

    @property
    def supported(self) -> bool:
        """Whether it is one of the GPUs for vGPU: it offers types, the kernel shows VFs for vGPUs, the driver has a mode for it, or the table has it."""
        return bool(self.model or self.offers or self.sriov or self.host_mode)

    @property
    def offers(self) -> bool:
        """Whether the driver offers vGPU types on it, which needs no table."""
        return self.framework != "none" or bool(self.types)

    def answers_to(self, word: str) -> bool:
        """Whether a selector means this GPU: address, GPU-<uuid>, PCI ids (10de:20b5, 10de:25b6:157e), model, or product name."""
        ids = addresses.pci_ids(word)
        if addresses.is_address(word):
            return self.address == addresses.parse(word)
        if addresses.is_gpu_uuid(word):
            return (self.uuid or "").lower() == word.lower()
        if ids:
            return ids[0] == self.device_id.lower() and ids[1] in ("", self.subsystem_id.lower())
        names = [self.name, self.product or "", *([self.model.product] if self.model and not self.product else [])]
        return any(catalog.same_model(name, word) for name in names)
