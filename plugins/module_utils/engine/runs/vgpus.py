# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a layout in one run: reads the host, plans the steps, and performs the steps. Used by nvidia_vgpu, 'vgpuctl plan', and 'vgpuctl apply'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ..base.errors import raise_if_any
from ..checks import in_use
from ..fabric.plan import Card, takes_card
from ..read import fabric as fabric_reader, host, inventory
from ..state import layout_file
from ..system import mdevctl
from ..system.context import Context
from ..vgpu import apply as vgpu_apply, layout, plan as vgpu_plan
from ..vgpu.target import Host, LayoutPlan, Options
from . import fabric


@dataclass(eq=False, repr=False)
class Request:
    """A user's request for a layout.

    If ``dry`` is true, the host is not changed. All times are in seconds, like the nvidia_vgpu options.
    """

    layout: Any
    options: Options
    dry: bool = False
    timeout: float = 60
    settle: float = 2


@dataclass(eq=False, repr=False)
class Outcome:
    """The plan, including NVLink fabric steps. The steps have been performed unless the request was dry.

    ``more_warnings`` contains warnings about VMs whose vGPUs the plan removes.
    """

    inventory: inventory.Inventory
    plan: LayoutPlan
    fabric: fabric.Run
    more_warnings: list[str]

    def vgpus(self) -> list[dict[str, Any]]:
        """Returns the current or planned vGPUs on the GPUs that the layout lists."""
        return [
            {"gpu": pf, "vf": one.slot.parent, "vf_index": one.slot.index, "type": one.type.short, "uuid": one.uuid}
            for pf, target in sorted(self.plan.target.gpus.items())
            for one in target.placed or ()
        ]

    def diff(self) -> tuple[str, str]:
        """Returns the vGPUs and active fabric partitions before and after the run, as text with one item per line."""
        before, after = vgpu_plan.lines(self.inventory), vgpu_plan.lines(self.inventory, self.plan.target)
        return before + self.fabric.lines(), after + self.fabric.lines(after=True)


def run(ctx: Context, request: Request) -> Outcome:
    """Plans a layout, and applies the plan unless the request is dry. Raises EngineError with all errors. The caller must hold the host lock."""
    entries, errors = layout.parse(request.layout)
    found = inventory.read(ctx)
    specs, wrong = layout.by_gpu(entries, found)
    errors += wrong
    if not request.dry and not errors:
        found = inventory.await_types(ctx, found, [pf for pf, spec in specs.items() if spec.vgpus], request.timeout)
    inventory.read_mig(ctx, [gpu for gpu in found.gpus if gpu.address in specs and specs[gpu.address].needs_mig and not gpu.may_have_mig], True)
    state = host.identity(ctx) if _all_offer(found, specs) else host.read(ctx)
    stored = layout_file.read(ctx.root)
    sizes = {pf for pf, spec in specs.items() if spec.mixed} | {pf for pf, gpu in stored.items() if gpu.mixed is not None}
    inventory.read_mixed(ctx, [gpu for gpu in found.gpus if gpu.address in sizes and gpu.alive])
    known = Host(found, state, stored, mdevctl.definitions(ctx.root), in_use.defined(ctx))
    plan = in_use.settled(ctx, found, lambda: vgpu_plan.plan(known, specs, request.options, errors), lambda made: in_use.touched(made.steps))
    going = _going(known, plan)
    partitions = _partitions(ctx, found, plan, request)
    if not request.dry:
        fabric.apply(ctx, partitions.plan.steps, lambda: vgpu_apply.apply(ctx, plan, request.timeout, request.settle), len(plan.steps))
    plan.steps += partitions.plan.steps
    plan.warnings += partitions.plan.warnings
    if request.dry:
        plan.refuse_unresponsive()
    return Outcome(found, plan, partitions, in_use.domain_warnings(ctx, going, "the vGPU is removed"))


def _partitions(ctx: Context, found: inventory.Inventory, plan: LayoutPlan, request: Request) -> fabric.Run:
    """Plans the fabric for the whole-card vGPUs that exist after the run.

    Raises EngineError if the layout requests partitions that the board does not provide.
    """
    there = any(fabric_reader.present(ctx, found))
    cards = [] if not there else [
        Card(gpu.address, one.slot.parent, one.key, one.spec.fabric)
        for gpu in found.gpus for one in plan.target.of(gpu.address).placed or () if takes_card(gpu, one.type.short, one.type.max_instances)
    ]
    going = {vgpu.parent for target in plan.target.gpus.values() for vgpu in target.removed}
    staying = {vgpu.parent for vgpu in found.vgpus} - going | {card.vf for card in cards}
    options = fabric.Options(0 if request.dry else request.timeout, request.dry and "driver" in request.options.assume, staying)
    made = fabric.prepare(ctx, found, fabric.wanted(ctx, cards), options)
    raise_if_any(made.plan.errors)
    return made


def _going(known: Host, plan: LayoutPlan) -> list[str]:
    """Returns the keys of vGPUs that the plan removes, and of missing vGPUs that the new layout does not store."""
    staying = {one.key for target in plan.target.gpus.values() for one in target.placed or ()} | {one.key for one in known.inventory.vgpus}
    stored = [one.key for pf, gpu in known.stored.items() if pf in plan.target.gpus for one in gpu.vgpus] if plan.target.store_text else []
    return in_use.removed(plan.steps) + [key for key in stored if key not in staying]


def _all_offer(found: inventory.Inventory, specs: Mapping[str, layout.GpuSpec]) -> bool:
    """Returns whether all GPUs that get vGPUs offer vGPU types. If true, the plan does not need to report host problems."""
    meant = [(found.gpu(pf), spec) for pf, spec in specs.items() if spec.vgpus or spec.needs_mig]
    return all(gpu and gpu.types and (gpu.mig or not spec.needs_mig) for gpu, spec in meant)
