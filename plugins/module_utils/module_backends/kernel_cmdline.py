# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_kernel_cmdline module, which adds flags to the kernel command line for the next boot and removes these flags."""

from __future__ import annotations

import os

from .. import _module
from ..engine.binding import rebuilds
from ..engine.bootloader import apply as bootloader_apply, choose, grub_debian, plan as bootloader_plan, record
from ..engine.bootloader.loader import Loader
from ..engine.base.errors import hidden, raise_if_any
from ..engine.base.plan import Plan
from ..engine.hardware import kernel_flags
from ..engine.read.boot_entries import Entry


def _facts(ctx: _module.Context) -> bootloader_plan.Facts:
    return bootloader_plan.Facts(
        kernel_flags.words(ctx.sysfs.read_or("/proc/cmdline", "")),
        ctx.sysfs.read_or("/proc/sys/kernel/random/boot_id", ""),
        record.read(ctx.root),
        rebuilds.BOOTLOADER in rebuilds.read(ctx.root),
    )


def _plan(request: _module.Task, ctx: _module.Context, facts: bootloader_plan.Facts) -> bootloader_plan.CmdlinePlan:
    flags, rebuild, absent = request.params["flags"], request.params["rebuild"], request.params["state"] == "absent"
    raise_if_any(bootloader_plan.wrong_flags(flags))
    loader = choose.choose(ctx)
    if isinstance(loader, Loader):
        return bootloader_plan.plan_back(loader, rebuild, facts) if absent else bootloader_plan.plan_present(loader, flags, rebuild, facts)
    nothing = not facts.record.added and not os.path.exists(ctx.root + grub_debian.DROP_IN) if absent else not kernel_flags.missing(flags, facts.running)
    if rebuild or not nothing:
        raise choose.unsupported(ctx, loader, flags)
    return Plan(bootloader_plan.Target(flags, absent))


def _shown(entry: Entry, flags: list[str]) -> dict[str, object]:
    """Returns the module result's value for a boot entry."""
    line = entry.cmdline or []
    return {
        "entry": entry.where,
        "release": entry.release,
        "cmdline": entry.cmdline and list(map(hidden, entry.cmdline)),
        "iommu": kernel_flags.iommu(line),
        "missing_flags": kernel_flags.missing(flags, line),
    }


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    facts = _facts(ctx)
    plan = _plan(request, ctx, facts)
    target = plan.target
    if not request.check_mode:
        bootloader_apply.apply(ctx, plan, facts, request.params["timeout"])
    return _module.result_of_plan(
        plan,
        diff=[_module.titled_diff(edit.path, edit.before or "", edit.after or "") for edit in target.changes.edits],
        bootloader=target.loader.name if target.loader else None,
        next_boot=[_shown(entry, target.flags) for entry in target.next_boot],
        missing_flags=kernel_flags.missing(target.flags, facts.running),
    )


SPEC: _module.Spec = {
    **_module.STATE,
    "flags": _module.STRINGS,
    "rebuild": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 300},
}
main = _module.main_of(SPEC, work)
