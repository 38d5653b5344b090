# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disables the VFs, sets MIG mode through nvidia-smi, and verifies it."""

from __future__ import annotations

from typing import Sequence

from ..base.clock import until
from ..base.errors import error
from ..base.steps import Step, execute
from ..hardware.gpu import Gpu, Holder
from ..read import inventory as reader
from ..sriov.apply import disable
from ..system import nvidia_smi
from ..system.context import Context
from ..system.open_files import OpenFiles
from . import instances
from .instances import words_of
from .plan import MigPlan


def users(inventory: reader.Inventory) -> dict[str, Sequence[Holder]]:
    """Processes that have a GPU with MIG open, by the GPU's address: for plan.Host."""
    return {gpu.address: _users(inventory.open_files, gpu) for gpu in inventory.gpus if gpu.has_mig}


def _users(open_files: OpenFiles, gpu: Gpu) -> Sequence[Holder]:
    """Whoever has the GPU open; where the driver does not show its number, whoever uses any GPU through the driver."""
    return open_files.natives() if gpu.minor is None and gpu.driver == "nvidia" else open_files.of_gpu(gpu.minor)


def apply(ctx: Context, plan: MigPlan, timeout: float) -> list[Step]:
    """Runs the steps of a plan."""
    return plan.finish(lambda: execute(plan.steps, lambda step: _PERFORMERS.get(step.kind, instances.perform)(ctx, step, timeout)))


def _mode(ctx: Context, step: Step, timeout: float) -> None:
    pf, enabled = str(step.device), step.args["enabled"]
    if nvidia_smi.mode(ctx, pf, timeout) == (enabled, enabled):
        return
    words = words_of(nvidia_smi.set_mode(ctx, pf, enabled, timeout))
    last: list[bool | None] = []

    def both() -> bool:
        last[:] = nvidia_smi.mode(ctx, pf, timeout)
        return last == [enabled, enabled]

    if until(ctx.clock, both, 2):
        return
    word = "on" if enabled else "off"
    if last[1] == enabled:
        # Ampere: it takes a reset. Whoever came since the plan was made keeps the GPU.
        holders = _users(OpenFiles(ctx.sysfs), reader.read_one(ctx, pf, with_vgpus=False))
        if not holders:
            words = words_of(nvidia_smi.reset(ctx, pf, timeout))
            if until(ctx.clock, both, min(timeout, 30)):
                return
        uses = ", which %s uses" % ", ".join(map(str, holders)) if holders else ""
        pending = "MIG mode is to be %s, but that waits for a reset of the GPU%s (nvidia-smi printed: %s)" % (word, uses, words)
        how = "Stop what uses the GPU and run again, or reboot: this GPU keeps the mode over a reboot."
        raise error(pending, pf, remedy=how, code="mig_pending")
    remedy = "Check dmesg."
    if "in use" in words.lower():
        remedy = "Stop what uses the GPU on the host (DCGM, exporters, pollers), and see that its VFs are off, then run again."
    raise error("MIG mode did not go %s (nvidia-smi printed: %s)" % (word, words), pf, remedy=remedy, code="mig_mode_failed")


_PERFORMERS = {"mig_mode": _mode, "disable": disable}
