# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_mig module, which sets the MIG mode and the GPU instances."""

from __future__ import annotations

from typing import Any

from .. import _module
from ..engine.base.errors import Refusal
from ..engine.base.plan import Skipped
from ..engine.mig import apply as mig_apply, plan as mig_plan
from ..engine.mig.selection import Request
from ..engine.read import host, inventory
from ..engine.system import sriov_manage
from ..engine.vgpu import layout


def _requests(params: dict[str, Any], found: inventory.Inventory, ctx: _module.Context) -> tuple[dict[str, Request], list[Skipped], list[Refusal]]:
    """Returns the MIG requests keyed by GPU address, the skipped GPUs, and the option errors."""
    if params["layout"] is not None:
        entries, errors = layout.parse(params["layout"])
        specs, wrong = layout.by_gpu(entries, found)
        unlisted = [gpu for gpu in found.gpus if gpu.address in specs and specs[gpu.address].numbered and not gpu.types]
        requested, refused = layout.mig_requests(specs, found, inventory.supported(ctx, unlisted))
        return requested, [], errors + wrong + refused
    requests: dict[str, Request] = {}
    skipped: list[Skipped] = []
    errors = []
    mode = {"enabled": True, "disabled": False}.get(params["mode"])
    for word in params["gpus"]:
        gpus, wrong = found.select([word])
        errors += wrong
        for gpu in gpus:
            if word.strip().lower() == "all" and not gpu.has_mig:
                skipped.append(Skipped(gpu.address, "%s does not support MIG" % gpu.name))
            else:
                requests[gpu.address] = Request(mode, params["instances"])
    return requests, skipped, errors


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    found = inventory.read(ctx)
    requests, skipped, errors = _requests(params, found, ctx)
    asked = [gpu for gpu in found.gpus if gpu.address in requests and (requests[gpu.address].mode or requests[gpu.address].instances)]
    inventory.read_mig(ctx, [gpu for gpu in asked if not gpu.may_have_mig], True)
    known = mig_plan.Host(found, host.read(ctx), mig_apply.users(found), sriov_manage.installed(ctx))
    options = mig_plan.Options(cycle_vfs=params["cycle_vfs"], assume=_module.assumed(request), unresponsive=params["unresponsive_gpus"])
    plan = mig_plan.plan(known, requests, options, errors)
    if request.check_mode:
        plan.refuse_unresponsive()
    else:
        mig_apply.apply(ctx, plan, params["timeout"])
    target = plan.target
    return _module.result_of_plan(
        plan,
        diff={"before": mig_plan.lines(target.gpus), "after": mig_plan.lines(target.gpus, target.after)},
        gpus=[{"address": pf, "mode": state.mode, "instances": state.instances} for pf, state in sorted(target.after.items())],
        without_mig=[one.as_dict() for one in skipped + target.skipped],
    )


SPEC: _module.Spec = {
    **_module.GPUS,
    **_module.ASSUME,
    **_module.UNRESPONSIVE,
    "mode": {"type": "str", "choices": ["enabled", "disabled"]},
    "instances": {"type": "list", "elements": "str"},
    "layout": _module.LAYOUT,
    "cycle_vfs": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}
main = _module.main_of(
    SPEC, work, mutually_exclusive=[("layout", "mode"), ("layout", "instances")], required_one_of=[("layout", "mode", "instances")]
)
