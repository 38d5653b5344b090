# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values for an NVSwitch board that Fabric Manager and nvidia-smi report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, repr=False)
class GpuFabric:
    """A GPU on the board. module: its module id, the physical id in Fabric Manager; state and status: of its fabric. None: not shown, or N/A."""

    module: int | None = None
    state: str | None = None
    status: str | None = None


@dataclass(eq=False, repr=False)
class Partition:
    """A set of GPUs that Fabric Manager can connect. gpus: module ids, in Fabric Manager's order, which is that of the VFs."""

    id: int
    active: bool
    gpus: list[int]

    def as_dict(self) -> dict[str, Any]:
        """The values for a module's result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class FailedDevice:
    """A GPU or an NVSwitch with NVLinks that failed when Fabric Manager started. device: its PCI address or UUID."""

    kind: str
    device: str
    ports: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The values for a module's result."""
        return dict(vars(self))
