# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a layout to steps: which vGPU goes on which VF, what stays, what goes. Pure.

What matches is kept; only surplus is removed, and never what somebody uses; free VFs are taken in
order of their number; a UUID follows from machine, PF and VF number, so that it is the same
whenever that vGPU is made again.
"""

from __future__ import annotations

import uuid as uuids

from . import address, diagnosis, plan_definitions, store, vgpu_types
from .errors import Trouble, raise_if_any
from .steps import Step

# Any fixed UUID serves; it separates our names from other people's.
NAMESPACE = uuids.UUID("6f3f0c55-54f5-5e0c-8f6e-0b7b8a3d9f11")


class Slot:
    """A place for one vGPU: a VF, or (without SR-IOV) one of the PF's several."""

    def __init__(self, parent, index):
        self.parent = parent
        self.index = index


class Placed:
    """A vGPU with its place. vgpu: the existing one, or None when it is to be made."""

    def __init__(self, slot, vgpu_type, uuid, vgpu=None):
        self.slot = slot
        self.type = vgpu_type
        self.uuid = uuid
        self.vgpu = vgpu


class LayoutPlan:
    """Steps in order, and the whole wished state by GPU."""

    def __init__(self):
        self.steps = []
        self.placed = {}
        self.warnings = []
        self.removed = []
        self.store_text = None


class Options:
    """force_remove: UUIDs that may go although in use. mdevctl: whether definitions are kept.

    persist: whether the layout is stored for the boot. assume: see the module's option.
    """

    def __init__(self, force_remove=(), mdevctl=False, persist=True, assume=()):
        self.force_remove = [str(one).lower() for one in force_remove]
        self.mdevctl = mdevctl
        self.persist = persist
        self.assume = assume


def stable_uuid(machine_id, pf, index, taken):
    """UUIDv5 of machine, PF and VF number; the next in line when that one is taken."""
    salt = 0
    while True:
        name = "%s/%s/%s" % (machine_id, pf, index) + ("/%d" % salt if salt else "")
        word = str(uuids.uuid5(NAMESPACE, name))
        if word not in taken:
            return word
        salt += 1


def plan(inventory, state, wishes, stored, definitions, options, troubles=()):
    """The plan for the wishes per GPU (layout.by_gpu); raises EngineError with all that is wrong.

    stored: store.read's answer. definitions: mdevctl's, by UUID. troubles: what reading the layout
    found, so that all is told at once.
    """
    result = LayoutPlan()
    troubles = list(troubles)
    taken = {vgpu.uuid: vgpu.parent for vgpu in inventory.mdevs}
    explicit = {wish.uuid for many in wishes.values() for wish in many if wish.uuid}
    for pf in sorted(wishes):
        gpu = inventory.gpu(pf)
        one = _GpuPlanner(gpu, state, stored.get(pf), taken, explicit, options)
        troubles += one.plan(wishes[pf])
        result.placed[pf] = one.placed
        result.removed += [(gpu, vgpu) for vgpu in one.surplus]
    troubles += _unlisted(inventory, wishes, stored, options, result)
    troubles += _foreign_uuids(wishes, inventory, result)
    raise_if_any(troubles)
    _steps(result, inventory, stored, definitions, options)
    return result


class _GpuPlanner:
    """The plan of one GPU."""

    def __init__(self, gpu, state, stored, taken, explicit, options):
        self.gpu = gpu
        self.state = state
        self.stored = stored.vgpus if stored else []
        self.taken = taken
        self.explicit = explicit
        self.options = options
        self.placed = []
        self.surplus = []
        self.types = list(gpu.types)

    def plan(self, wishes):
        """Fills placed and surplus; returns troubles."""
        gpu = self.gpu
        if not wishes:
            self.surplus = list(gpu.vgpus)
            return self._guard_surplus()
        predicted = gpu.framework == "none" and "vfs" in self.options.assume
        if gpu.framework == "vendor_vfio":
            return [diagnosis.vendor_vfio(gpu)]
        if not predicted and not gpu.types:
            return diagnosis.no_types(gpu, self.state)
        chosen, troubles = self._choose_types(wishes, predicted)
        if troubles:
            return troubles
        troubles = self._check_sizes(chosen) + self._check_room(chosen, predicted)
        if troubles:
            return troubles
        self._match(chosen)
        troubles = self._guard_surplus()
        return troubles + self._place(chosen, predicted)

    def _choose_types(self, wishes, predicted):
        chosen, troubles = [], []
        for wish in wishes:
            found = self._predict(wish) if predicted else vgpu_types.find(wish.type, self.types)
            if found:
                chosen.append((wish, found))
                continue
            near = vgpu_types.nearest(wish.type, self.types)
            have = ", ".join(near) if near else ", ".join(one.short for one in self.types)
            if predicted and self.gpu.model:
                have = "names such as %s-4Q" % self.gpu.model.prefix
            troubles.append(
                Trouble(
                    "the type %r (%s) is not offered by this GPU (%s)" % (wish.type, wish.where, self.gpu.name),
                    device=self.gpu.address,
                    wanted=("one of: " if not near else "nearest: ") + have,
                    code="unknown_type",
                )
            )
        return chosen, troubles

    def _predict(self, wish):
        """The type that a name means before the driver is there to list its own."""
        word = vgpu_types.gpu_word(wish.type)
        model = self.gpu.model
        if word is None or (model and not vgpu_types.short_name(wish.type).lower().startswith(model.prefix.lower() + "-")):
            return None
        size = vgpu_types.framebuffer_of(wish.type)
        most = model.framebuffer_gib * 1024 // size if model and size else None
        return vgpu_types.VgpuType("", vgpu_types.short_name(wish.type), size, most or None)

    def _check_sizes(self, chosen):
        sizes = {}
        for dummy, one in chosen:
            sizes.setdefault(one.framebuffer_mib, one.short)
        if len(sizes) < 2:
            return []
        return [
            Trouble(
                "vGPUs of different framebuffer sizes are asked for: %s"
                % ", ".join("%s (%s MiB)" % (sizes[size], size) for size in sorted(sizes)),
                device=self.gpu.address,
                wanted="one framebuffer size per GPU",
                remedy="Put the sizes on different GPUs.",
                code="two_sizes",
            )
        ]

    def _check_room(self, chosen, predicted):
        """Limits in vGPUs: the type's max_instance and the number of VFs."""
        slots = len(self._slots(predicted))
        most = min([one.max_instances for dummy, one in chosen if one.max_instances] or [len(chosen)])
        if len(chosen) <= min(slots, most):
            return []
        name = chosen[0][1].short
        if most <= slots:
            size = chosen[0][1].framebuffer_mib
            why = "max_instance of %s is %d" % (name, most)
            if size:
                why += ": each takes %d MiB of framebuffer" % size
        else:
            why = "the GPU has %d usable VFs, one for each vGPU" % slots
        return [
            Trouble(
                "%d vGPUs of %s are asked for" % (len(chosen), name),
                device=self.gpu.address,
                wanted="at most %d, because %s" % (min(slots, most), why),
                code="too_many",
            )
        ]

    def _slots(self, predicted=False):
        gpu = self.gpu
        if predicted and gpu.sriov:
            return [
                Slot(address.vf_address(gpu.address, gpu.vf_offset, gpu.vf_stride, number), number)
                for number in range(gpu.total_vfs)
            ]
        if gpu.sriov:
            return [Slot(vf.address, vf.index) for vf in gpu.vfs if vf.offers_types]
        most = max([one.max_instances or 1 for one in self.types] or [32])
        return [Slot(gpu.address, number) for number in range(most)]

    def _match(self, chosen):
        """Existing vGPUs for wishes: by UUID, then by place in the store, then by type."""
        left = list(self.gpu.vgpus)
        stored = [one.uuid for one in self.stored]

        def keep(wish, vgpu_type, vgpu):
            left.remove(vgpu)
            chosen.remove((wish, vgpu_type))
            self.placed.append(Placed(Slot(vgpu.parent, vgpu.index), vgpu_type, vgpu.uuid, vgpu))

        for wish, vgpu_type in list(chosen):
            for vgpu in left:
                if wish.uuid == vgpu.uuid and vgpu.type == vgpu_type.short and wish.index in (None, vgpu.index):
                    keep(wish, vgpu_type, vgpu)
                    break

        def rank(vgpu):
            return (not vgpu.holders, vgpu.uuid not in stored, vgpu.index if vgpu.index is not None else 0, vgpu.uuid)

        for wish, vgpu_type in list(chosen):
            if wish.uuid:
                continue
            same = [
                vgpu for vgpu in left
                if vgpu.type == vgpu_type.short and vgpu.uuid not in self.explicit
            ]
            if same:
                keep(wish, vgpu_type, min(same, key=rank))
        self.surplus = left

    def _guard_surplus(self):
        return [
            diagnosis.in_use(
                "%s (%s on %s)" % (vgpu.uuid, vgpu.type, vgpu.parent),
                vgpu.holders,
                "removing it",
                "force_remove (role variable vgpu_force_remove)",
            )
            for vgpu in self.surplus
            if vgpu.holders and vgpu.uuid not in self.options.force_remove
        ]

    def _place(self, chosen, predicted):
        """Places for the wishes that nothing existing matches."""
        slots = self._slots(predicted)
        if self.gpu.sriov:
            busy = {one.slot.index for one in self.placed}
        else:
            busy = set(range(len(self.placed)))
        free = [slot for slot in slots if slot.index not in busy]
        uuids_in_use = set(self.taken) - {vgpu.uuid for vgpu in self.surplus}
        uuids_in_use |= {one.uuid for one in self.placed} | self.explicit
        stored = [one for one in self.stored if one.uuid not in uuids_in_use]
        troubles = []
        # Wishes with a place of their own first, so that no other takes it.
        for wish, vgpu_type in sorted(chosen, key=lambda pair: (pair[0].index is None, pair[0].uuid is None)):
            remembered = next(
                (
                    one
                    for one in stored
                    if one.type == vgpu_type.short
                    and (one.index is None or one.index in [slot.index for slot in free])
                ),
                None,
            )
            index = wish.index
            if index is None and not wish.uuid and remembered:
                index = remembered.index
            slot = next((slot for slot in free if index in (None, slot.index)), None)
            if slot is None:
                troubles.append(
                    Trouble(
                        "VF %s is not there or not free for %s" % (index, vgpu_type.short),
                        device=self.gpu.address,
                        remedy="Look with 'nvidia-vgpu status'.",
                        code="no_slot",
                    )
                )
                continue
            free.remove(slot)
            uuid = wish.uuid
            if not uuid and remembered and remembered.index in (None, slot.index):
                uuid = remembered.uuid
                stored.remove(remembered)
            if not uuid:
                uuid = stable_uuid(self.state.machine_id, self.gpu.address, slot.index, uuids_in_use)
            uuids_in_use.add(uuid)
            # On a PF the number only made the UUID: once the vGPU is there, nothing tells it any more.
            self.placed.append(Placed(slot if self.gpu.sriov else Slot(slot.parent, None), vgpu_type, uuid))
        self.placed.sort(key=lambda one: (one.slot.index or 0, one.uuid))
        return troubles


def _unlisted(inventory, wishes, stored, options, result):
    """vGPUs of GPUs that the layout does not name: ours go, others' stay."""
    troubles = []
    for gpu in inventory.gpus:
        if gpu.address in wishes:
            continue
        for vgpu in gpu.vgpus:
            if gpu.address not in stored or vgpu.uuid not in stored[gpu.address].uuids:
                result.warnings.append(
                    "%s: the vGPU %s (%s) was not made by vgpu.kvm and its GPU is not in the layout; it stays"
                    % (vgpu.parent, vgpu.uuid, vgpu.type)
                )
                continue
            if vgpu.holders and vgpu.uuid not in options.force_remove:
                troubles.append(
                    diagnosis.in_use(vgpu.uuid, vgpu.holders, "removing it", "force_remove (role variable vgpu_force_remove)")
                )
            result.removed.append((gpu, vgpu))
    return troubles


def _foreign_uuids(wishes, inventory, result):
    """UUIDs that the user gives and that exist elsewhere on the host."""
    going = {vgpu.uuid for dummy, vgpu in result.removed}
    kept = {one.uuid for many in result.placed.values() for one in many if one.vgpu}
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


def stored_state(result, inventory, stored):
    """What the boot should bring back: the layout's GPUs, and VFs of GPUs that have them on."""
    gpus = []
    for gpu in inventory.gpus:
        placed = result.placed.get(gpu.address)
        if placed is None and not gpu.num_vfs and gpu.address not in stored:
            continue
        count = gpu.num_vfs or (gpu.total_vfs if gpu.sriov else 0)
        gpus.append(
            store.StoredGpu(
                gpu.address,
                count if gpu.sriov else 0,
                [
                    store.StoredVgpu(
                        one.uuid, one.slot.parent, one.slot.index if gpu.sriov else None, one.type.short
                    )
                    for one in placed or ()
                ],
            )
        )
    return gpus


def _steps(result, inventory, stored, definitions, options):
    """The store first: from then on a crash is finished by the boot or the next run."""
    state = stored_state(result, inventory, stored)
    for gpu in state:
        # What is gone by now is forgotten, but not worth a write of its own.
        gpu.former = stored[gpu.address].former if gpu.address in stored else []
    unchanged = store.dumps(state) == store.dumps(list(stored.values()))
    going = {vgpu.uuid for dummy, vgpu in result.removed}
    for gpu in state:
        gpu.former = [uuid for uuid in sorted(going) if gpu.address in stored and uuid in stored[gpu.address].uuids]
    text = store.dumps(state)
    if options.persist and not unchanged:
        result.store_text = text
        result.steps.append(
            Step("store", None, store.PATH, "store the layout for the boot", content=text)
        )
    wanted = {one.uuid for many in result.placed.values() for one in many}
    for gpu in inventory.gpus:
        for uuid in stored[gpu.address].uuids if options.mdevctl and gpu.address in stored else ():
            # Ours from before, not there any more, but still defined.
            if uuid in definitions and uuid not in wanted | going:
                result.steps.append(plan_definitions.undefine(gpu.address, definitions[uuid]))
        for owner, vgpu in result.removed:
            if owner is not gpu:
                continue
            result.steps.append(
                Step(
                    "remove",
                    gpu.address,
                    vgpu.parent,
                    "remove %s (%s)" % (vgpu.type, vgpu.uuid),
                    uuid=vgpu.uuid,
                    forced=bool(vgpu.holders),
                )
            )
            # A UUID that comes again, as another type, is defined anew below.
            if options.mdevctl and vgpu.uuid in definitions and vgpu.uuid not in wanted:
                result.steps.append(plan_definitions.undefine(gpu.address, definitions[vgpu.uuid]))
        for one in result.placed.get(gpu.address, ()):
            if one.vgpu is None:
                result.steps.append(
                    Step(
                        "create",
                        gpu.address,
                        one.slot.parent,
                        "create %s (%s)" % (one.type.short, one.uuid),
                        uuid=one.uuid,
                        type_id=one.type.id,
                        type=one.type.short,
                    )
                )
            if options.mdevctl:
                result.steps += plan_definitions.define(
                    gpu.address, one.uuid, one.slot.parent, one.type.id, definitions.get(one.uuid)
                )


def lines(inventory, result=None):
    """The host's vGPUs as text, one a line, for a diff; with a plan: as they will be."""
    rows = []
    for gpu in inventory.gpus:
        current = [(vgpu.index, vgpu.parent, vgpu.type, vgpu.uuid) for vgpu in gpu.vgpus]
        if result is not None and gpu.address in result.placed:
            current = [
                (one.slot.index, one.slot.parent, one.type.short, one.uuid)
                for one in result.placed[gpu.address]
            ]
        elif result is not None:
            going = [vgpu.uuid for owner, vgpu in result.removed if owner is gpu]
            current = [row for row in current if row[3] not in going]
        for dummy, parent, type_name, uuid in sorted(current, key=lambda row: (row[0] or 0, row[3])):
            rows.append("%s %s %s" % (parent, type_name, uuid))
    return "".join(row + "\n" for row in rows)
