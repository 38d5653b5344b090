# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host as a cloud is told of them: each with what names its type and its device there."""

from __future__ import annotations

from .. import frameworks
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
