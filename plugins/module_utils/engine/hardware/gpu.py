# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's model of a host, as plain objects. Equality means identity: compare addresses and keys instead."""

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
    """A process that has a device open. vm: the QEMU guest's name. pid: None if the program in command reported the process, and not /proc.

    remedy: set if it is unknown whether the device is in use, which counts as use: the way to find out.
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
        """The values for a module's result."""
        return {"pid": self.pid, "command": printable(self.command, lines=False), "vm": self.vm}


@dataclass(eq=False, repr=False)
class Vgpu:
    """A vGPU that exists."""

    uuid: str | None  # None if the framework has no UUIDs: the VF is the vGPU
    parent: str  # the VF (or PF) of the vGPU
    index: int | None  # the VF's number; None on a PF
    type_id: str
    type: str
    holders: Sequence[Holder] = ()
    params: str | None = None  # its vgpu_params; None if unknown
    gi: int | None = None  # the vGPU's GPU instance of MIG; None if unknown

    @property
    def key(self) -> str:
        """The identifier of the vGPU, in any framework."""
        return self.uuid or self.parent

    def as_dict(self) -> dict[str, Any]:
        """The values for a module's result."""
        return {
            "uuid": self.uuid, "type": self.type, "type_id": self.type_id, "parent": self.parent, "vf_index": self.index,
            "params": self.params or "", "gpu_instance": self.gi, "in_use_by": [holder.as_dict() for holder in self.holders],
        }


@dataclass(eq=False, repr=False)
class Vf:
    """A virtual function. framework: the one whose files it shows, with any driver, or none. holders: processes that have it open through VFIO."""

    address: str
    index: int
    driver: str | None
    iommu_group: str | None
    framework: str
    holders: Sequence[Holder] = ()

    @property
    def offers_types(self) -> bool:
        """Whether the VF has the files of a framework."""
        return self.framework != "none"

    @property
    def usable(self) -> bool:
        """Whether vGPUs can be created on the VF (now, or as soon as the types are registered)."""
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
        """The values for a module's result."""
        return {"id": self.id, "profile": self.profile, "compute_instances": list(self.compute)}


@dataclass(eq=False, repr=False)
class Mig:
    """MIG as the driver reports it. current and pending are None on a GPU without MIG."""

    current: bool | None
    pending: bool | None
    profiles: list[Profile] = field(default_factory=list)
    instances: list[GpuInstance] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The values for a module's result."""
        instances = [one.as_dict() for one in self.instances]
        return {"current": self.current, "pending": self.pending, "profiles": [one.name for one in self.profiles], "instances": instances}


@dataclass(eq=False, repr=False)
class Gpu:
    """A PF with its data from sysfs and NVIDIA's proc files."""

    address: str
    device_id: str
    subsystem_id: str
    model: Model | None
    product: str | None = None  # the driver's name of the product
    uuid: str | None = None
    minor: int | None = None
    driver: str | None = None
    driver_override: str | None = None
    iommu_group: str | None = None
    iommu_type: str | None = None
    alive: bool = True
    holders: Sequence[Holder] = ()  # processes that have the whole GPU open through VFIO
    mig_silence: str | None = None  # why nvidia-smi reports nothing, if mig is unknown for this reason
    total_vfs: int = 0
    num_vfs: int = 0
    vf_device: int = 0
    vf_offset: int = 0
    vf_stride: int = 1
    vfs: list[Vf] = field(default_factory=list)
    framework: str = "none"
    uuids: bool = True  # whether its vGPUs have UUIDs, as the framework defines
    claims_vfs: bool = False  # whether its VFs are vGPUs themselves
    mig: Mig | None = None
    host_mode: str | None = None  # nvidia-smi's Host VGPU Mode (SR-IOV, Non SR-IOV), read only for health checks
    mixed: tuple[bool, bool] | None = None  # mixed-size mode as (supported, on), read only if needed
    types: list[VgpuType] = field(default_factory=list)
    types_silence: str | None = None  # why types that no VF lists now are unknown, although the GPU may offer them
    types_ready: bool = False  # whether the driver has registered the types of the parents, read with the types
    vgpus: list[Vgpu] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's name, or the device id if the table does not have the GPU."""
        return self.model.name if self.model else self.product or "10de:%s" % self.device_id.replace("0x", "")

    @property
    def sriov(self) -> bool:
        """Whether vGPUs are created on VFs. A T4 shows the capability with VF device id 0, which does not count."""
        return self.total_vfs > 0 and self.vf_device > 0 and not (self.model and not self.model.sriov)

    @property
    def has_mig(self) -> bool:
        """Whether the GPU has MIG, from the driver or else from the table. True for a GPU that is not in the table."""
        return self.mig.current is not None if self.mig else self.may_have_mig

    @property
    def may_have_mig(self) -> bool:
        """Whether to query the driver for MIG."""
        return bool(self.model.mig_slices) if self.model else self.sriov

    @property
    def supported(self) -> bool:
        """Whether the GPU supports vGPU: it offers types, the kernel shows VFs for vGPUs, the driver has a mode for it, or the table has it."""
        return bool(self.model or self.offers or self.sriov or self.host_mode)

    @property
    def offers(self) -> bool:
        """Whether the driver offers vGPU types on the GPU. This needs no table."""
        return self.framework != "none" or bool(self.types)

    def answers_to(self, word: str) -> bool:
        """Whether a selector matches this GPU: address, GPU-<uuid>, PCI ids (10de:20b5, 10de:25b6:157e), model or product name."""
        ids = addresses.pci_ids(word)
        if addresses.is_address(word):
            return self.address == addresses.parse(word)
        if addresses.is_gpu_uuid(word):
            return (self.uuid or "").lower() == word.lower()
        if ids:
            return ids[0] == self.device_id.lower() and ids[1] in ("", self.subsystem_id.lower())
        names = [self.name, self.product or "", *([self.model.product] if self.model and not self.product else [])]
        return any(catalog.same_model(name, word) for name in names)
