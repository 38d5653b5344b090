# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks through which NVIDIA's host driver offers vGPUs; probed, never inferred. framework.py has their interface."""

from __future__ import annotations

import re
from typing import Sequence, Type

from ..hardware.gpu import Vgpu
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import Sysfs
from .framework import Framework
from .mdev import Mdev
from .vendor_vfio import VendorVfio

# In the order in which a parent is asked.
ALL: Sequence[Type[Framework]] = (VendorVfio, Mdev)


def probe(sysfs: Sysfs, parent: str) -> str:
    """Name of the framework that a VF (or PF) shows: mdev, vendor_vfio or none."""
    return next((one.name for one in ALL if one.offered(sysfs, parent)), "none")


def of(ctx: Context, name: str) -> Framework | None:
    """The framework object of that name, or None for none."""
    return next((one(ctx) for one in ALL if one.name == name), None)


def at(ctx: Context, parent: str) -> Framework:
    """The framework of a parent; a parent that shows none any more can only have been mdev's."""
    return of(ctx, probe(ctx.sysfs, parent)) or Mdev(ctx)


def instances(ctx: Context, open_files: OpenFiles | None = None, parents: Sequence[str] | None = None) -> list[Vgpu]:
    """All vGPUs of the host, of whatever framework; parents: as in Framework.instances."""
    return [vgpu for one in ALL for vgpu in one(ctx).instances(open_files, parents)]


def likely_uuids(kernel: str | None) -> bool:
    """Whether vGPUs on VFs will have UUIDs, before a driver can be asked: for what check mode prints of a bare host.

    NVIDIA's driver has no mdev for VFs on kernels from 6.8 on; the kernels of the distributions that it supports lie well apart (6.1 and before,
    6.8 and later). Once there are VFs, they show it.
    """
    numbers = re.match(r"^([0-9]{1,4})\.([0-9]{1,4})", kernel or "")
    return not numbers or (int(numbers.group(1)), int(numbers.group(2))) < (6, 8)
