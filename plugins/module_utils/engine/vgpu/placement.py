# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans which vGPUs to keep, and the slots and UUIDs for new vGPUs. This module does not access the host."""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass, field
from typing import Callable, Collection, Optional, Sequence

from ..base.errors import Refusal
from ..hardware.gpu import Vgpu
from ..state.layout_file import StoredVgpu
from .fit import Chosen, slots_of
from .layout import VgpuSpec, plain_params
from .target import GpuRequest, Placed, Slot

# An arbitrary fixed UUID that serves as the namespace for the collection's UUIDs.
NAMESPACE = uuids.UUID("6f3f0c55-54f5-5e0c-8f6e-0b7b8a3d9f11")


@dataclass(eq=False, repr=False)
class Matching:
    """The match between existing and requested vGPUs.

    ``placed`` contains matching vGPUs, ``removed`` contains vGPUs to remove, ``left`` contains all other vGPUs, and ``open`` contains requested vGPUs
    without a match. ``again`` contains matching vGPUs that are removed and that a request may recreate.
    """

    placed: list[Placed] = field(default_factory=list)
    left: list[Vgpu] = field(default_factory=list)
    open: list[Chosen] = field(default_factory=list)
    removed: list[Vgpu] = field(default_factory=list)
    again: Sequence[Vgpu] = ()

    def keep(self, request: GpuRequest, one: Chosen, vgpu: Vgpu) -> None:
        """Assigns an existing vGPU to a requested vGPU."""
        self.left.remove(vgpu)
        self.open.remove(one)
        spec, stored = one.spec, request.stored
        # If no parameters are requested, an earlier layout's parameters are cleared once the vGPU is not in use. Other parameters are kept.
        ours = stored is not None and stored.gave(vgpu.key, plain_params(vgpu.params))
        params = "" if spec.params is None and ours and not vgpu.holders else spec.params
        self.placed.append(Placed(Slot(vgpu.parent, vgpu.index), one.type, spec, vgpu.uuid, vgpu, params=params))


def stable_uuid(machine: str | None, pf: str, index: int | None, taken: Collection[str]) -> str:
    """Returns a UUIDv5 for the machine, PF, and VF number, or the next unused UUID in the series."""
    name, salt = "%s/%s/%s" % (machine, pf, index), 0
    word = str(uuids.uuid5(NAMESPACE, name))
    while word in taken:
        salt += 1
        word = str(uuids.uuid5(NAMESPACE, "%s/%d" % (name, salt)))
    return word


# The reasons to keep a vGPU: none, attached to a stopped VM, or in use.
_IDLE, _DEFINED, _USED = 0, 1, 2
# The criteria for matching a vGPU with a request of the same type, best match first. The criteria compare requested parameters, the vGPU's own
# parameters, and the reason to keep the vGPU. A vGPU in use keeps its parameters if any request permits these parameters. A vGPU in a VM definition is
# preferred over an idle vGPU.
_FITTING: Sequence[Callable[[Optional[str], str, int], bool]] = (
    lambda requested, present, stays: stays == _USED and present == requested,
    lambda requested, present, stays: stays == _USED and requested is None and not present,
    lambda requested, present, stays: stays == _USED and requested is None,
    lambda requested, present, stays: stays == _DEFINED and present == requested,
    lambda requested, present, stays: stays == _DEFINED and requested is None and not present,
    lambda requested, present, stays: stays == _DEFINED and requested is None,
    lambda requested, present, stays: stays == _DEFINED,
    lambda requested, present, stays: stays == _IDLE and present == requested,
    lambda requested, present, stays: stays == _IDLE and requested is None and not present,
    lambda requested, present, stays: stays == _IDLE and requested is None,
    lambda requested, present, stays: stays == _IDLE,
    lambda requested, present, stays: True,
)


def match(request: GpuRequest, chosen: Sequence[Chosen], again: Sequence[Vgpu] = ()) -> Matching:
    """Matches existing vGPUs with requests, first by UUID or requested VF, and then by type. See Matching for ``again``."""
    removes = request.spec.removes
    found = Matching(open=list(chosen), again=again)
    for vgpu in request.gpu.vgpus:
        goes = vgpu in again or removes is not None and vgpu.key in removes
        (found.removed if goes else found.left).append(vgpu)
    vfs = {one.spec.index for one in chosen} - {None}
    for one in [one for one in chosen if one.spec.uuid or one.spec.index is not None]:
        # A vGPU must not be kept if another request specifies its VF or UUID.
        mine = [vgpu for vgpu in found.left if one.spec.index is not None or vgpu.index not in vfs]
        mine = [vgpu for vgpu in mine if one.spec.uuid or not request.gives_away(vgpu)]
        same = next((vgpu for vgpu in mine if _is_it(request, one.spec, vgpu) and vgpu.type == one.type.short), None)
        if same:
            found.keep(request, one, same)
    given = {one.spec.index for one in found.open} - {None}
    ranked = sorted(
        [vgpu for vgpu in found.left if not request.gives_away(vgpu) and vgpu.index not in given],
        key=lambda vgpu: (not vgpu.holders, vgpu.key not in request.known, vgpu.index or 0, vgpu.key),
    )
    # For an idle vGPU, compare stored parameters, because an interrupted run may not have set the vGPU's parameters.
    known = {vgpu.key: request.known[vgpu.key].params for vgpu in ranked if vgpu.key in request.known and not vgpu.holders}
    present = {vgpu.key: (known.get(vgpu.key) or plain_params(vgpu.params), _stays(request, vgpu)) for vgpu in ranked}
    for fits in _FITTING:
        for one in [one for one in found.open if not one.spec.uuid and one.spec.index is None]:
            fitting = next((vgpu for vgpu in ranked if vgpu.type == one.type.short and fits(one.spec.params, *present[vgpu.key])), None)
            if fitting:
                ranked.remove(fitting)
                found.keep(request, one, fitting)
    if removes is None and not request.options.keeps:
        found.removed, found.left = found.removed + found.left, []
    return found


def _stays(request: GpuRequest, vgpu: Vgpu) -> int:
    return _USED if vgpu.holders else _DEFINED if vgpu.key in request.host.defined else _IDLE


def _is_it(request: GpuRequest, spec: VgpuSpec, vgpu: Vgpu) -> bool:
    """Returns whether a request specifies the vGPU by UUID or VF."""
    if request.uuids and spec.uuid:
        return spec.uuid == vgpu.uuid and spec.index in (None, vgpu.index)
    return spec.index is not None and spec.index == vgpu.index


def place(request: GpuRequest, found: Matching) -> list[Refusal]:
    """Assigns slots to requested vGPUs without a match, and adds the vGPUs to found.placed. Returns errors."""
    gpu, staying = request.gpu, [vgpu.uuid for vgpu in found.left]
    existing = {vgpu.key for vgpu in request.host.inventory.mdevs} - {vgpu.key for vgpu in found.removed}
    in_use = existing | {one.key for one in found.placed} | set(request.explicit) | set(request.spec.removes or ())
    held = [one.slot.index for one in found.placed] + [vgpu.index for vgpu in found.left]
    busy = held if gpu.sriov else range(len(held))  # on a PF, the number only affects the UUID, and the numbers of existing vGPUs are unknown
    free = [slot for slot in slots_of(request) if slot.index not in busy]
    # Larger vGPUs come first, because larger vGPUs need more contiguous space. plan.py reports requests for other vGPUs' UUIDs as errors.
    coming = sorted([one for one in found.open if one.spec.uuid not in staying or not one.spec.uuid], key=lambda one: -(one.type.framebuffer_mib or 0))
    former = [StoredVgpu(one.uuid, one.parent, one.index, one.type, plain_params(one.params)) for one in found.again if one.key not in request.known]
    continued, gone = _continue(request, [*request.known.values(), *former], coming, free, in_use)
    errors = []
    # Requests for a specific slot come first, because no other request may use the slot.
    for one in sorted(coming, key=lambda one: (one.spec.index is None, one not in continued, one.spec.uuid is None)):
        was, index = continued.get(one), one.spec.index
        if was and index is None:
            index = was.index
        slot = _free_slot(free, index, [other.index for other in gone])
        if slot is None:
            errors.append(_no_slot(request, found, one, index))
            continue
        free.remove(slot)
        uuid = one.spec.uuid or (was.uuid if was else None)
        if not request.uuids:
            uuid = None
        elif not uuid:
            uuid = stable_uuid(request.host.state.machine, gpu.address, slot.index, in_use | {other.key for other in gone})
        in_use.add(uuid or slot.parent)
        found.placed.append(Placed(slot if gpu.sriov else Slot(slot.parent, None), one.type, one.spec, uuid, params=one.spec.params or None))
    found.placed.sort(key=lambda one: (one.slot.index or 0, one.key))
    return errors


def _free_slot(free: Sequence[Slot], index: int | None, avoided: Collection[int | None]) -> Slot | None:
    """Returns the slot with the given number or, without a number, the first slot, preferably a slot that is not in ``avoided``."""
    fitting = [slot for slot in free if index in (None, slot.index)]
    return next((slot for slot in fitting if index is not None or slot.index not in avoided), next(iter(fitting), None))


def _continue(
    request: GpuRequest, former: Sequence[StoredVgpu], coming: Sequence[Chosen], free: Sequence[Slot], in_use: Collection[str]
) -> tuple[dict[Chosen, StoredVgpu], list[StoredVgpu]]:
    """Returns the former vGPU that each request restores in a free slot, and missing former vGPUs that might return later.

    A former vGPU is identified by the request's UUID, by VF and type, or by type. A former vGPU with the same parameters is preferred.
    """
    slots, given = {None, *(slot.index for slot in free)}, {one.spec.index for one in coming if one.spec.index is not None}
    left = sorted((was for was in former if was.index in slots), key=lambda was: was.key not in request.host.defined)
    continued: dict[Chosen, StoredVgpu] = {}

    def by_uuid(one: Chosen, was: StoredVgpu) -> bool:
        return was.uuid == one.spec.uuid and (was.index not in given if one.spec.index is None else was.index == one.spec.index)

    def by_type(one: Chosen, was: StoredVgpu) -> bool:
        mine = was.index not in given if one.spec.index is None else was.index == one.spec.index
        return mine and was.type == one.type.short and was.key not in in_use

    def exactly(one: Chosen, was: StoredVgpu) -> bool:
        return by_type(one, was) and was.params == (one.spec.params or "")

    for fits in (by_uuid, exactly, by_type):
        for one in [one for one in coming if one not in continued and bool(one.spec.uuid) == (fits is by_uuid)]:
            found = next((was for was in left if fits(one, was)), None)
            if found:
                continued[one] = found
                left.remove(found)
    elsewhere = {*(vgpu.key for vgpu in request.host.inventory.vgpus), *request.explicit}
    return continued, [was for was in left if was.key not in elsewhere]


def _no_slot(request: GpuRequest, found: Matching, one: Chosen, index: int | None) -> Refusal:
    """Returns the error for a requested VF that has another vGPU or cannot have a vGPU."""
    gpu = request.gpu
    holders = ["%s (%s)" % (held.key, held.type.short) for held in found.placed if held.slot.index == index]
    holders += ["%s (%s)" % (vgpu.key, vgpu.type) for vgpu in found.left if vgpu.index == index]
    if holders and index is not None:
        vf = next((vf.address for vf in gpu.vfs if vf.index == index), index)
        return Refusal(
            "the VF %s already has the vGPU %s" % (vf, holders[0]),
            device=one.spec.where or gpu.address, expected="a free VF for %s" % one.type.short, code="vf_busy",
        )
    return Refusal(
        "VF %s is missing or not free for %s" % (index, one.type.short),
        device=gpu.address, remedy="Run 'vgpuctl status' to find the occupied VFs, then specify a free VF.", code="no_slot",
    )
