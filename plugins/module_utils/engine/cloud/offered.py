# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host as clouds identify them: each with the names of its type and its device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence

from .. import frameworks
from ..hardware import vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from ..system.context import Context

NVIDIA = "10de"


@dataclass
class Offered:
    """One vGPU. type_name: in full (NVIDIA A40-24Q).

    mdev_type: the type as the kernel, libvirt and mdevctl call it (nvidia-558), None where there are no mediated devices.
    """

    gpu: Gpu
    vgpu: Vgpu
    type_name: str
    mdev_type: Optional[str]

    @property
    def uuid(self) -> Optional[str]:
        """None where vGPUs have none."""
        return self.vgpu.uuid

    @property
    def parent(self) -> str:
        """PCI address of the VF, or of the PF."""
        return self.vgpu.parent

    @property
    def short(self) -> str:
        """The last word of the type's name: A40-24Q."""
        return vgpu_types.short_name(self.type_name)

    @property
    def product(self) -> str:
        """PCI id of the VF, four digits."""
        return "%04x" % self.gpu.vf_device if self.gpu.vf_device else self.gpu.device_id.replace("0x", "")


def read(ctx: Context, gpus: Sequence[Gpu]) -> List[Offered]:
    """The vGPUs of these GPUs, in order of GPU and VF. gpus: read with their types."""
    found = []
    for gpu in gpus:
        names = {one.id: one.name for one in gpu.types}
        for vgpu in sorted(gpu.vgpus, key=lambda one: (-1 if one.index is None else one.index, one.uuid or "")):
            name = names.get(vgpu.type_id) or vgpu.type
            framework = frameworks.at(ctx, vgpu.parent)
            name = " ".join((framework.type_title(vgpu.key) or name).split())
            directory = framework.type_directory(vgpu.key)
            if directory or not framework.uuids:  # else it was removed in the meantime
                found.append(Offered(gpu, vgpu, name, directory))
    return found
