# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_pci_driver module, which binds GPUs to a kernel driver."""

from __future__ import annotations

from typing import Sequence

from .. import _module
from ..engine.base.errors import error
from ..engine.base.plan import Plan
from ..engine.binding import apply as binding_apply, backups, boot_files, plan as binding_plan, rebuilds
from ..engine.checks import in_use
from ..engine.hardware.gpu import Gpu
from ..engine.read import host, inventory


def _diff(plan: Plan[binding_plan.Target], gpus: Sequence[Gpu]) -> list[dict[str, str]]:
    diffs = [_module.titled_diff(edit.path, edit.before or "", edit.after or "") for edit in plan.target.edits]
    moved = {step.device for step in plan.steps if step.kind in ("unbind", "bind")}
    bound = {step.device for step in plan.steps if step.kind == "bind"}
    before = {gpu.address: gpu.driver or "no driver" for gpu in gpus if gpu.address in moved}
    after = {address: "nvidia" if address in bound else "no driver" for address in before}
    if before:
        lines = ["".join("%s %s\n" % line for line in drivers.items()) for drivers in (before, after)]
        diffs.append(_module.titled_diff("driver of each GPU", *lines))
    return diffs


def _plan(request: _module.Task, ctx: _module.Context, found: inventory.Inventory) -> Plan[binding_plan.Target]:
    params, boot = request.params, boot_files.read(ctx.root)
    if params["driver"] == "original":
        if not params["boot"]:
            expected = "boot: true, because driver: original affects only boot files"
            raise error("driver is original, and boot is false", device="boot", expected=expected, code="bad_boot")
        return binding_plan.plan_back(boot, *backups.back(ctx.root))
    options = binding_plan.Options(params["driver"], params["boot"], _module.assumed(request), params["unresponsive_gpus"])
    return binding_plan.plan(found, host.read(ctx), boot, params["gpus"], options)


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    found = inventory.read(ctx, with_types=False)
    plan = _plan(request, ctx, found)
    if params["initramfs"]:
        binding_plan.add_rebuild(plan, host.read(ctx).initramfs_command, params["initramfs_stale"])
    if request.check_mode:
        plan.refuse_unresponsive()
    else:
        binding_apply.apply(ctx, plan, params["timeout"])
        if params["driver"] == "original":
            backups.settle(ctx.root)
    gpus = found.select(params["gpus"])[0]
    moved = [step.device for step in plan.steps if step.device and step.kind == "unbind"]
    return _module.result_of_plan(
        plan,
        in_use.domain_warnings(ctx, moved, "the GPU is removed from passthrough"),
        diff=_diff(plan, gpus),
        gpus=[{"address": gpu.address, "driver_before": gpu.driver} for gpu in gpus],
        boot_causes=[cause.as_dict() for cause in plan.target.causes],
        initramfs_update_needed=rebuilds.INITRAMFS in plan.target.rebuilds,
        bootloader_update_needed=rebuilds.BOOTLOADER in plan.target.rebuilds,
        reboot_reasons=plan.target.reboot,
    )


SPEC: _module.Spec = {
    **_module.GPUS,
    **_module.ASSUME,
    **_module.UNRESPONSIVE,
    "driver": {"type": "str", "choices": ["nvidia", "none", "original"], "default": "nvidia"},
    "boot": {"type": "bool", "default": True},
    "initramfs": {"type": "bool", "default": False},
    "initramfs_stale": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}
main = _module.main_of(SPEC, work)
