# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's /usr/lib/nvidia/sriov-manage: how it is called and how its output is read.

Its exit status proves nothing (one branch returned 0 without VFs), so callers check sysfs.
Interrupted midway it leaves the PF without a driver or on pci-pf-stub.
"""

from __future__ import annotations

from .command import Result
from .context import Context

PATH = "/usr/lib/nvidia/sriov-manage"


class Answer:
    """What one call printed. busy: the unbindLock was refused, which alone is worth a retry."""

    def __init__(self, result: Result) -> None:
        self.rc = result.rc
        self.timed_out = result.timed_out
        self.words = result.tail()
        self.busy = "cannot obtain unbindlock" in result.out.lower()


def installed(ctx: Context) -> bool:
    """Whether the host driver brought the script."""
    return ctx.executable(PATH) is not None


def call(ctx: Context, pf: str, enable: bool, timeout: float, reset: bool = False) -> Answer:
    """Enables (or disables) all VFs of one PF."""
    argv = [PATH, "-e" if enable else "-d", pf] + (["-r", "1"] if enable and reset else [])
    return Answer(ctx.command(argv, timeout, keeps_lock=True))
