# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a plan, in their order: the stored layout, what goes, GPU instances, what comes, mdevctl's definitions. Pure.

A definition is kept as the vGPU is: this parent, this type, started by us alone.
"""

from __future__ import annotations

from ..base.steps import Step
from ..mig import placement as mig_placement
from ..state import layout_file
from .layout import plain_params


def undefine(gpu, definition):
    """The step that removes a definition; the running device stays."""
    return Step(
        "undefine",
        gpu,
        definition.parent,
        "undefine %s in mdevctl" % definition.uuid,
        uuid=definition.uuid,
    )


def define(gpu, uuid, parent, type_id, definition):
    """Steps to a manual definition; none when it is so already. definition: the present one, or None."""
    if definition:
        same = (
            definition.parent == parent
            and definition.start == "manual"
            and definition.mdev_type.rsplit("-", 1)[-1] == type_id
        )
        if same:
            return []
    steps = [undefine(gpu, definition)] if definition else []
    return steps + [
        Step("define", gpu, parent, "define %s in mdevctl (manual)" % uuid, uuid=uuid)
    ]


def changes_params(placed):
    """Whether a placed vGPU's parameters are other than they should be."""
    if placed.params is None:
        return False
    present = plain_params(placed.vgpu.params or "") if placed.vgpu else ""
    return present != placed.params


def stored_state(result, inventory, stored):
    """What the boot should bring back: the layout's GPUs, and VFs of GPUs that have them on."""
    gpus = []
    for gpu in inventory.gpus:
        placed = result.placed.get(gpu.address)
        if not gpu.alive:
            # What it had is what it gets again, should it come back.
            gpus += [stored[gpu.address]] if gpu.address in stored else []
            continue
        if placed is None and not gpu.num_vfs and gpu.address not in stored:
            continue
        count = gpu.num_vfs or (gpu.total_vfs if gpu.sriov else 0)
        gpus.append(
            layout_file.StoredGpu(
                gpu.address,
                count if gpu.sriov else 0,
                [
                    layout_file.StoredVgpu(
                        one.uuid, one.slot.parent, one.slot.index if gpu.sriov else None, one.type.short, one.params or ""
                    )
                    for one in placed or ()
                ],
                mig=result.mig.get(gpu.address),
                mixed=(result.mixed.get(gpu.address) or (False, False))[0],
            )
        )
    return gpus


def add_steps(result, inventory, stored, definitions, options):
    """The store first: from then on a crash is finished by the boot or the next run."""
    state = stored_state(result, inventory, stored)
    for gpu in state:
        # What is gone by now is forgotten, but not worth a write of its own.
        gpu.former = stored[gpu.address].former if gpu.address in stored else []
    unchanged = layout_file.content(state) == layout_file.content(stored.values())
    going = {vgpu.key for dummy, vgpu in result.removed}
    for gpu in [one for one in state if inventory.gpu(one.address).alive]:
        gpu.former = [key for key in sorted(going) if gpu.address in stored and key in stored[gpu.address].keys]
    if options.persist and not unchanged:
        result.store_text = layout_file.dumps(state)
        result.steps.append(Step("store", None, layout_file.PATH, "store the layout for the boot", content=result.store_text))
    wanted = {one.uuid for many in result.placed.values() for one in many if one.uuid}
    for gpu in inventory.gpus:
        for key in stored[gpu.address].keys if options.mdevctl and gpu.alive and gpu.address in stored else ():
            # Ours from before, not there any more, but still defined.
            if key in definitions and key not in wanted | going:
                result.steps.append(undefine(gpu.address, definitions[key]))
        for owner, vgpu in result.removed:
            if owner is not gpu:
                continue
            result.steps.append(
                Step(
                    "remove",
                    gpu.address,
                    vgpu.parent,
                    "remove %s%s" % (vgpu.type, " (%s)" % vgpu.uuid if vgpu.uuid else ""),
                    key=vgpu.key,
                    forced=bool(vgpu.holders),
                )
            )
            # A UUID that comes again, as another type, is defined anew below.
            if options.mdevctl and vgpu.uuid in definitions and vgpu.uuid not in wanted:
                result.steps.append(undefine(gpu.address, definitions[vgpu.uuid]))
        if result.instances.get(gpu.address):
            result.steps += mig_placement.steps(gpu, result.instances[gpu.address])
        mixed = result.mixed.get(gpu.address)
        if mixed and mixed[1]:
            text = "turn mixed-size mode %s" % ("on" if mixed[0] else "off")
            result.steps.append(Step("mixed", gpu.address, gpu.address, text, enabled=mixed[0]))
        placed = result.placed.get(gpu.address, [])
        if mixed and mixed[0]:
            placed = sorted(placed, key=lambda one: -(one.type.framebuffer_mib or 0))
        for one in placed:
            add_steps_of(result, gpu, one, definitions, options)


def add_steps_of(result, gpu, one, definitions, options):
    """Steps of one placed vGPU."""
    if one.vgpu is None:
        result.steps.append(
            Step(
                "create",
                gpu.address,
                one.slot.parent,
                "create %s%s" % (one.type.short, one.name),
                uuid=one.uuid,
                type_id=one.type.id,
                type=one.type.short,
            )
        )
    if changes_params(one):
        text = "set its vgpu_params to %r" % one.params if one.params else "clear its vgpu_params"
        result.steps.append(Step("params", gpu.address, one.slot.parent, text, key=one.key, params=one.params))
    if options.mdevctl and one.uuid:
        result.steps += define(gpu.address, one.uuid, one.slot.parent, one.type.id, definitions.get(one.uuid))
