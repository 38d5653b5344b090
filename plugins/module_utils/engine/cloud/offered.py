# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host as clouds identify them: each with the names of its type and its device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence

from ..frameworks.mdev import DEVICES, Mdev
from ..hardware import vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from ..system.context import Context

NVIDIA = "10de"


@dataclass(frozen=True)
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
    mdev, found = Mdev(ctx), []
    for gpu in gpus:
        names = {one.id: one.name for one in gpu.types}
        for vgpu in sorted(gpu.vgpus, key=lambda one: (-1 if one.index is None else one.index, one.uuid or "")):
            name = names.get(vgpu.type_id) or vgpu.type
            if vgpu.uuid is None:
                found.append(Offered(gpu, vgpu, name, None))
                continue
            name = " ".join((ctx.sysfs.read_or("%s/%s/mdev_type/name" % (DEVICES, vgpu.uuid)) or name).split())
            folder = mdev.definition_type(vgpu.uuid)
            if folder:  # else it went away meanwhile
                found.append(Offered(gpu, vgpu, name, folder))
    return found
