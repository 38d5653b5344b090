# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_cloudpods_config module, which changes the Cloudpods configuration of a host."""

from __future__ import annotations

from .. import _module
from ..engine.cloud import cloudpods, cloudpods_plan


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    options = {name: params[name] for name in ("path", "gpus", "require_vgpus", "restarted")}
    desired = cloudpods_plan.Request(present=params["state"] == "present", **options)
    if not request.check_mode:
        cloudpods.clean(ctx, desired)
    plan = cloudpods_plan.plan(cloudpods.read(ctx, desired), desired)
    if plan.steps and not request.check_mode:
        cloudpods.apply(ctx, plan)
    target = plan.target
    before, after = (target.edit.before, target.edit.after) if target.edit else ("", "")
    return _module.result_of(
        plan.steps,
        warnings=plan.warnings,
        diff=_module.titled_diff("%s (%s)" % (target.path, cloudpods_plan.KEY), before, after),
        addresses=target.addresses,
        gpus=[gpu.address for gpu in target.gpus],
        vgpus=sum(len(gpu.vgpus) for gpu in target.gpus),
        restart_pending=target.restart,
    )


SPEC: _module.Spec = {
    **_module.STATE,
    **_module.GPUS,
    "require_vgpus": {"type": "bool", "default": True},
    "restarted": {"type": "bool", "default": False},
    "path": {"type": "path", "default": cloudpods_plan.PATH},
}
main = _module.main_of(SPEC, work)
