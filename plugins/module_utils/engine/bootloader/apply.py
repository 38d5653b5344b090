# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the kernel command line for the next boot, and verifies before any reboot that the flags will take effect."""

from __future__ import annotations

from dataclasses import replace

from ..base.errors import raise_if_any
from ..base.steps import Step, execute
from ..binding import backups, rebuilds
from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..system import files
from ..system.context import Context
from . import record as records
from .loader import Loader
from .plan import CmdlinePlan, Facts, Target, line_of


def apply(ctx: Context, plan: CmdlinePlan, facts: Facts, timeout: float) -> list[Step]:
    """Performs the planned steps and returns them.

    Added flags are recorded before the first edit. Removed flags are dropped from the record after the last edit.
    """
    target = plan.target
    known = facts.record
    if target.changes.added:
        known = records.merged(known, target.changes.added)
        records.write(ctx.root, known)
    if target.loader is None:
        return []
    loader = target.loader
    done = execute(plan.steps, lambda step: _perform(ctx, loader, target, step, timeout))
    if target.rebuild:
        rebuilds.done(ctx.root, rebuilds.BOOTLOADER)
    target.next_boot = loader.next_boot()
    waits = bool(kernel_flags.missing(target.flags, facts.running))
    if target.absent:
        known = records.Record()
    else:
        known = replace(known, boot=facts.boot if waits else None, line=line_of(target.next_boot) if waits else None)
    records.write(ctx.root, known)
    return done


def _perform(ctx: Context, loader: Loader, target: Target, step: Step, timeout: float) -> None:
    changes = target.changes
    if step.kind == "edit":
        if changes.run:
            rebuilds.mark(ctx.root, rebuilds.BOOTLOADER)
        _edit(ctx.root, step.args["edit"], step.args["kept"])
    elif step.kind == "run":
        rebuilds.begin(ctx.root, rebuilds.BOOTLOADER)
        loader.apply_run(changes, timeout)
        rebuilds.done(ctx.root, rebuilds.BOOTLOADER)
        for edit in changes.edits:
            if edit.path not in changes.ours:
                backups.follow(ctx.root, edit.path)
    elif step.kind == "verify":
        raise_if_any(loader.wrong(target.flags, loader.next_boot()))


def _edit(root: str, edit: FileEdit, kept: bool) -> None:
    """Edits a file. If *kept* is true, the original text is recorded for a teardown."""
    if kept:
        backups.keep(root, edit.path, edit.after)
    if edit.after is None:
        files.remove(root, edit.path)
    else:
        files.write_atomic(root, edit.path, edit.after)
