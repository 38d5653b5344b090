# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks through which NVIDIA's host driver offers vGPUs. They are probed, never inferred. framework.py has their interface."""

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

# In the order in which they are probed on a parent device.
ALL: Sequence[Type[Framework]] = (VendorVfio, Mdev)


def probe(sysfs: Sysfs, parent: str) -> str:
    """The name of the framework that a VF (or PF) shows: mdev, vendor_vfio or none."""
    return next((one.name for one in ALL if one.offered(sysfs, parent)), "none")


def of(ctx: Context, name: str) -> Framework | None:
    """The framework object with this name; None for the name none."""
    return next((one(ctx) for one in ALL if one.name == name), None)


def at(ctx: Context, parent: str) -> Framework:
    """The framework of a parent. A parent that no longer shows a framework must have been one of mdev."""
    return of(ctx, probe(ctx.sysfs, parent)) or Mdev(ctx)


def instances(ctx: Context, open_files: OpenFiles | None = None, parents: Sequence[str] | None = None) -> list[Vgpu]:
    """All vGPUs of the host, in all frameworks. parents: as in Framework.instances."""
    return [vgpu for one in ALL for vgpu in one(ctx).instances(open_files, parents)]


def likely_uuids(kernel: str | None) -> bool:
    """Whether vGPUs on VFs will have UUIDs. Check mode uses this on a bare host, before the driver is installed.

    NVIDIA's driver has no mdev for VFs on kernels 6.8 and later. Distributions that it supports have kernels up to 6.1, or 6.8 and later. As soon as
    VFs exist, they show their framework.
    """
    numbers = re.match(r"^([0-9]{1,4})\.([0-9]{1,4})", kernel or "")
    return not numbers or (int(numbers.group(1)), int(numbers.group(2))) < (6, 8)
