# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks through which NVIDIA's host driver offers vGPUs. framework.py defines their interface.

The framework of a device is read from sysfs, and never derived from the versions of kernel and driver.
"""

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

# All frameworks, in the order in which probe() checks a parent device for them.
ALL: Sequence[Type[Framework]] = (VendorVfio, Mdev)


def probe(sysfs: Sysfs, parent: str) -> str:
    """Returns the name of the framework whose files a VF or PF has in sysfs: mdev, vendor_vfio or none."""
    return next((one.name for one in ALL if one.offered(sysfs, parent)), "none")


def of(ctx: Context, name: str) -> Framework | None:
    """Returns the framework with this name, or None for the name none."""
    return next((one(ctx) for one in ALL if one.name == name), None)


def at(ctx: Context, parent: str) -> Framework:
    """Returns the framework of a parent device. A parent that no longer has the files of a framework counts as a parent of mdev."""
    return of(ctx, probe(ctx.sysfs, parent)) or Mdev(ctx)


def instances(ctx: Context, open_files: OpenFiles | None = None, parents: Sequence[str] | None = None) -> list[Vgpu]:
    """Returns all vGPUs of the host in all frameworks. The arguments are those of Framework.instances."""
    return [vgpu for one in ALL for vgpu in one(ctx).instances(open_files, parents)]


def likely_uuids(kernel: str | None) -> bool:
    """Returns whether vGPUs on VFs will probably have UUIDs. Check mode uses this guess on a host without the driver.

    NVIDIA's driver has no mdev for VFs on kernels 6.8 and later. The distributions that NVIDIA supports have kernels up to 6.1, or 6.8 and later. As
    soon as VFs exist, their files in sysfs show the framework.
    """
    numbers = re.match(r"^([0-9]{1,4})\.([0-9]{1,4})", kernel or "")
    return not numbers or (int(numbers.group(1)), int(numbers.group(2))) < (6, 8)
