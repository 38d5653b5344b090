# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VFs, from options to the result."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from .. import _module
from ..engine.base.plan import Plan
from ..engine.checks import in_use
from ..engine.hardware.gpu import Gpu
from ..engine.read import host, inventory
from ..engine.sriov import apply as sriov_apply, plan as sriov_plan
from ..engine.system import sriov_manage
from ..engine.system.context import Context


def _lines(gpus: Sequence[Gpu], params: Dict[str, Any], planned: bool) -> str:
    rows = []
    for gpu in gpus:
        number = gpu.num_vfs
        if planned:
            number = (params["num_vfs"] or gpu.total_vfs) if params["state"] == "enabled" else 0
        rows.append("%s %d VFs\n" % (gpu.address, number))
    return "".join(rows)


def work(request: _module.Task, ctx: Context) -> _module.Result:
    params = request.params
    found = inventory.read(ctx, with_types=False)
    options = sriov_plan.Options(
        enabled=params["state"] == "enabled",
        num_vfs=params["num_vfs"],
        reset=params["reset"],
        method=params["method"],
        has_tool=sriov_manage.installed(ctx),
        assume=_module.assumed(request),
        unresponsive=params["lost_gpus"],
    )
    plan = sriov_plan.plan(found, host.read(ctx), params["gpus"], options)
    _module.refuse_unresponsive(request, plan)
    gpus = meant = plan.target.gpus
    without_types = []
    if not request.check_mode and sriov_apply.apply(ctx, plan, params["timeout"]):
        gpus = sriov_apply.after(ctx, meant)
        without_types = sriov_apply.without_types(gpus)
    return dict(
        {
            "changed": bool(plan.steps),
            "actions": _module.sentences(plan.steps),
            "diff": {"before": _lines(meant, params, False), "after": _lines(meant, params, bool(plan.steps))},
            "gpus": [
                {
                    "address": gpu.address,
                    "sriov_numvfs": gpu.num_vfs,
                    "sriov_totalvfs": gpu.total_vfs,
                    "vfs": [vf.address for vf in gpu.vfs],
                }
                for gpu in gpus
            ],
            "without_sriov": [one.as_dict() for one in plan.target.skipped],
            "without_types": without_types,
            "warnings": plan.warnings + in_use.domain_warnings(ctx, _going(plan), "the VF goes"),
        },
        **_module.unresponsive(plan)
    )


def _going(plan: Plan[sriov_plan.Target]) -> List[str]:
    """Addresses of the VFs that are disabled and not enabled again."""
    back = {step.device for step in plan.steps if step.kind == "enable"}
    off = {step.device for step in plan.steps if step.kind == "disable"} - back
    return [vf.address for gpu in plan.target.gpus if gpu.address in off for vf in gpu.vfs]


SPEC = dict(
    {
        "gpus": {"type": "list", "elements": "str", "default": ["all"]},
        "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
        "num_vfs": {"type": "int"},
        "reset": {"type": "bool", "default": False},
        "method": {"type": "str", "choices": ["auto", "sriov_manage", "sysfs"], "default": "auto"},
        "timeout": {"type": "int", "default": 120},
    },
    **dict(_module.LOCK, **dict(_module.ASSUME, **_module.LOST))
)
