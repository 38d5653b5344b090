# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG mode and GPU instances, from options to the result."""

from __future__ import annotations

from .. import _module
from ..engine.mig import apply as mig_apply, plan as mig_plan
from ..engine.read import host, inventory
from ..engine.system import sriov_manage
from ..engine.vgpu import layout


def _wanted(params, found):
    """Wanted by GPU address, GPUs left out, and troubles."""
    if params["layout"] is not None:
        entries, troubles = layout.parse(params["layout"])
        wishes, wrong = layout.by_gpu(entries, found)
        return mig_plan.from_layout(wishes, found), [], troubles + wrong
    wanted, skipped, troubles = {}, [], []
    mode = {"enabled": True, "disabled": False}.get(params["mode"])
    for word in params["gpus"]:
        gpus, wrong = found.select([word])
        troubles += wrong
        for gpu in gpus:
            if word.strip().lower() == "all" and not gpu.has_mig:
                skipped.append({"gpu": gpu.address, "reason": "%s has no MIG" % gpu.name})
            else:
                wanted[gpu.address] = mig_plan.Wanted(mode, params["instances"])
    return wanted, skipped, troubles


def work(request, ctx):
    params = request.params
    found = inventory.read(ctx)
    wanted, skipped, troubles = _wanted(params, found)
    result = mig_plan.plan(
        found, host.read(ctx), wanted, params["cycle_vfs"], sriov_manage.installed(ctx), _module.assumed(request), troubles,
        params["lost_gpus"],
    )
    _module.refuse_lost(request, result.steps)
    if not request.check_mode:
        mig_apply.apply(ctx, result.steps, params["timeout"])
    return dict(
        {
            "changed": bool(result.steps),
            "actions": _module.sentences(result.steps),
            "diff": {"before": mig_plan.lines(result.gpus), "after": mig_plan.lines(result.gpus, result.after)},
            "gpus": [{"address": pf, "mode": result.after[pf][0], "instances": result.after[pf][1]} for pf in sorted(result.after)],
            "without_mig": skipped + result.skipped,
            "warnings": result.warnings,
        },
        **_module.lost(result)
    )


SPEC = dict(
    {
        "gpus": {"type": "list", "elements": "str", "default": ["all"]},
        "mode": {"type": "str", "choices": ["enabled", "disabled"]},
        "instances": {"type": "list", "elements": "str"},
        "layout": _module.LAYOUT,
        "cycle_vfs": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 120},
    },
    **dict(_module.LOCK, **dict(_module.ASSUME, **_module.LOST))
)
