# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes for the values that Fabric Manager and nvidia-smi report about an NVSwitch board."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, repr=False)
class GpuFabric:
    """The fabric values that nvidia-smi reports for a GPU. Missing and N/A values are None.

    Attributes:
        module: The GPU's module ID, which Fabric Manager uses as the physical ID.
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
        gpus: The GPU module IDs in Fabric Manager's order, which is also the order of VFs for an activation.
    """

    id: int
    active: bool
    gpus: list[int]

    def as_dict(self) -> dict[str, Any]:
        """Returns the partition as a dictionary for the module result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class FailedDevice:
    """A GPU or NVSwitch on which NVLinks failed when Fabric Manager started.

    Attributes:
        device: The PCI address or UUID of the GPU or NVSwitch.
    """

    kind: str
    device: str
    ports: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the failed device as a dictionary for the module result."""
        return dict(vars(self))
