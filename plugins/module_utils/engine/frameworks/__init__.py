# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks through which NVIDIA's host driver offers vGPUs; probed, never inferred.

A framework has the interface of ``mdev.Mdev``; nothing above it asks which one it is.
``vendor_vfio`` is recognised, so that a host that has it is told so; this release drives mdev.
"""

from __future__ import annotations

from .mdev import Mdev

_DRIVEN = {Mdev.name: Mdev}


def probe(sysfs, parent):
    """Name of the framework that a VF (or PF) shows: mdev, vendor_vfio or none."""
    folder = "/sys/bus/pci/devices/%s" % parent
    if sysfs.exists(folder + "/nvidia/current_vgpu_type"):
        return "vendor_vfio"
    if sysfs.exists(folder + "/mdev_supported_types"):
        return "mdev"
    return "none"


def of(ctx, name):
    """The framework object of that name, or None when this release doesn't drive it."""
    found = _DRIVEN.get(name)
    return found(ctx) if found else None
