# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a plan, in their order: the stored layout, what goes, GPU instances, what comes, mdevctl's definitions. Pure.

A definition is kept as the vGPU is: this parent, this type, started by us alone.
"""

from __future__ import annotations

from ..base.steps import Step
from ..hardware.gpu import Gpu, Vgpu
from ..mig import placement as mig_placement
from ..state import layout_file
from ..state.paths import STORE
from ..system.mdevctl import Definition
from .layout import plain_params
from .target import Host, LayoutPlan, Options, Placed, Target


def undefine(lane: str, definition: Definition) -> Step:
    """The step that removes a definition; the running device stays."""
    return Step("undefine", lane, definition.parent, "undefine %s in mdevctl" % definition.uuid, uuid=definition.uuid)


def remove(lane: str, vgpu: Vgpu) -> Step:
    """The step that removes a vGPU; forced, if somebody uses it."""
    text = "remove %s%s" % (vgpu.type, " (%s)" % vgpu.uuid if vgpu.uuid else "")
    return Step("remove", lane, vgpu.parent, text, key=vgpu.key, forced=bool(vgpu.holders))


def define(lane: str, placed: Placed, definition: Definition | None) -> list[Step]:
    """Steps to a manual definition; none if it is so already. definition: the present one."""
    uuid, parent = str(placed.uuid), placed.slot.parent
    if definition and definition.parent == parent and definition.start == "manual":
        if (definition.mdev_type or "").rsplit("-", 1)[-1] == placed.type.id:
            return []
    steps = [undefine(lane, definition)] if definition else []
    return steps + [Step("define", lane, parent, "define %s in mdevctl (manual)" % uuid, uuid=uuid)]


def changes_params(placed: Placed) -> bool:
    """Whether a placed vGPU's parameters are other than they should be."""
    if placed.params is None:
        return False
    present = plain_params(placed.vgpu.params or "") if placed.vgpu else ""
    return present != placed.params


def stored_state(target: Target, host: Host) -> list[layout_file.StoredGpu]:
    """What the boot should restore: the layout's GPUs, and VFs of GPUs that have them on."""
    gpus = []
    for gpu in host.inventory.gpus:
        planned, stored = target.of(gpu.address), host.stored.get(gpu.address)
        if not gpu.alive:
            # What it had is what it gets again, should it come back.
            gpus += [stored] if stored else []
            continue
        if planned.placed is None and not gpu.num_vfs and not stored:
            continue
        vgpus = [
            layout_file.StoredVgpu(one.uuid, one.slot.parent, one.slot.index if gpu.sriov else None, one.type.short, one.params or "")
            for one in planned.placed or ()
        ]
        count = gpu.num_vfs or gpu.total_vfs
        gpus.append(layout_file.StoredGpu(gpu.address, count if gpu.sriov else 0, vgpus, mig=planned.mig, mixed=planned.mixed))
    return gpus


def add_steps(result: LayoutPlan, host: Host, options: Options) -> None:
    """The layout file first: from then on an interrupted run is finished by the boot or the next run."""
    if options.persist:
        _add_store(result, host)
    coming = {one.uuid for target in result.target.gpus.values() for one in target.placed or () if one.uuid}
    for gpu in host.inventory.gpus:
        if options.mdevctl:
            _add_undefines(result, host, gpu, coming)
        planned = result.target.of(gpu.address)
        for vgpu in planned.removed:
            result.steps.append(remove(gpu.address, vgpu))
            # A UUID that comes again, as another type, is defined again below.
            definition = host.definitions.get(vgpu.uuid or "")
            if options.mdevctl and definition and vgpu.uuid not in coming:
                result.steps.append(undefine(gpu.address, definition))
        if planned.instances:
            result.steps += mig_placement.steps(gpu, planned.instances)
        if planned.sets_mixed:
            text = "turn mixed-size mode %s" % ("on" if planned.mixed else "off")
            result.steps.append(Step("mixed", gpu.address, gpu.address, text, enabled=planned.mixed))
        placed = list(planned.placed or ())
        if planned.mixed:
            placed.sort(key=lambda one: -(one.type.framebuffer_mib or 0))
        for one in placed:
            _add_placed(result, gpu.address, one)
            if options.mdevctl and one.uuid and one.managed:
                result.steps += define(gpu.address, one, host.definitions.get(one.uuid))


def _add_store(result: LayoutPlan, host: Host) -> None:
    """The step that writes the layout file, if it changes."""
    state, stored = stored_state(result.target, host), host.stored
    for gpu in state:
        # What is gone by now is forgotten, but not worth a write of its own.
        gpu.former = stored[gpu.address].former if gpu.address in stored else []
    if layout_file.content(state) == layout_file.content(stored.values()):
        return
    going = sorted(vgpu.key for target in result.target.gpus.values() for vgpu in target.removed)
    alive = [gpu.address for gpu in host.inventory.gpus if gpu.alive]
    for gpu in state:
        if gpu.address in alive:
            gpu.former = [key for key in going if gpu.address in stored and key in stored[gpu.address].keys]
    result.target.store_text = layout_file.dumps(state)
    result.steps.append(Step("store", None, STORE, "store the layout for the boot", content=result.target.store_text))


def _add_undefines(result: LayoutPlan, host: Host, gpu: Gpu, coming: set[str]) -> None:
    """Definitions of vGPUs of ours that are not there any more."""
    going = {vgpu.key for target in result.target.gpus.values() for vgpu in target.removed}
    for key in host.stored[gpu.address].keys if gpu.alive and gpu.address in host.stored else ():
        if key in host.definitions and key not in coming | going:
            result.steps.append(undefine(gpu.address, host.definitions[key]))


def _add_placed(result: LayoutPlan, lane: str, one: Placed) -> None:
    """Steps of one placed vGPU."""
    if one.vgpu is None:
        text = "create %s%s" % (one.type.short, one.name)
        result.steps.append(Step("create", lane, one.slot.parent, text, uuid=one.uuid, type_id=one.type.id, type=one.type.short))
    if changes_params(one):
        text = "set its vgpu_params to %r" % one.params if one.params else "clear its vgpu_params"
        result.steps.append(Step("params", lane, one.slot.parent, text, key=one.key, params=one.params))
