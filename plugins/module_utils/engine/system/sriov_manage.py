# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs NVIDIA's sriov-manage script. The exit status is unreliable, so callers check sysfs.

An interrupted sriov-manage leaves the PF without a driver or on pci-pf-stub.
"""

from __future__ import annotations

from .command import Result
from .context import Context

PATH = "/usr/lib/nvidia/sriov-manage"


def busy(answer: Result) -> bool:
    """Returns whether the driver refused the unbindLock, which is the only error that justifies a retry."""
    return "cannot obtain unbindlock" in answer.out.lower()


def installed(ctx: Context) -> bool:
    """Returns whether the host driver installed sriov-manage."""
    return ctx.executable(PATH) is not None


def call(ctx: Context, pf: str, enable: bool, timeout: float, reset: bool = False) -> Result:
    """Enables or disables all VFs on one PF with sriov-manage."""
    argv = [PATH, "-e" if enable else "-d", pf] + (["-r", "1"] if enable and reset else [])
    return ctx.command(argv, timeout, keeps_lock=True)
