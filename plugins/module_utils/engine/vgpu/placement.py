# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which vGPU stays, where a new one goes, and the UUID that it keeps. Pure."""

from __future__ import annotations

import uuid as uuids

from ..base.errors import Trouble
from ..hardware import address
from .layout import plain_params


# Any fixed UUID serves; it separates our names from other people's.
NAMESPACE = "6f3f0c55-54f5-5e0c-8f6e-0b7b8a3d9f11"


class Slot:
    """A place for one vGPU: a VF, or (without SR-IOV) one of the PF's several."""

    def __init__(self, parent, index):
        self.parent = parent
        self.index = index


class Placed:
    """A vGPU with its place. vgpu: the existing one, or None when it is to be made. params: None to leave them."""

    def __init__(self, slot, vgpu_type, uuid, vgpu=None, params=None):
        self.slot = slot
        self.type = vgpu_type
        self.uuid = uuid
        self.vgpu = vgpu
        self.params = params

    @property
    def key(self):
        """As Vgpu.key."""
        return self.uuid or self.slot.parent

    @property
    def name(self):
        """For people: the UUID, which the VF stands beside, or nothing more."""
        return " (%s)" % self.uuid if self.uuid else ""


def stable_uuid(machine_id, pf, index, taken):
    """UUIDv5 of machine, PF and VF number; the next in line when that one is taken."""
    salt = 0
    while True:
        name = "%s/%s/%s" % (machine_id, pf, index) + ("/%d" % salt if salt else "")
        word = str(uuids.uuid5(uuids.UUID(NAMESPACE), name))
        if word not in taken:
            return word
        salt += 1


def slots_of(planner, predicted=False):
    gpu = planner.gpu
    if predicted and gpu.sriov:
        return [
            Slot(address.vf_address(gpu.address, gpu.vf_offset, gpu.vf_stride, number), number)
            for number in range(gpu.total_vfs)
        ]
    if gpu.sriov:
        return [Slot(vf.address, vf.index) for vf in gpu.vfs if vf.offers_types]
    most = max([one.max_instances or 1 for one in planner.types] or [32])
    return [Slot(gpu.address, number) for number in range(most)]


def match(planner, chosen):
    """Existing vGPUs for wishes: by UUID, then by place in the store, then by type."""
    left = list(planner.gpu.vgpus)
    stored = [one.key for one in planner.stored]

    def keep(wish, vgpu_type, vgpu):
        left.remove(vgpu)
        chosen.remove((wish, vgpu_type))
        planner.placed.append(Placed(Slot(vgpu.parent, vgpu.index), vgpu_type, vgpu.uuid, vgpu, _params(planner, wish, vgpu.key)))

    def is_it(wish, vgpu):
        if planner.uuids:
            return wish.uuid == vgpu.uuid and wish.index in (None, vgpu.index)
        return wish.index is not None and wish.index == vgpu.index

    for wish, vgpu_type in [pair for pair in chosen if pair[0].uuid or pair[0].index is not None]:
        for vgpu in left:
            if is_it(wish, vgpu) and vgpu.type == vgpu_type.short:
                keep(wish, vgpu_type, vgpu)
                break

    def rank(vgpu):
        return (not vgpu.holders, vgpu.key not in stored, vgpu.index if vgpu.index is not None else 0, vgpu.key)

    ranked = sorted(left, key=rank)
    # First those that find a vGPU with their parameters, then the others.
    for exact, (wish, vgpu_type) in [(True, pair) for pair in chosen] + [(False, pair) for pair in chosen]:
        if (wish, vgpu_type) not in chosen or wish.uuid or (wish.index is not None and not planner.uuids):
            continue
        for vgpu in ranked:
            if vgpu.type != vgpu_type.short or vgpu.uuid in planner.explicit:
                continue
            if not exact or _intended_params(planner, vgpu) == (wish.params or ""):
                ranked.remove(vgpu)
                keep(wish, vgpu_type, vgpu)
                break
    planner.surplus = left


def _intended_params(planner, vgpu):
    """Parameters that a vGPU was made for: a run that broke off may not have set them."""
    if vgpu.key in planner.stored_params:
        return planner.stored_params[vgpu.key]
    return plain_params(vgpu.params or "")


def _params(planner, wish, key):
    """vgpu_params that a vGPU shall have: as wished; none where only we had set some; None to leave them."""
    if wish.params is not None:
        return wish.params
    return "" if planner.stored_params.get(key) else None


def place(planner, chosen, predicted):
    """Places for the wishes that nothing existing matches."""
    slots = slots_of(planner, predicted)
    if planner.gpu.sriov:
        busy = {one.slot.index for one in planner.placed}
    else:
        busy = set(range(len(planner.placed)))
    free = [slot for slot in slots if slot.index not in busy]
    uuids_in_use = set(planner.taken) - {vgpu.uuid for vgpu in planner.surplus}
    uuids_in_use |= {one.key for one in planner.placed} | planner.explicit
    stored = [one for one in planner.stored if one.key not in uuids_in_use]
    troubles = []
    # Wishes with a place of their own first, so that no other takes it. Larger before smaller: they need more room in one piece.
    order = sorted(chosen, key=lambda pair: (pair[0].index is None, pair[0].uuid is None, -(pair[1].framebuffer_mib or 0)))
    for wish, vgpu_type in order:
        fitting = [
            one
            for one in stored
            if one.type == vgpu_type.short
            and (one.index is None or one.index in [slot.index for slot in free])
        ]
        remembered = next((one for one in fitting if one.params == (wish.params or "")), next(iter(fitting), None))
        index = wish.index
        if index is None and not wish.uuid and remembered:
            index = remembered.index
        slot = next((slot for slot in free if index in (None, slot.index)), None)
        if slot is None:
            troubles.append(
                Trouble(
                    "VF %s is not there or not free for %s" % (index, vgpu_type.short),
                    device=planner.gpu.address,
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
        if planner.uuids and not uuid:
            uuid = stable_uuid(planner.state.machine_id, planner.gpu.address, slot.index, uuids_in_use)
        if not planner.uuids:
            uuid = None
        uuids_in_use.add(uuid or slot.parent)
        # On a PF the number only made the UUID: once the vGPU is there, nothing tells it any more.
        planner.placed.append(
            Placed(slot if planner.gpu.sriov else Slot(slot.parent, None), vgpu_type, uuid, None, wish.params or None)
        )
    planner.placed.sort(key=lambda one: (one.slot.index or 0, one.key))
    return troubles
