# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host as a cloud is told of them: each with what names its type and its device there."""

from __future__ import annotations

from ..frameworks.mdev import DEVICES, Mdev
from ..hardware import vgpu_types

NVIDIA = "10de"


class Offered:
    """One vGPU. parent: PCI address of its VF (or PF). type_name: in full (NVIDIA A40-24Q), short: its last word.

    mdev_type: the type as the kernel, libvirt and mdevctl call it (nvidia-558), None where there are no mediated devices.
    product: PCI id of the VF, four digits.
    """

    def __init__(self, gpu, vgpu, type_name, mdev_type):
        self.gpu = gpu
        self.uuid = vgpu.uuid
        self.parent = vgpu.parent
        self.type_name = type_name
        self.short = vgpu_types.short_name(type_name)
        self.mdev_type = mdev_type
        self.product = "%04x" % gpu.vf_device if gpu.vf_device else gpu.device_id.replace("0x", "")


def read(ctx, gpus):
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
            if folder:  # else it went away while we looked
                found.append(Offered(gpu, vgpu, name, folder))
    return found
