# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a layout, from options to the result."""

from __future__ import annotations

from typing import Mapping

from .. import _module
from ..engine.checks import in_use
from ..engine.read import host, inventory
from ..engine.state import layout_file
from ..engine.system import mdevctl
from ..engine.vgpu import apply as vgpu_apply, layout, plan as vgpu_plan
from ..engine.vgpu.target import Host, Options


def _all_offer(found: inventory.Inventory, specs: Mapping[str, layout.GpuSpec]) -> bool:
    """Whether the GPUs that get vGPUs offer them, so that no plan has to report what of the host is in the way."""
    meant = [(found.gpu(pf), spec) for pf, spec in specs.items() if spec.vgpus or spec.needs_mig]
    return all(gpu and gpu.types and (gpu.mig or not spec.needs_mig) for gpu, spec in meant)


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    entries, errors = layout.parse(params["layout"])
    found = inventory.read(ctx)
    specs, wrong = layout.by_gpu(entries, found)
    errors += wrong
    if not request.check_mode and not errors:
        found = inventory.await_types(ctx, found, [pf for pf, spec in specs.items() if spec.vgpus], params["timeout"])
    inventory.read_mig(ctx, [gpu for gpu in found.gpus if gpu.address in specs and specs[gpu.address].needs_mig and not gpu.may_have_mig], True)
    state = host.identity(ctx) if _all_offer(found, specs) else host.read(ctx)
    stored = layout_file.read(ctx.root)
    sizes = {pf for pf, spec in specs.items() if spec.mixed} | {pf for pf, gpu in stored.items() if gpu.mixed is not None}
    inventory.read_mixed(ctx, [gpu for gpu in found.gpus if gpu.address in sizes and gpu.alive])
    wants_mdevctl = _module.wants_mdevctl(request, mdevctl.binary(ctx))
    options = Options(params["force_remove"], wants_mdevctl, params["persist"], _module.assumed(request), params["unresponsive_gpus"])
    known = Host(found, state, stored, mdevctl.definitions(ctx.root))
    plan = in_use.settled(ctx, found, lambda: vgpu_plan.plan(known, specs, options, errors), lambda made: in_use.touched(made.steps))
    if request.check_mode:
        plan.refuse_unresponsive()
    else:
        vgpu_apply.apply(ctx, plan, params["timeout"], params["settle"])
    going = in_use.removed(plan.steps)
    vgpus = [
        {"gpu": pf, "vf": one.slot.parent, "vf_index": one.slot.index, "type": one.type.short, "uuid": one.uuid}
        for pf, target in sorted(plan.target.gpus.items())
        for one in target.placed or ()
    ]
    result = _module.result_of_plan(plan, in_use.domain_warnings(ctx, going, "the vGPU goes"), vgpus=vgpus)
    if getattr(request, "_diff", False):  # its text takes a while, and is made only if somebody asked
        result["diff"] = {"before": vgpu_plan.lines(found), "after": vgpu_plan.lines(found, plan.target)}
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
