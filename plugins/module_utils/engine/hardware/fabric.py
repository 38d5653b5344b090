# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes for the values that Fabric Manager and nvidia-smi report about an NVSwitch board."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, repr=False)
class GpuFabric:
    """The fabric values that nvidia-smi reports for a GPU. A value that is missing or N/A is None.

    Attributes:
        module: The module ID of the GPU, which Fabric Manager uses as the physical ID.
        state: The state of the GPU's fabric.
        status: The status of the GPU's fabric.
    """

    module: int | None = None
    state: str | None = None
    status: str | None = None


@dataclass(eq=False, repr=False)
class Partition:
    """A fabric partition: a set of GPUs that Fabric Manager can connect.

    Attributes:
        gpus: The module IDs of the GPUs, in the order of Fabric Manager. The VFs for an activation have the same order.
    """

    id: int
    active: bool
    gpus: list[int]

    def as_dict(self) -> dict[str, Any]:
        """Returns the object as a dictionary for a module's result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class FailedDevice:
    """A GPU or an NVSwitch with NVLinks that failed when Fabric Manager started.

    Attributes:
        device: The PCI address or the UUID of the GPU or NVSwitch.
    """

    kind: str
    device: str
    ports: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the object as a dictionary for a module's result."""
        return dict(vars(self))
