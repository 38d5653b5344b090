# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Performs the steps of a MIG plan: disables VFs, sets MIG mode with nvidia-smi, and verifies MIG mode."""

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
    """Returns the processes that use each MIG-capable GPU, keyed by GPU address, for plan.Host.users."""
    return {gpu.address: _users(inventory.open_files, gpu) for gpu in inventory.gpus if gpu.has_mig}


def _users(open_files: OpenFiles, gpu: Gpu) -> Sequence[Holder]:
    """Returns the processes that use a GPU.

    If the driver does not report the GPU's minor number, all processes that use any GPU through the driver count as users.
    """
    return open_files.natives() if gpu.minor is None and gpu.driver == "nvidia" else open_files.of_gpu(gpu.minor)


def apply(ctx: Context, plan: MigPlan, timeout: float) -> list[Step]:
    """Performs the steps of a MIG plan. Raises EngineError after the last step if a step failed or an unresponsive GPU is an error."""
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
    word = "enabled" if enabled else "disabled"
    if last[1] == enabled:
        # An Ampere GPU requires a reset, which would terminate a process that has opened the GPU since the mode change was planned.
        holders = _users(OpenFiles(ctx.sysfs), reader.read_one(ctx, pf, with_vgpus=False))
        if not holders:
            words = words_of(nvidia_smi.reset(ctx, pf, timeout))
            if until(ctx.clock, both, min(timeout, 30)):
                return
        uses = ", which is in use by %s" % ", ".join(map(str, holders)) if holders else ""
        pending = "MIG mode will be %s only after a reset of the GPU%s (nvidia-smi printed: %s)" % (word, uses, words)
        how = "Stop all users of the GPU, then rerun. Alternatively, reboot the host, because this GPU keeps the requested mode across a reboot."
        raise error(pending, pf, remedy=how, code="mig_pending")
    remedy = "Find the cause in dmesg, then rerun."
    if "in use" in words.lower():
        remedy = "Stop all users of the GPU on the host (DCGM, exporters, and pollers), and check that the VFs of the GPU are disabled. Then rerun."
    raise error("MIG mode is not %s after the request (nvidia-smi printed: %s)" % (word, words), pf, remedy=remedy, code="mig_mode_failed")


_PERFORMERS = {"mig_mode": _mode, "disable": disable}
