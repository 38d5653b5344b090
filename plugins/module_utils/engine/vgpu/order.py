# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a plan, in their order: the stored layout, what goes, GPU instances, what comes, mdevctl's definitions. Pure.

A definition is kept as the vGPU is: this parent, this type, started by us alone.
"""

from __future__ import annotations

from ..base.steps import Step
from ..hardware.gpu import Vgpu
from ..mig import placement as mig_placement
from ..state import layout_file
from ..state.paths import STORE
from ..system.mdevctl import Definition
from .target import Host, LayoutPlan, Options, Placed, Target, titled


def undefine(lane: str, definition: Definition) -> Step:
    """The step that removes a definition; the running device stays."""
    return Step("undefine", lane, definition.parent, "undefine %s in mdevctl" % definition.uuid, uuid=definition.uuid)


def remove(lane: str, vgpu: Vgpu) -> Step:
    """The step that removes a vGPU; forced, if somebody uses it."""
    return Step("remove", lane, vgpu.parent, "remove %s" % titled(vgpu.type, vgpu.uuid), key=vgpu.key, forced=bool(vgpu.holders))


def _define(lane: str, placed: Placed, definition: Definition | None) -> list[Step]:
    """Steps to a manual definition; none if it is so already. definition: the present one."""
    uuid, parent = str(placed.uuid), placed.slot.parent
    if definition and definition.parent == parent and definition.start == "manual":
        if (definition.mdev_type or "").rsplit("-", 1)[-1] == placed.type.id:
            return []
    steps = [undefine(lane, definition)] if definition else []
    return steps + [Step("define", lane, parent, "define %s in mdevctl (manual)" % uuid, uuid=uuid)]


def _stored_state(target: Target, host: Host) -> list[layout_file.StoredGpu]:
    """What the boot should restore: the layout's GPUs, and VFs of GPUs that have them on."""
    gpus = []
    for gpu in host.inventory.gpus:
        planned, stored = target.of(gpu.address), host.stored.get(gpu.address)
        if not gpu.alive:
            # What it had is what it gets again, should it come back.
            gpus += [stored] if stored else []
        elif planned.placed is not None or gpu.num_vfs or stored:
            vgpus = [
                layout_file.StoredVgpu(one.uuid, one.slot.parent, one.slot.index if gpu.sriov else None, one.type.short, one.params or "")
                for one in planned.placed or ()
            ]
            count = (gpu.num_vfs or gpu.total_vfs) if gpu.sriov else 0
            gpus.append(layout_file.StoredGpu(gpu.address, count, vgpus, mig=planned.mig, mixed=planned.mixed))
    return gpus


def add_steps(result: LayoutPlan, host: Host, options: Options) -> None:
    """The layout file first: from then on an interrupted run is finished by the boot or the next run."""
    targets, steps = result.target.gpus.values(), result.steps
    coming = {one.uuid for target in targets for one in target.placed or () if one.uuid}
    going = {vgpu.key for target in targets for vgpu in target.removed}
    definitions = host.definitions if options.mdevctl else {}
    if options.persist:
        _add_store(result, host, going)
    for gpu in host.inventory.gpus:
        pf, planned = gpu.address, result.target.of(gpu.address)
        # Definitions of vGPUs of ours that are not there any more.
        ours = host.stored[pf].keys if gpu.alive and pf in host.stored else ()
        steps += [undefine(pf, definitions[key]) for key in ours if key in definitions and key not in coming | going]
        for vgpu in planned.removed:
            steps.append(remove(pf, vgpu))
            # A UUID that comes again, as another type, is defined again below.
            if vgpu.key in definitions and vgpu.key not in coming:
                steps.append(undefine(pf, definitions[vgpu.key]))
        if planned.instances:
            steps += mig_placement.steps(gpu, planned.instances)
        if planned.sets_mixed:
            steps.append(Step("mixed", pf, pf, "turn mixed-size mode %s" % ("on" if planned.mixed else "off"), enabled=planned.mixed))
        placed = list(planned.placed or ())
        if planned.mixed:
            placed.sort(key=lambda one: -(one.type.framebuffer_mib or 0))
        for one in placed:
            parent, short = one.slot.parent, one.type.short
            if one.vgpu is None:
                steps.append(Step("create", pf, parent, "create %s" % titled(short, one.uuid), uuid=one.uuid, type_id=one.type.id, type=short))
            if one.changes_params:
                text = "set its vgpu_params to %r" % one.params if one.params else "clear its vgpu_params"
                steps.append(Step("params", pf, parent, text, key=one.key, params=one.params))
            if options.mdevctl and one.uuid and one.spec.managed:
                steps += _define(pf, one, definitions.get(one.uuid))


def _add_store(result: LayoutPlan, host: Host, going: set[str]) -> None:
    """The step that writes the layout file, if it changes."""
    state, stored = _stored_state(result.target, host), host.stored
    for gpu in state:
        # What is gone by now is forgotten, but not worth a write of its own.
        gpu.former = stored[gpu.address].former if gpu.address in stored else []
    if layout_file.content(state) == layout_file.content(stored.values()):
        return
    alive = [gpu.address for gpu in host.inventory.gpus if gpu.alive]
    for gpu in state:
        if gpu.address in alive:
            gpu.former = sorted(going.intersection(stored[gpu.address].keys)) if gpu.address in stored else []
    result.target.store_text = layout_file.dumps(state)
    result.steps.append(Step("store", None, STORE, "store the layout for the boot", content=result.target.store_text))
