# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a layout to steps: which vGPU goes on which VF, what stays, what goes. Pure.

What matches is kept; only surplus is removed, and never what somebody uses; free VFs are taken in
order of their number; a UUID follows from machine, PF and VF number, so that it is the same
whenever that vGPU is made again. On a framework without UUIDs the VF is what stays the same.
GPU instances of MIG and mixed-size mode come between what goes and what comes.
"""

from __future__ import annotations

from ..base import refusals
from ..base.errors import Trouble, raise_if_any
from ..base.steps import passed_over, refusal
from ..hardware import address, vgpu_types
from ..mig import placement as mig_placement
from .gpu_plan import GpuPlanner, title
from .layout import Wishes
from .order import add_steps


class LayoutPlan:
    """Steps in order, and the whole wished state by GPU."""

    def __init__(self):
        self.steps = []
        self.placed = {}
        self.lost = []
        self.warnings = []
        self.removed = []
        self.instances = {}
        self.mig = {}
        self.mixed = {}
        self.store_text = None


class Options:
    """force_remove: keys of vGPUs that may go although in use. mdevctl: whether definitions are kept.

    persist: whether the layout is stored for the boot. assume: see the module's option. lost_gpus: see steps.LOST_WORDS.
    """

    def __init__(self, force_remove=(), mdevctl=False, persist=True, assume=(), lost_gpus="fail"):
        self.force_remove = [
            address.parse(one) if address.is_address(one) else str(one).lower() for one in force_remove
        ]
        self.mdevctl = mdevctl
        self.persist = persist
        self.assume = assume
        self.lost_gpus = lost_gpus


def plan(inventory, state, wishes, stored, definitions, options, troubles=()):
    """The plan for the wishes per GPU (layout.by_gpu); raises EngineError with all that is wrong.

    stored: layout_file.read's answer. definitions: mdevctl's, by UUID. troubles: what reading the layout
    found, so that all is told at once.
    """
    result = LayoutPlan()
    troubles = list(troubles)
    taken = {vgpu.uuid: vgpu.parent for vgpu in inventory.mdevs}
    explicit = {wish.uuid for many in wishes.values() for wish in many if wish.uuid}
    for pf in sorted(wishes):
        gpu = inventory.gpu(pf)
        if passed_over(result, gpu, "bring its vGPUs to the layout", options.lost_gpus):
            continue
        one = GpuPlanner(inventory, gpu, state, stored.get(pf), taken, explicit, options)
        troubles += one.plan(wishes[pf] if isinstance(wishes[pf], Wishes) else Wishes(wishes[pf]))
        result.placed[pf] = one.placed
        result.removed += [(gpu, vgpu) for vgpu in one.surplus]
        result.instances[pf], result.mig[pf], result.mixed[pf] = one.instances, one.mig, one.mixed
        result.warnings += one.warnings
    troubles += _unlisted(inventory, wishes, stored, options, result)
    troubles += _foreign_uuids(wishes, inventory, result)
    raise_if_any(refusal(troubles, result.steps))
    add_steps(result, inventory, stored, definitions, options)
    return result


def _unlisted(inventory, wishes, stored, options, result):
    """vGPUs of GPUs that the layout does not name: ours go, others' stay."""
    troubles = []
    for gpu in inventory.gpus:
        if gpu.address in wishes or not gpu.alive:
            continue
        for vgpu in gpu.vgpus:
            if gpu.address not in stored or vgpu.key not in stored[gpu.address].keys:
                result.warnings.append(
                    "%s: the vGPU %s(%s) was not made by vgpu.kvm and its GPU is not in the layout; it stays"
                    % (vgpu.parent, vgpu.uuid + " " if vgpu.uuid else "", vgpu.type)
                )
                continue
            if vgpu.holders and vgpu.key not in options.force_remove:
                troubles.append(
                    refusals.in_use(title(vgpu), vgpu.holders, "removing it", "force_remove (role variable vgpu_force_remove)")
                )
            result.removed.append((gpu, vgpu))
        if gpu.address in stored and stored[gpu.address].mig is not None and gpu.mig and gpu.mig.current:
            going = [vgpu for owner, vgpu in result.removed if owner is gpu]
            staying = [(vgpu, vgpu_types.find(vgpu.type, gpu.types)) for vgpu in gpu.vgpus if vgpu not in going]
            if not staying:  # somebody else's vGPUs keep their GPU instances
                result.instances[gpu.address] = mig_placement.plan_instances(gpu, [], [], gpu.mig.profiles)[0]
            result.mig[gpu.address] = []
    return troubles


def _foreign_uuids(wishes, inventory, result):
    """UUIDs that the user gives and that exist elsewhere on the host."""
    going = {vgpu.uuid for dummy, vgpu in result.removed}
    kept = {one.uuid for many in result.placed.values() for one in many if one.vgpu and one.uuid}
    where = {vgpu.uuid: vgpu for vgpu in inventory.mdevs}
    troubles = []
    for pf in sorted(wishes):
        for wish in wishes[pf]:
            vgpu = where.get(wish.uuid)
            if vgpu and vgpu.uuid not in going and vgpu.uuid not in kept:
                troubles.append(
                    Trouble(
                        "the UUID %s exists already, as %s on %s" % (vgpu.uuid, vgpu.type, vgpu.parent),
                        device=pf,
                        wanted="a UUID that is free on this host",
                        code="uuid_elsewhere",
                    )
                )
    return troubles
