# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_sriov module, which enables and disables GPU VFs."""

from __future__ import annotations

from .. import _module
from ..engine.base.plan import Plan
from ..engine.checks import in_use
from ..engine.read import host, inventory
from ..engine.sriov import apply as sriov_apply, plan as sriov_plan
from ..engine.system import sriov_manage


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    enabled = params["state"] == "enabled"
    found = inventory.read(ctx, with_types=False)
    same = {name: params[name] for name in ("num_vfs", "reset", "method")}
    has_tool = sriov_manage.installed(ctx)
    options = sriov_plan.Options(enabled=enabled, has_tool=has_tool, assume=_module.assumed(request), unresponsive=params["unresponsive_gpus"], **same)
    plan = sriov_plan.plan(found, host.read(ctx), params["gpus"], options)
    gpus = meant = plan.target.gpus
    before = after = [(gpu.address, gpu.num_vfs) for gpu in meant]
    if plan.steps:
        after = [(gpu.address, (params["num_vfs"] or gpu.total_vfs) if enabled else 0) for gpu in meant]
    without_types = []
    if request.check_mode:
        plan.refuse_unresponsive()
    elif sriov_apply.apply(ctx, plan, params["timeout"]):
        gpus = sriov_apply.after(ctx, meant)
        without_types = sriov_apply.without_types(gpus)
    return _module.result_of_plan(
        plan,
        in_use.domain_warnings(ctx, _going(plan), "the VF is removed"),
        diff={name: "".join("%s %d VFs\n" % row for row in rows) for name, rows in (("before", before), ("after", after))},
        gpus=[
            {"address": gpu.address, "sriov_numvfs": gpu.num_vfs, "sriov_totalvfs": gpu.total_vfs, "vfs": [vf.address for vf in gpu.vfs]}
            for gpu in gpus
        ],
        without_sriov=[one.as_dict() for one in plan.target.skipped],
        without_types=without_types,
    )


def _going(plan: Plan[sriov_plan.Target]) -> list[str]:
    """Returns the addresses of the VFs that the plan disables without enabling them again."""
    back = {step.device for step in plan.steps if step.kind == "enable"}
    off = {step.device for step in plan.steps if step.kind == "disable"} - back
    return [vf.address for gpu in plan.target.gpus if gpu.address in off for vf in gpu.vfs]


SPEC: _module.Spec = {
    **_module.GPUS,
    **_module.ASSUME,
    **_module.UNRESPONSIVE,
    "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
    "num_vfs": {"type": "int"},
    "reset": {"type": "bool", "default": False},
    "method": {"type": "str", "choices": ["auto", "sriov_manage", "sysfs"], "default": "auto"},
    "timeout": {"type": "int", "default": 120},
}
main = _module.main_of(SPEC, work)
