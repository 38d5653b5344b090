# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout as a user writes it: types and counts per GPU. Parsing and choosing; pure."""

from __future__ import annotations

import re
import uuid as uuids

from ..base.errors import EngineError, Trouble, raise_if_any, shown
from ..hardware import address, catalog, vgpu_types


# More than any GPU holds; a slip of some zeros must not fill the memory.
MOST = 1024


class Wish:
    """One vGPU that is wanted. uuid and index (VF number) are None where the engine chooses.

    params: its vgpu_params, None where the user says nothing of them.
    """

    def __init__(self, type_name, uuid=None, index=None, where="", params=None):
        self.type = type_name
        self.uuid = uuid
        self.index = index
        self.where = where
        self.params = params


class Wishes(list):
    """All wishes of one GPU. mixed: mixed-size mode; mig: profiles of GPU instances, None where they follow from the types."""

    def __init__(self, wishes=(), mixed=False, mig=None):
        super().__init__(wishes)
        self.mixed = mixed
        self.mig = mig

    @property
    def needs_mig(self):
        """Whether the GPU must be in MIG mode."""
        return self.mig is not None or any(vgpu_types.slices_of(word) for word in {wish.type for wish in self})


class Entry:
    """One element of the layout: selectors and what is wanted of each GPU that they name."""

    def __init__(self, selectors, wishes, where, mixed=False, mig=None):
        self.selectors = selectors
        self.wishes = wishes
        self.where = where
        self.mixed = mixed
        self.mig = mig


def check_uuid(text, where):
    """The UUID in the kernel's spelling (36 characters, lower case); raises EngineError if it is none."""
    word = str(text).strip().lower()
    try:
        valid = str(uuids.UUID(word)) == word
    except ValueError:
        valid = False
    if not valid:
        raise_if_any(
            [
                Trouble(
                    "%s is not a UUID" % shown(text),
                    device=where,
                    wanted="36 characters such as 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11",
                    code="bad_uuid",
                )
            ]
        )
    return word


def parse(layout, name="layout"):
    """Entries of a layout (a list of {gpu, vgpus, mixed_sizes, mig}), and the troubles of what is wrong in it."""
    entries, troubles, seen = [], [], {}
    if not isinstance(layout, list):
        return [], [_wrong_shape(layout, name, "a list of entries, each with gpu and vgpus")]
    for number, item in enumerate(layout):
        where = "%s[%d]" % (name, number)
        if not isinstance(item, dict):
            troubles.append(_wrong_shape(item, where, "an entry with gpu and vgpus"))
            continue
        selectors = item.get("gpu")
        if not isinstance(selectors, list):
            selectors = [selectors]
        if not selectors or not all(selectors) or any(isinstance(word, (list, dict)) for word in selectors):
            troubles.append(Trouble("it names no GPU", device=where, wanted="gpu: all, an address, GPU-<uuid> or a model"))
            continue
        vgpus, mig = item.get("vgpus") or [], item.get("mig")
        if not isinstance(vgpus, list):
            troubles.append(_wrong_shape(vgpus, where + ".vgpus", "a list of vGPUs, such as [{type: A40-24Q}]"))
            continue
        if mig is not None and not (isinstance(mig, list) and all(isinstance(word, str) for word in mig)):
            troubles.append(_wrong_shape(mig, where + ".mig", "a list of profiles, such as [3g.20gb]"))
            continue
        wishes = []
        for position, vgpu in enumerate(vgpus):
            place = "%s.vgpus[%d]" % (where, position)
            troubles += _parse_vgpu(vgpu, place, wishes, seen)
        entries.append(
            Entry([str(word) for word in selectors], wishes, where, bool(item.get("mixed_sizes")), None if mig is None else list(mig))
        )
    return entries, troubles


def _wrong_shape(value, where, wanted):
    return Trouble("it is %s" % shown(value), device=where, wanted=wanted, code="wrong_shape")


def _parse_vgpu(vgpu, place, wishes, seen):
    if not isinstance(vgpu, dict):
        return [_wrong_shape(vgpu, place, "a vGPU, such as {type: A40-24Q}")]
    count = vgpu.get("count")
    count = 1 if count is None else count
    uuid = vgpu.get("uuid")
    params = plain_params(vgpu.get("vgpu_params"))
    if params and not re.match(r"^[\x20-\x7e]+$", params):
        return [Trouble("vgpu_params are %s" % shown(params), device=place, wanted="letters, digits and signs on one line", code="bad_params")]
    if not vgpu.get("type"):
        return [Trouble("no type is given", device=place, wanted="type: a name such as A40-24Q")]
    if not isinstance(count, int) or not 0 <= count <= MOST:
        return [Trouble("count is %s" % shown(count), device=place, wanted="a number from 0 to %d" % MOST)]
    if not uuid:
        wishes += [Wish(str(vgpu["type"]), where=place, params=params) for dummy in range(count)]
        return []
    if count != 1:
        return [Trouble("a UUID stands with count %d" % count, device=place, wanted="count 1: a UUID names one vGPU")]
    try:
        word = check_uuid(uuid, place)
    except EngineError as exc:
        return exc.troubles
    if word in seen:
        return [Trouble("the UUID %s stands at %s too" % (word, seen[word]), device=place, wanted="each UUID once", code="duplicate_uuid")]
    seen[word] = place
    wishes.append(Wish(str(vgpu["type"]), uuid=word, where=place, params=params))
    return []


def plain_params(text):
    """vgpu_params (frame_rate_limiter=0, disable_vnc=1) without spaces, as they are compared; None stays None."""
    if text is None:
        return None
    return ",".join(part.strip() for part in str(text).split(",") if part.strip())


def _rank(word):
    """How narrowly a selector names a GPU; the narrowest that names it counts."""
    if address.is_address(word) or address.is_gpu_uuid(word):
        return 3
    return 1 if word.lower() == "all" else 2


def by_gpu(entries, inventory):
    """Wishes per GPU address for each GPU that the layout names.

    A GPU named by its address takes the entries with its address only, one named by model those
    with its model, and ``all`` is for the rest. Entries of the same kind add up. A model of the
    table that this host has none of is left out, so that hosts with different GPUs can share a layout.
    """
    wishes, rank, troubles, absent = {}, {}, [], []
    for entry in entries:
        for word in entry.selectors:
            gpus, wrong = inventory.select([word])
            if not gpus and _rank(word) == 2 and catalog.is_model(word):
                absent.append(word)
                continue
            for one in wrong:
                one.device = one.device or entry.where
            troubles += wrong
            for gpu in gpus:
                here = _rank(word)
                if here > rank.get(gpu.address, 0):
                    wishes[gpu.address], rank[gpu.address] = Wishes(), here
                if here == rank[gpu.address]:
                    mine = wishes[gpu.address]
                    mine += [
                        Wish(one.type, one.uuid, one.index, one.where, one.params)
                        for one in entry.wishes
                    ]
                    mine.mixed = mine.mixed or entry.mixed
                    if entry.mig is not None:
                        mine.mig = (mine.mig or []) + entry.mig
    if absent and not wishes and not troubles:
        troubles.append(
            Trouble(
                "the layout is for %s, and none of these is in this host, which has %s"
                % (", ".join(absent), ", ".join("%s (%s)" % (gpu.address, gpu.name) for gpu in inventory.gpus) or "no NVIDIA GPU"),
                wanted="an entry for a GPU of this host",
                code="unknown_gpu",
            )
        )
    left = ["%s (%s)" % (gpu.address, gpu.name) for gpu in inventory.gpus if gpu.supported and gpu.address not in wishes]
    if absent and wishes and left:
        # One model written for another would otherwise empty the GPUs that were meant.
        troubles.append(
            Trouble(
                "the layout is for %s too, which this host has not, and says nothing of %s" % (", ".join(absent), ", ".join(left)),
                wanted="an entry for each GPU of this host",
                remedy="Put the model right, or add an entry with an empty list of vgpus for these GPUs (gpu: all is for the rest).",
                code="gpu_not_in_layout",
            )
        )
    given = {}
    for pf in sorted(wishes):
        for wish in wishes[pf]:
            if wish.uuid and wish.uuid in given:
                troubles.append(
                    Trouble(
                        "the UUID %s is given to %s and %s" % (wish.uuid, given[wish.uuid], pf),
                        device=wish.where,
                        wanted="a UUID for one vGPU on one GPU",
                        code="duplicate_uuid",
                    )
                )
            given[wish.uuid] = pf
    return wishes, troubles
