# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The settings of a machine that is a VM with a vGPU: a function with the GPU's device ID and the type's subsystem ID, without SR-IOV and IOMMU."""

from __future__ import annotations

import argparse

from . import models
from .progress import TwinError

NONE = "none"  # a VM without a vGPU


def settle(args: argparse.Namespace) -> None:
    """Set the options of `up` that --guest implies."""
    if args.tier != "full":
        raise TwinError("A guest requires the full tier, because a run installs the driver, which must be loaded again after a reboot.")
    if args.start == "ready":
        raise TwinError("A guest starts without a driver. Use --start nouveau (default) or --start bare.")
    if args.start == "vfio-pci":
        args.start = "nouveau"
    args.iommu = "none"
    args.gpus = 1
    if args.guest == NONE:
        return
    try:
        model, vgpu_type = models.find_type(args.guest)
    except models.BadModel as error:
        raise TwinError(str(error)) from error
    args.model = model.key
    fabric = ["partition=1"] if model.board and vgpu_type.whole else []
    args.hw = [*args.hw, "sriov=0", f"subsystem={models.guest_subsystem(vgpu_type)}", *fabric]
