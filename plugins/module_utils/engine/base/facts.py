# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal must know of a host and its GPUs: the part of ``read.host`` and ``hardware.gpu`` that it reads."""

from __future__ import annotations

from typing import Protocol, Sequence


class DriverFacts(Protocol):
    """As read.host.Driver."""

    loaded: str | None
    on_disk: str | None
    flavour: str
    has_manager: bool
    unfinished: bool


class HostFacts(Protocol):
    """As read.host.HostState."""

    cmdline: list[str]

    @property
    def driver(self) -> DriverFacts:
        """NVIDIA's driver."""

    @property
    def iommu_active(self) -> bool:
        """Whether the kernel drives an IOMMU."""


class ModelFacts(Protocol):
    """As hardware.catalog.Model."""

    sriov: bool
    prefix: str


class VfFacts(Protocol):
    """As hardware.gpu.Vf."""

    address: str
    driver: str | None


class GpuFacts(Protocol):
    """As hardware.gpu.Gpu."""

    address: str
    driver: str | None
    alive: bool
    iommu_group: str | None
    mig_silence: str | None
    total_vfs: int
    framework: str

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def model(self) -> ModelFacts | None:
        """Its row of the catalog, or None."""

    @property
    def supported(self) -> bool:
        """Whether it can have vGPUs."""

    @property
    def sriov(self) -> bool:
        """Whether vGPUs live on VFs."""

    @property
    def holders(self) -> Sequence[object]:
        """Who has the whole GPU open."""

    @property
    def vfs(self) -> Sequence[VfFacts]:
        """Its VFs."""
