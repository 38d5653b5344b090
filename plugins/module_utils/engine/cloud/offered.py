# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's vGPUs with the names that cloud platforms use for types and devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from .. import frameworks
from ..hardware import vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from ..system.context import Context


@dataclass(eq=False, repr=False)
class Offered:
    """A vGPU with its type names. *type_name* is the full type name, such as NVIDIA A40-24Q.

    The *mdev_type* attribute is the type name in the kernel, libvirt, and mdevctl, such as nvidia-558, or None without mediated devices.
    """

    gpu: Gpu
    vgpu: Vgpu
    type_name: str
    mdev_type: str | None

    @property
    def short(self) -> str:
        """The last word of the full type name, such as A40-24Q."""
        return vgpu_types.short_name(self.type_name)


@dataclass(eq=False, repr=False)
class Rendered:
    """The generated settings for a cloud platform.

    The *data* attribute contains the settings for a module result. *text* is the content of a file, and is empty without vGPUs. *warnings*
    describes the limits of the settings.
    """

    data: dict[str, list[dict[str, Any]]]
    text: str
    warnings: list[str]


def read(ctx: Context, gpus: Sequence[Gpu]) -> list[Offered]:
    """Returns the vGPUs of the given GPUs, in the order of GPUs and VFs. The vGPU types of *gpus* must already be read."""
    found = []
    for gpu in gpus:
        names = {one.id: one.name for one in gpu.types}
        for vgpu in sorted(gpu.vgpus, key=lambda one: (-1 if one.index is None else one.index, one.uuid or "")):
            framework = frameworks.at(ctx, vgpu.parent)
            name = framework.type_title(vgpu.key) or names.get(vgpu.type_id) or vgpu.type
            directory = framework.type_directory(vgpu.key)
            if directory or not framework.uuids:  # a mediated device without a directory was removed in the meantime
                found.append(Offered(gpu, vgpu, " ".join(name.split()), directory))
    return found
