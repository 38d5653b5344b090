# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel driver GPUs are bound to, from options to the result."""

from __future__ import annotations

from typing import Dict, List, Sequence

from .. import _module
from ..engine.base.errors import trouble
from ..engine.base.plan import Plan
from ..engine.binding import apply as binding_apply, backups, boot_files, plan as binding_plan, rebuilds
from ..engine.checks import in_use
from ..engine.hardware.gpu import Gpu
from ..engine.read import host, inventory
from ..engine.system.context import Context


def _diff(plan: Plan[binding_plan.Target], gpus: Sequence[Gpu]) -> List[Dict[str, str]]:
    diffs = [
        {
            "before_header": edit.path,
            "after_header": edit.path,
            "before": edit.before or "",
            "after": edit.after or "",
        }
        for edit in plan.target.edits
    ]
    moved = {step.device for step in plan.steps if step.kind in ("unbind", "bind")}
    bound = {step.device for step in plan.steps if step.kind == "bind"}
    lines = [(gpu.address, gpu.driver or "no driver") for gpu in gpus if gpu.address in moved]
    if lines:
        diffs.append(
            {
                "before_header": "driver of each GPU",
                "after_header": "driver of each GPU",
                "before": "".join("%s %s\n" % line for line in lines),
                "after": "".join("%s %s\n" % (one, "nvidia" if one in bound else "no driver") for one, dummy in lines),
            }
        )
    return diffs


def _plan(request: _module.Task, ctx: Context, found: inventory.Inventory) -> Plan[binding_plan.Target]:
    params, boot = request.params, boot_files.read(ctx.root)
    if params["driver"] == "original":
        if not params["boot"]:
            raise trouble("driver is original, and boot is false", device="boot", wanted="boot: true: it is about boot files alone", code="bad_boot")
        return binding_plan.plan_back(boot, *backups.back(ctx.root))
    options = binding_plan.Options(
        driver=params["driver"], edit_boot=params["boot"], assume=_module.assumed(request), unresponsive=params["lost_gpus"]
    )
    return binding_plan.plan(found, host.read(ctx), boot, params["gpus"], options)


def work(request: _module.Task, ctx: Context) -> _module.Result:
    params = request.params
    found = inventory.read(ctx, with_types=False)
    plan = _plan(request, ctx, found)
    _module.refuse_unresponsive(request, plan)
    if not request.check_mode:
        binding_apply.apply(ctx, plan, params["timeout"])
    gpus = found.select(params["gpus"])[0]
    moved = [step.device for step in plan.steps if step.device and step.kind == "unbind"]
    return dict(
        {
            "changed": bool(plan.steps),
            "actions": _module.sentences(plan.steps),
            "diff": _diff(plan, gpus),
            "gpus": [{"address": gpu.address, "driver_before": gpu.driver} for gpu in gpus],
            "boot_causes": [cause.as_dict() for cause in plan.target.causes],
            "initramfs_update_needed": rebuilds.INITRAMFS in plan.target.rebuilds,
            "bootloader_update_needed": rebuilds.BOOTLOADER in plan.target.rebuilds,
            "reboot_reasons": plan.target.reboot,
            "warnings": plan.warnings + in_use.domain_warnings(ctx, moved, "it is taken from passthrough"),
        },
        **_module.unresponsive(plan)
    )


SPEC = dict(
    {
        "gpus": {"type": "list", "elements": "str", "default": ["all"]},
        "driver": {"type": "str", "choices": ["nvidia", "none", "original"], "default": "nvidia"},
        "boot": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 60},
    },
    **dict(_module.LOCK, **dict(_module.ASSUME, **_module.LOST))
)
