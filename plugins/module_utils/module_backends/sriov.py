# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VFs, from options to the result."""

from __future__ import annotations

from .. import _module
from ..engine.checks import in_use
from ..engine.read import host, inventory
from ..engine.sriov import apply as sriov_apply, plan as sriov_plan
from ..engine.system import sriov_manage


def _lines(result, params, planned):
    rows = []
    for gpu in result.gpus:
        number = gpu.num_vfs
        if planned:
            number = (params["num_vfs"] or gpu.total_vfs) if params["state"] == "enabled" else 0
        rows.append("%s %d VFs\n" % (gpu.address, number))
    return "".join(rows)


def work(request, ctx):
    params = request.params
    found = inventory.read(ctx, with_types=False)
    result = sriov_plan.plan(
        found,
        host.read(ctx),
        params["gpus"],
        params["state"] == "enabled",
        params["num_vfs"],
        params["reset"],
        params["method"],
        sriov_manage.installed(ctx),
        _module.assumed(request),
        params["lost_gpus"],
    )
    _module.refuse_lost(request, result.steps)
    gpus = result.gpus
    without_types = []
    if result.steps and not request.check_mode:
        sriov_apply.apply(ctx, result, params["timeout"])
        gpus = sriov_apply.after(ctx, result.gpus)
        without_types = sriov_apply.without_types(gpus)
    return dict(
        {
            "changed": bool(result.steps),
            "actions": _module.sentences(result.steps),
            "diff": {"before": _lines(result, params, False), "after": _lines(result, params, bool(result.steps))},
            "gpus": [
                {
                    "address": gpu.address,
                    "sriov_numvfs": gpu.num_vfs,
                    "sriov_totalvfs": gpu.total_vfs,
                    "vfs": [vf.address for vf in gpu.vfs],
                }
                for gpu in gpus
            ],
            "without_sriov": result.skipped,
            "without_types": without_types,
            "warnings": result.warnings + in_use.domain_warnings(ctx, _going(result), "the VF goes"),
        },
        **_module.lost(result)
    )


def _going(result):
    """Addresses of the VFs that are turned off and not on again."""
    back = {step.device for step in result.steps if step.kind == "enable"}
    off = {step.device for step in result.steps if step.kind == "disable"} - back
    return [vf.address for gpu in result.gpus if gpu.address in off for vf in gpu.vfs]


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
