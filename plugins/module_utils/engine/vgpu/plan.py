# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps for a layout: the VF for each vGPU, and the vGPUs to keep and remove. This module does not access the host.

Matching vGPUs are kept, and only surplus vGPUs are removed. A vGPU in use is only removed if listed in force_remove. Free VFs are used in numeric
order. A UUID depends on the machine, PF, and VF number, so a recreated vGPU has the same UUID. In a framework without UUIDs, a recreated vGPU has the
same VF. GPU instances and mixed-size mode are changed after removals and before creations. A vGPU's mdevctl definition contains the parent and type,
and only the collection starts the vGPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Sequence

from ..base.errors import Refusal
from ..base.plan import Plan
from ..base.steps import Step
from ..hardware.gpu import Gpu, Vgpu
from ..mig import placement as mig_placement
from ..read.inventory import Inventory
from ..state import layout_file
from ..state.paths import STORE
from ..system.mdevctl import Definition
from . import autostart
from .gpu_plan import guard_removal, plan_gpu, unset_mixed
from .layout import GpuSpec, named, plain_params
from .target import GpuRequest, GpuTarget, Host, LayoutPlan, Options, Placed, Target, titled


def plan(host: Host, specs: Mapping[str, GpuSpec], options: Options, errors: Sequence[Refusal] = (), listed_only: bool = False) -> LayoutPlan:
    """Plans the specs that layout.by_gpu returns. Raises EngineError with the given errors, followed by all planning errors.

    ``listed_only`` leaves GPUs without a spec unchanged, for requests other than layouts.
    """
    result = Plan(Target(), errors=list(errors))
    alive = {gpu.address for gpu in host.inventory.gpus if gpu.alive}
    explicit = {one.uuid: pf in alive for pf, spec in specs.items() for one in spec.vgpus if one.uuid}
    for gpu in host.inventory.gpus:
        if gpu.address in specs and not result.skips(gpu, "apply the layout to the vGPUs", options.unresponsive):
            plan_gpu(result, GpuRequest(gpu, named(gpu, specs[gpu.address]), host, options, explicit))
    for gpu in host.inventory.gpus:
        if gpu.address not in specs and gpu.alive and not listed_only:
            _plan_unlisted(result, host, gpu, options)
    result.errors += _foreign_uuids(result, host, specs)
    result.refuse()
    _add_steps(result, host, options)
    if not listed_only:
        result.warnings += [str(one) for pf in sorted(specs) for one in _autostarted(result, host, pf)]
    return result


def _autostarted(result: LayoutPlan, host: Host, pf: str) -> list[Refusal]:
    """Returns warnings about other vGPUs that mdevctl will start on the GPU at each boot after the run."""
    gpu, placed = host.inventory.gpu(pf), result.target.of(pf).placed or ()
    ours = {one.uuid for one in placed} | {step.args["uuid"] for step in result.steps if step.kind == "undefine"}
    return autostart.foreign(host.definitions, {pf, *[vf.address for vf in gpu.vfs], *[one.slot.parent for one in placed]}, ours) if gpu else []


def _plan_unlisted(result: LayoutPlan, host: Host, gpu: Gpu, options: Options) -> None:
    """Plans a GPU that is not in the layout: vGPUs that the collection created are removed, and other vGPUs remain."""
    target, stored = GpuTarget(), host.stored.get(gpu.address)
    for vgpu in gpu.vgpus:
        if stored and stored.has(vgpu.key, vgpu.type):
            target.removed.append(vgpu)
        else:
            text = "%s: the vGPU %s(%s) remains, because vgpu.kvm did not create the vGPU and the GPU is not in the layout"
            result.warnings.append(text % (vgpu.parent, vgpu.uuid + " " if vgpu.uuid else "", vgpu.type))
    result.errors += guard_removal(target.removed, options)
    if stored and stored.mig is not None and gpu.mig and gpu.mig.current:
        if len(target.removed) == len(gpu.vgpus):  # other programs' vGPUs keep their GPU instances
            target.instances = mig_placement.plan_instances(gpu, mig_placement.InstanceRequest([], [], gpu.mig.profiles))[0]
        target.mig = []
    unset_mixed(result, target, gpu, stored)
    result.target.gpus[gpu.address] = target


def _foreign_uuids(result: LayoutPlan, host: Host, specs: Mapping[str, GpuSpec]) -> list[Refusal]:
    """Returns errors for requested UUIDs that already exist elsewhere on the host."""
    targets = list(result.target.gpus.values())
    fine = {vgpu.uuid for target in targets for vgpu in target.removed}
    fine |= {one.uuid for target in targets for one in target.placed or () if one.vgpu}
    for gpu in host.inventory.gpus:
        if gpu.address in specs and result.target.of(gpu.address).placed is None:  # this GPU has no plan
            spec = specs[gpu.address]
            elsewhere = {(one.uuid, one.index) for one in spec.vgpus if one.index is not None} if spec.removes is not None else set()
            own = {one.uuid for one in spec.vgpus}  # no other GPU can get an unresponsive GPU's UUIDs
            fine |= {
                vgpu.uuid for vgpu in gpu.vgpus
                if (gpu.alive or vgpu.uuid in own) and all(uuid != vgpu.uuid or index == vgpu.index for uuid, index in elsewhere)
            }
    existing = {vgpu.uuid: vgpu for vgpu in host.inventory.mdevs}
    return [
        Refusal(
            "the UUID %s already exists as %s on %s" % (one.uuid, existing[one.uuid].type, existing[one.uuid].parent),
            device=pf, expected="a UUID that is not in use on this host", code="uuid_elsewhere",
        )
        for pf, spec in sorted(specs.items()) for one in spec.vgpus if one.uuid in existing and one.uuid not in fine
    ]


def undefine(lane: str, definition: Definition) -> Step:
    """Returns the step that removes an mdevctl definition. The running device remains."""
    return Step("undefine", lane, definition.parent, "undefine %s in mdevctl" % definition.uuid, uuid=definition.uuid)


def remove(lane: str, vgpu: Vgpu) -> Step:
    """Returns the step that removes a vGPU. The removal is forced if the vGPU is in use."""
    return Step("remove", lane, vgpu.parent, "remove %s" % titled(vgpu.type, vgpu.uuid), key=vgpu.key, forced=bool(vgpu.holders))


def _define(lane: str, placed: Placed, definition: Definition | None) -> list[Step]:
    """Returns the steps that result in one manual definition, or no steps if the definition already exists.

    ``definition`` is the current mdevctl definition, whose attributes are kept.
    """
    uuid, parent = str(placed.uuid), placed.slot.parent
    found = definition.all if definition else []
    good = [one for one in found if one.parent == parent and one.start == "manual" and (one.mdev_type or "").rsplit("-", 1)[-1] == placed.type.id]
    steps = [undefine(lane, one) for one in found if one not in good]
    if good:
        return steps
    attrs = next((one.attrs for one in sorted(found, key=lambda one: one.parent != parent) if one.attrs), ())
    return steps + [Step("define", lane, parent, "define %s in mdevctl (manual)" % uuid, uuid=uuid, attrs=attrs)]


def _add_steps(result: LayoutPlan, host: Host, options: Options) -> None:
    """Adds the steps for all GPUs. The layout file is written first, so a boot or the next run can complete an interrupted run."""
    targets, steps = result.target.gpus.values(), result.steps
    coming = {one.uuid for target in targets for one in target.placed or () if one.uuid}
    going = {vgpu.key for target in targets for vgpu in target.removed}
    definitions = host.definitions if options.mdevctl else {}
    if options.persist:
        _add_store(result, host, options)
    for gpu in host.inventory.gpus:
        pf, planned = gpu.address, result.target.of(gpu.address)
        # The mdevctl definitions for vGPUs that the collection created and that no longer exist.
        ours = host.stored[pf].keys if gpu.alive and pf in host.stored else ()
        left = [definitions[key] for key in ours if key in definitions and key not in coming | going]
        steps += [undefine(pf, one) for definition in left for one in definition.all]
        for vgpu in planned.removed:
            # The definition is removed first. If the removal of another program's vGPU fails, no later run removes the definition.
            # If a UUID is recreated with another type, the mdevctl definition is replaced below.
            if vgpu.key in definitions and vgpu.key not in coming:
                steps += [undefine(pf, one) for one in definitions[vgpu.key].all]
            steps.append(remove(pf, vgpu))
        if planned.instances:
            steps += mig_placement.steps(gpu, planned.instances)
        if planned.sets_mixed:
            steps.append(Step("mixed", pf, pf, "%s mixed-size mode" % ("enable" if planned.mixed else "disable"), enabled=bool(planned.mixed)))
        for one in planned.in_order():
            parent, short = one.slot.parent, one.type.short
            if one.vgpu is None:
                steps.append(Step("create", pf, parent, "create %s" % titled(short, one.uuid), uuid=one.uuid, type_id=one.type.id, type=short))
            if one.changes_params:
                text = "set the vgpu_params to %r" % one.params if one.params else "clear the vgpu_params"
                steps.append(Step("params", pf, parent, text, key=one.key, params=one.params))
            if options.mdevctl and one.uuid and one.spec.managed:
                steps += _define(pf, one, definitions.get(one.uuid))
    _move_first(result)


def _move_first(result: LayoutPlan) -> None:
    """Moves a vGPU's removal before the creation of the same UUID on another GPU.

    Both GPUs then share a lane, because the removal must come first.
    """
    coming = {step.args["uuid"]: step for step in result.steps if step.kind == "create" and step.args["uuid"]}
    moving = [step for step in result.steps if step.kind == "remove" and step.args["key"] in coming and step.lane != coming[step.args["key"]].lane]
    for step in moving:
        left, lane = step.lane, coming[step.args["key"]].lane
        for one in result.steps:
            one.lane = lane if one.lane == left else one.lane
    begin = next((number for number, step in enumerate(result.steps) if step.lane), 0)
    result.steps[begin:] = moving + [step for step in result.steps[begin:] if step not in moving]


def _add_store(result: LayoutPlan, host: Host, options: Options) -> None:
    """Adds the step that writes a changed layout file. The boot restores the GPUs in the layout, and the enabled VFs on other GPUs."""
    kept, new = [], []
    everywhere = {vgpu.key for vgpu in host.inventory.vgpus}
    placed = {one.uuid for target in result.target.gpus.values() for one in target.placed or () if one.uuid}
    for gpu in host.inventory.gpus:
        planned, stored = result.target.of(gpu.address), host.stored.get(gpu.address)
        if stored and not gpu.alive:
            # An unresponsive GPU keeps stored vGPUs in case the GPU recovers, except vGPUs that have moved to another GPU.
            kept.append(replace(stored, vgpus=[one for one in stored.vgpus if one.uuid not in placed]))
        if gpu.alive and (planned.placed is not None or gpu.num_vfs or stored):
            vgpus = [
                layout_file.StoredVgpu(
                    one.uuid, one.slot.parent, one.slot.index if gpu.sriov else None, one.type.short, _params(one, stored), fabric=one.spec.fabric,
                )
                for one in planned.placed or ()
            ]
            # A GPU without vGPUs and VFs remains unchanged, because the GPU might be used for passthrough.
            comes = planned.placed or "vfs" in options.assume
            count = (gpu.num_vfs or (gpu.total_vfs if comes else 0)) if gpu.sriov else 0
            new.append(layout_file.StoredGpu(gpu.address, count, vgpus, stored.there(gpu) if stored else [], mig=planned.mig, mixed=planned.mixed))
            shown = {vgpu.key: plain_params(vgpu.params) for vgpu in gpu.vgpus}
            new[-1].former_params = {key: text for key, text in shown.items() if stored and stored.gave(key, text)}
            defined = {key: None for key in host.definitions if key not in everywhere}
            new[-1].forget({**defined, **{vgpu.key: vgpu.type for vgpu in gpu.vgpus}}, shown)
    unmixes = any(one.sets_mixed and not one.mixed for one in result.target.gpus.values())
    result.target.forgets = unmixes or any(one.former or one.former_params for one in new)
    if layout_file.content(kept + new) == layout_file.content(host.stored.values()):
        return
    result.target.store_text = layout_file.dumps(kept + new)
    result.steps.append(Step("store", None, STORE, "store the layout for the next boot", content=result.target.store_text))


def _params(one: Placed, stored: layout_file.StoredGpu | None) -> str:
    """Returns the vgpu_params to store. For an unchanged vGPU, the result contains only parameters that a layout has set."""
    if one.params is not None or one.vgpu is None:
        return one.params or ""
    return one.present_params if stored and stored.gave(one.key, one.present_params) else ""


def lines(inventory: Inventory, target: Target | None = None) -> str:
    """Returns the host's vGPUs, GPU instances, and mixed-size modes as diff text, one per line.

    If a target is given, the text shows the planned state.
    """
    rows = []
    for gpu in inventory.gpus:
        planned = target.of(gpu.address) if target else GpuTarget()
        change = planned.instances or mig_placement.Instances()
        going = [one.id for one in change.destroy]
        instances = gpu.mig.instances if gpu.mig and (gpu.mig.current or planned.instances) else []
        names = [one.profile for one in instances if one.id not in going] + [one.name for one in change.create]
        if names:
            rows.append("%s GPU instances: %s" % (gpu.address, " ".join(sorted(names))))
        if planned.mixed if planned.sets_mixed else gpu.mixed and gpu.mixed[1]:
            rows.append("%s mixed sizes" % gpu.address)
        vgpus = [
            (one.slot.index, one.slot.parent, one.type.short, one.key, one.present_params if one.params is None else one.params)
            for one in planned.placed or ()
        ]
        if planned.placed is None:
            staying = [vgpu for vgpu in gpu.vgpus if vgpu not in planned.removed]
            vgpus = [(vgpu.index, vgpu.parent, vgpu.type, vgpu.key, plain_params(vgpu.params)) for vgpu in staying]
        for dummy, parent, type_name, key, params in sorted(vgpus, key=lambda row: (row[0] or 0, row[3])):
            rows.append("%s %s%s%s" % (parent, type_name, "" if key == parent else " " + key, " " + params if params else ""))
    return "".join(row + "\n" for row in rows)
