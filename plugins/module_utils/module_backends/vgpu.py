# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_vgpu module, which creates and removes vGPUs to match a layout."""

from __future__ import annotations

from .. import _module
from ..engine.runs import vgpus
from ..engine.system import mdevctl
from ..engine.vgpu.target import Options


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    wants_mdevctl = _module.wants_mdevctl(request, mdevctl.binary(ctx))
    options = Options(params["force_remove"], wants_mdevctl, params["persist"], _module.assumed(request), params["unresponsive_gpus"])
    outcome = vgpus.run(ctx, vgpus.Request(params["layout"], options, request.check_mode, params["timeout"], params["settle"]))
    result = _module.result_of_plan(outcome.plan, outcome.more_warnings, vgpus=outcome.vgpus())
    if getattr(request, "_diff", False):  # Creating a diff is slow, so the module returns a diff only in diff mode.
        before, after = outcome.diff()
        result["diff"] = {"before": before, "after": after}
    return result


SPEC: _module.Spec = {
    **_module.ASSUME,
    **_module.FORCE,
    **_module.UNRESPONSIVE,
    **_module.MDEVCTL,
    "layout": {**_module.LAYOUT, "required": True},
    "persist": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
    "settle": {"type": "float", "default": 2},
}
main = _module.main_of(SPEC, work)
