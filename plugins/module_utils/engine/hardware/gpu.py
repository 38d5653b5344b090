# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes for GPUs, VFs, vGPUs, and device users.

Objects are compared by identity, so compare addresses and keys instead of objects.
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
    """A process that uses a device.

    Attributes:
        pid: The process ID, or None if the command in ``command`` reported the use and /proc did not.
        vm: The name of the VM that uses the device, or None.
        remedy: Instructions for checking whether the device is in use, or None if the use is known. A device whose use is unknown counts as in use.
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
        """Returns the holder as a dictionary for the module result."""
        return {"pid": self.pid, "command": printable(self.command, lines=False), "vm": self.vm}


@dataclass(eq=False, repr=False)
class Vgpu:
    """An existing vGPU."""

    uuid: str | None  # None if the framework does not use UUIDs, because the VF is the vGPU
    parent: str  # the address of the VF or PF on which the vGPU exists
    index: int | None  # the VF number, or None for a vGPU on a PF
    type_id: str
    type: str
    holders: Sequence[Holder] = ()
    params: str | None = None  # the vGPU's vgpu_params, or None if unknown
    gi: int | None = None  # the ID of the vGPU's MIG GPU instance, or None if unknown

    @property
    def key(self) -> str:
        """The vGPU identifier in any framework: the UUID or, without a UUID, the parent address."""
        return self.uuid or self.parent

    def as_dict(self) -> dict[str, Any]:
        """Returns the vGPU as a dictionary for the module result."""
        return {
            "uuid": self.uuid, "type": self.type, "type_id": self.type_id, "parent": self.parent, "vf_index": self.index,
            "params": self.params or "", "gpu_instance": self.gi, "in_use_by": [holder.as_dict() for holder in self.holders],
        }


@dataclass(eq=False, repr=False)
class Vf:
    """A virtual function (VF) of a GPU.

    Attributes:
        framework: The name of the framework whose files the VF has in sysfs, regardless of the VF's driver, or "none".
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
        """Whether sysfs contains a framework's files for the VF."""
        return self.framework != "none"

    @property
    def usable(self) -> bool:
        """Whether vGPUs can be created on the VF, possibly after the driver has registered vGPU types."""
        return self.offers_types or self.driver == "nvidia"


@dataclass(eq=False, repr=False)
class GpuInstance:
    """A MIG GPU instance.

    Attributes:
        start: The placement's first memory slice, or None if unknown.
        size: The number of memory slices in the placement, or None if unknown.
        compute: The IDs of the compute instances in the GPU instance.
    """

    id: int
    profile: str
    profile_id: int
    start: int | None = None
    size: int | None = None
    compute: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the GPU instance as a dictionary for the module result."""
        return {"id": self.id, "profile": self.profile, "compute_instances": list(self.compute)}


@dataclass(eq=False, repr=False)
class Mig:
    """The MIG state that the driver reports for a GPU. On a GPU that does not support MIG, the current and pending modes are None."""

    current: bool | None
    pending: bool | None
    profiles: list[Profile] = field(default_factory=list)
    instances: list[GpuInstance] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the MIG state as a dictionary for the module result."""
        instances = [one.as_dict() for one in self.instances]
        return {"current": self.current, "pending": self.pending, "profiles": [one.name for one in self.profiles], "instances": instances}


@dataclass(eq=False, repr=False)
class Gpu:
    """A GPU (a PF) with data from sysfs, the NVIDIA driver's /proc files, and nvidia-smi."""

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
    holders: Sequence[Holder] = ()  # processes that have the whole GPU open through VFIO
    mig_silence: str | None = None  # the reason why nvidia-smi reports no MIG state
    total_vfs: int = 0
    num_vfs: int = 0
    vf_device: int = 0
    vf_offset: int = 0
    vf_stride: int = 1
    vfs: list[Vf] = field(default_factory=list)
    framework: str = "none"
    uuids: bool = True  # whether vGPUs on the GPU have UUIDs, which depends on the framework
    claims_vfs: bool = False  # whether VFs themselves become vGPUs, which depends on the framework
    mig: Mig | None = None
    host_mode: str | None = None  # the Host VGPU Mode from nvidia-smi (SR-IOV, Non SR-IOV), read only for health checks
    mixed: tuple[bool, bool] | None = None  # whether mixed-size mode is supported, and whether mixed-size mode is enabled, read only if needed
    types: list[VgpuType] = field(default_factory=list)
    types_silence: str | None = None  # the reason why the driver reported no types, although the GPU might offer types that no VF currently lists
    types_ready: bool = False  # whether the driver has registered vGPU types for the parents, read together with the types
    vgpus: list[Vgpu] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model name or, for a GPU that is not in the catalog, the product name or PCI ID."""
        return self.model.name if self.model else self.product or "10de:%s" % self.device_id.replace("0x", "")

    @property
    def sriov(self) -> bool:
        """Whether vGPUs are created on VFs. A T4's SR-IOV capability is ignored, because its VF device ID is 0."""
        return self.total_vfs > 0 and self.vf_device > 0 and not (self.model and not self.model.sriov)

    @property
    def has_mig(self) -> bool:
        """Whether the GPU supports MIG, according to the driver or, if the driver reports nothing, to may_have_mig."""
        return self.mig.current is not None if self.mig else self.may_have_mig

    @property
    def may_have_mig(self) -> bool:
        """Whether the GPU might support MIG, according to the catalog. An unlisted GPU might support MIG if the GPU has VFs for vGPUs."""
        return bool(self.model.mig_slices) if self.model else self.sriov

    @property
    def supported(self) -> bool:
        """Whether the GPU supports vGPU, according to the catalog, the driver's types and host mode, or the VFs for vGPUs in sysfs."""
        return bool(self.model or self.offers or self.sriov or self.host_mode)

    @property
    def offers(self) -> bool:
        """Whether the driver offers vGPU types on the GPU, regardless of the catalog."""
        return self.framework != "none" or bool(self.types)

    def answers_to(self, word: str) -> bool:
        """Returns whether a GPU selector matches this GPU.

        A selector is an address, GPU-<uuid>, PCI IDs (10de:20b5, 10de:25b6:157e), or a model or product name.
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
