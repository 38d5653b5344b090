# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a layout, from options to the result."""

from __future__ import annotations

from .. import _module
from ..engine.checks import in_use
from ..engine.read import host, inventory
from ..engine.state import layout_file
from ..engine.system import mdevctl
from ..engine.vgpu import apply as vgpu_apply, diff, layout, plan as vgpu_plan


def _vgpus(result):
    return [
        {
            "gpu": pf,
            "vf": one.slot.parent,
            "vf_index": one.slot.index,
            "type": one.type.short,
            "uuid": one.uuid,
        }
        for pf in sorted(result.placed)
        for one in result.placed[pf]
    ]


def _all_offer(found, wishes):
    """Whether the GPUs that get vGPUs offer them, so that no plan has to say what of the host is in the way."""
    wanted = [found.gpu(pf) for pf in wishes if wishes[pf] or wishes[pf].needs_mig]
    return all(gpu.types and (gpu.mig or not wishes[gpu.address].needs_mig) for gpu in wanted)


def work(request, ctx):
    params = request.params
    entries, troubles = layout.parse(params["layout"])
    found = inventory.read(ctx)
    wishes, wrong = layout.by_gpu(entries, found)
    troubles += wrong
    if not request.check_mode and not troubles:
        found = inventory.await_types(ctx, found, [pf for pf in wishes if wishes[pf]], params["timeout"])
    state = host.identity(ctx) if _all_offer(found, wishes) else host.read(ctx)
    stored = layout_file.read(ctx.root)
    sizes = [pf for pf in wishes if wishes[pf].mixed or (pf in stored and stored[pf].mixed)]
    inventory.read_mixed(ctx, [gpu for gpu in found.gpus if gpu.address in sizes])
    options = vgpu_plan.Options(
        params["force_remove"],
        _module.wants_mdevctl(request, mdevctl.binary(ctx)),
        params["persist"],
        _module.assumed(request),
        params["lost_gpus"],
    )
    definitions = mdevctl.definitions(ctx.root)

    def plan():
        return vgpu_plan.plan(found, state, wishes, stored, definitions, options, troubles)

    result = plan()
    if in_use.ask_driver(ctx, found, in_use.removed(result.steps)):
        result = plan()  # what nvidia-smi calls in use is refused, or kept
    _module.refuse_lost(request, result.steps)
    if result.steps and not request.check_mode:
        vgpu_apply.apply(ctx, result.steps, params["timeout"], params["settle"])
    return dict(
        {
            "changed": bool(result.steps),
            "actions": _module.sentences(result.steps),
            "vgpus": _vgpus(result),
            "warnings": result.warnings + in_use.domain_warnings(ctx, in_use.removed(result.steps), "the vGPU goes"),
        },
        **dict(_module.lost(result), **_module.diff(request, lambda: (diff.lines(found), diff.lines(found, result))))
    )


SPEC = dict(
    {
        "layout": dict(_module.LAYOUT, required=True),
        "force_remove": {"type": "list", "elements": "str", "default": []},
        "persist": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 60},
        "settle": {"type": "float", "default": 2},
    },
    **dict(_module.LOCK, **dict(_module.ASSUME, **dict(_module.LOST, **_module.MDEVCTL)))
)
