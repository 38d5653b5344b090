# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks through which NVIDIA's host driver offers vGPUs; probed, never inferred.

A framework has the interface of ``mdev.Mdev``; nothing above it asks which one it is. A vGPU's key
is its UUID where the framework has UUIDs, else the address of its VF.
"""

from __future__ import annotations

import re

from .mdev import Mdev
from .vendor_vfio import VendorVfio

# In the order in which a parent is asked.
ALL = (VendorVfio, Mdev)
_BY_NAME = {one.name: one for one in ALL}


def probe(sysfs, parent):
    """Name of the framework that a VF (or PF) shows: mdev, vendor_vfio or none."""
    for one in ALL:
        if one.offered(sysfs, parent):
            return one.name
    return "none"


def of(ctx, name):
    """The framework object of that name, or None for none."""
    found = _BY_NAME.get(name)
    return found(ctx) if found else None


def at(ctx, parent):
    """The framework of a parent; a parent that shows none any more can only have been mdev's."""
    return of(ctx, probe(ctx.sysfs, parent)) or Mdev(ctx)


def instances(ctx, open_files=None):
    """All vGPUs of the host, of whatever framework."""
    return [vgpu for one in ALL for vgpu in one(ctx).instances(open_files)]


def likely_uuids(kernel):
    """Whether vGPUs on VFs will have UUIDs, before a driver can be asked: for what check mode prints of a bare host.

    NVIDIA's driver has no mdev for VFs on kernels from 6.8 on; the kernels of the distributions that it
    supports lie well apart (6.1 and before, 6.8 and later). Once there are VFs they are asked.
    """
    numbers = re.match(r"^([0-9]{1,4})\.([0-9]{1,4})", kernel or "")
    return not numbers or (int(numbers.group(1)), int(numbers.group(2))) < (6, 8)
