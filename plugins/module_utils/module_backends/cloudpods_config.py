# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloudpods' host configuration, from options to the result."""

from __future__ import annotations

from typing import Any, Dict

from .. import _module
from ..engine.cloud import cloudpods, cloudpods_plan
from ..engine.system.context import Context


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    params = request.params
    options = {name: params[name] for name in ("path", "gpus", "require_vgpus", "restarted")}
    desired = cloudpods_plan.Request(present=params["state"] == "present", **options)
    if not request.check_mode:
        cloudpods.clean(ctx, desired)
    plan = cloudpods_plan.plan(cloudpods.read(ctx, desired), desired)
    if plan.steps and not request.check_mode:
        cloudpods.apply(ctx, plan)
    target = plan.target
    title = "%s (%s)" % (target.path, cloudpods_plan.KEY)
    return {
        "changed": bool(plan.steps),
        "actions": _module.sentences(plan.steps),
        "diff": {
            "before": target.edit.before if target.edit else "",
            "after": target.edit.after if target.edit else "",
            "before_header": title,
            "after_header": title,
        },
        "addresses": target.addresses,
        "gpus": [gpu.address for gpu in target.gpus],
        "vgpus": sum(len(gpu.vgpus) for gpu in target.gpus),
        "restart_due": target.restart,
        "warnings": plan.warnings,
    }


SPEC: Dict[str, Any] = dict(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "gpus": {"type": "list", "elements": "str", "default": ["all"]},
        "require_vgpus": {"type": "bool", "default": True},
        "restarted": {"type": "bool", "default": False},
        "path": {"type": "path", "default": cloudpods_plan.PATH},
    },
    **_module.LOCK
)
