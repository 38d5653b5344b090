# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frameworks through which NVIDIA's host driver offers vGPUs. framework.py defines the interface of all frameworks.

The engine reads a device's framework from sysfs, and never derives the framework from kernel or driver versions.
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

# All frameworks, in the order in which probe() checks a parent device.
ALL: Sequence[Type[Framework]] = (VendorVfio, Mdev)


def probe(sysfs: Sysfs, parent: str) -> str:
    """Returns the name of the framework whose files a VF or PF has in sysfs: mdev, vendor_vfio, or none."""
    return next((one.name for one in ALL if one.offered(sysfs, parent)), "none")


def of(ctx: Context, name: str) -> Framework | None:
    """Returns the framework with the given name, or None if the name is "none"."""
    return next((one(ctx) for one in ALL if one.name == name), None)


def at(ctx: Context, parent: str) -> Framework:
    """Returns the framework of a parent device, or mdev if the parent no longer has any framework's files."""
    return of(ctx, probe(ctx.sysfs, parent)) or Mdev(ctx)


def instances(ctx: Context, open_files: OpenFiles | None = None, parents: Sequence[str] | None = None) -> list[Vgpu]:
    """Returns all vGPUs on the host in all frameworks. See Framework.instances for the arguments."""
    return [vgpu for one in ALL for vgpu in one(ctx).instances(open_files, parents)]


def likely_uuids(kernel: str | None) -> bool:
    """Returns whether vGPUs on VFs will probably have UUIDs, for check mode on a host without the driver.

    On kernels 6.8 and later, NVIDIA's driver does not support mdev for VFs. The distributions that NVIDIA supports have kernels up to 6.1, or 6.8 and
    later. Once VFs exist, the VFs' sysfs files identify the framework.
    """
    numbers = re.match(r"^([0-9]{1,4})\.([0-9]{1,4})", kernel or "")
    return not numbers or (int(numbers.group(1)), int(numbers.group(2))) < (6, 8)
