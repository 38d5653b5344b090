# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host with the names by which clouds identify their types and devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from .. import frameworks
from ..hardware import vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from ..system.context import Context


@dataclass(eq=False, repr=False)
class Offered:
    """One vGPU. type_name: in full (NVIDIA A40-24Q).

    mdev_type: the type's name for the kernel, libvirt and mdevctl (nvidia-558), None without mediated devices.
    """

    gpu: Gpu
    vgpu: Vgpu
    type_name: str
    mdev_type: str | None

    @property
    def short(self) -> str:
        """The last word of the type's name: A40-24Q."""
        return vgpu_types.short_name(self.type_name)


@dataclass(eq=False, repr=False)
class Rendered:
    """The settings for a cloud. data: for a module's result; text: for a file, empty without vGPUs; warnings: limits of the settings."""

    data: dict[str, list[dict[str, Any]]]
    text: str
    warnings: list[str]


def read(ctx: Context, gpus: Sequence[Gpu]) -> list[Offered]:
    """The vGPUs of these GPUs, in order of GPU and VF. gpus: read with their types."""
    found = []
    for gpu in gpus:
        names = {one.id: one.name for one in gpu.types}
        for vgpu in sorted(gpu.vgpus, key=lambda one: (-1 if one.index is None else one.index, one.uuid or "")):
            framework = frameworks.at(ctx, vgpu.parent)
            name = framework.type_title(vgpu.key) or names.get(vgpu.type_id) or vgpu.type
            directory = framework.type_directory(vgpu.key)
            if directory or not framework.uuids:  # otherwise the vGPU was removed in the meantime
                found.append(Offered(gpu, vgpu, " ".join(name.split()), directory))
    return found
