# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""NVIDIA's rules for vGPUs, as simple as they can be said: what fits, what must go, where GPU instances lie.

Written from the facts about NVIDIA's driver and from the documentation of the modules alone. Nothing of the engine was read for it and nothing is
imported: a rule that both got wrong in the same way is the one thing that this model can't find.
"""

from __future__ import annotations

from collections import Counter
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple


class Vgpu(NamedTuple):
    """A vGPU that is there. key: its UUID, or its VF's address where it has none; serial: another one for each that is created."""

    serial: int
    key: str
    gpu: str
    vf: Optional[int]  # None on a PF
    type: str
    params: str
    used: bool
    gi: Optional[int]

    def facts(self) -> Tuple[str, str, Optional[int], str, str]:
        """What a vGPU is to its VM."""
        return (self.gpu, self.key, self.vf, self.type, self.params)


class Want(NamedTuple):
    """One vGPU of a layout, by its meaning."""

    type: str
    uuid: Optional[str] = None
    vf: Optional[int] = None
    params: Optional[str] = None  # None: left out


class Verdict(NamedTuple):
    """reasons: why it must be refused; open: why the documentation leaves it open whether it is refused."""

    reasons: Tuple[str, ...] = ()
    open: Tuple[str, ...] = ()


def cover(left: Sequence[int], rights: Callable[[int], Iterable[int]]) -> Dict[int, int]:
    """The largest matching {left: right}; those of *left* that come first are preferred: each that can be matched with those before it, is."""
    owner: Dict[int, int] = {}

    def place(one: int, seen: Set[int]) -> bool:
        for other in rights(one):
            if other in seen:
                continue
            seen.add(other)
            if other not in owner or place(owner[other], seen):
                owner[other] = one
                return True
        return False

    for one in left:
        place(one, set())
    return {one: other for other, one in owner.items()}


class Stay(NamedTuple):
    """kept: how many vGPUs stay at most; stuck: those that must stay and can't."""

    kept: int
    stuck: Tuple[Vgpu, ...]


def may_stay(
    existing: Sequence[Vgpu], wants: Sequence[Want], named: Dict[str, str], protected: Set[int], but: Sequence[Vgpu] = ()
) -> Stay:
    """How many of a GPU's vGPUs a plan can keep.

    named: UUIDs that the layout names, with their GPU. protected: serials that nobody may touch. but: those that go.
    """
    pinned = {want.vf for want in wants if want.vf is not None}

    def fits(one: Vgpu, want: Want) -> bool:
        if one.type != want.type or (want.vf is not None and want.vf != one.vf) or (want.uuid is not None and want.uuid != one.key):
            return False
        if one.key in named and (want.uuid != one.key):
            return False
        if one.vf in pinned and want.vf != one.vf:
            return False
        if one.serial not in protected:
            return True
        return want.params in (None, one.params)  # what a vGPU in use has, it keeps, unless the layout says another word

    order = sorted((number for number, one in enumerate(existing) if one not in but), key=lambda number: existing[number].serial not in protected)
    found = cover(order, lambda one: [other for other, want in enumerate(wants) if fits(existing[one], want)])
    return Stay(len(found), tuple(one for number, one in enumerate(existing) if one.serial in protected and number not in found))


def satisfied(final: Sequence[Vgpu], wants: Sequence[Want], params: Callable[[Vgpu, Want], bool]) -> bool:
    """Whether the vGPUs of a GPU are exactly the wanted ones."""
    if len(final) != len(wants):
        return False

    def fits(want: Want, one: Vgpu) -> bool:
        return (
            one.type == want.type and want.vf in (None, one.vf) and want.uuid in (None, one.key) and params(one, want)
        )

    return len(cover(range(len(wants)), lambda number: [other for other, one in enumerate(final) if fits(wants[number], one)])) == len(wants)


# --- time-sliced vGPUs


class Type(NamedTuple):
    """A vGPU type. profile: of MIG; per_gi: how many share a GPU instance."""

    short: str
    name: str
    id: str
    gib: int
    most: int
    profile: Optional[str] = None
    per_gi: int = 1


def time_sliced_fit(types: Sequence[Type], gib: int, slots: Optional[int], mixed: bool, can_mix: bool) -> List[str]:
    """Why vGPUs of these types do not share a GPU of so much framebuffer. slots: its VFs, None where the PF holds them."""
    found = []
    if slots is not None and len(types) > slots:
        found.append("more vGPUs than VFs")
    if mixed:
        if not can_mix:
            found.append("the GPU has no mixed sizes")
        if sum(one.gib for one in types) > gib:
            found.append("more framebuffer than the GPU has")
    elif len({one.gib for one in types}) > 1:
        found.append("two sizes")
    for one in set(types):
        most = min(gib // one.gib, one.most)
        if (sum(other is one for other in types) if mixed else len(types)) > most:
            found.append("more than max_instance")
    return found


# --- MIG


class Profile(NamedTuple):
    """A GPU instance profile: compute slices, memory slices, how many there may be."""

    name: str
    slices: int
    memory: int
    total: int


class Instance(NamedTuple):
    """A GPU instance at a place."""

    id: int
    profile: str
    start: int


class Board:
    """Where GPU instances fit: at multiples of their memory slices, none overlapping, no more of a profile than the driver has."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.profiles = {one.name: one for one in profiles}
        self._compute = max([one.slices for one in profiles] or [0])
        self._memory = max([one.memory for one in profiles] or [0])

    def starts(self, name: str) -> List[int]:
        """Where an instance of a profile may begin."""
        one = self.profiles[name]
        return [at for at in range(0, self._memory - one.memory + 1, one.memory) if at + one.slices <= self._compute]

    def fits(self, wanted: Sequence[str], pinned: Sequence[Instance] = ()) -> bool:
        """Whether new instances of the wanted profiles find places beside the pinned ones."""
        if not set(wanted) <= set(self.profiles):
            return False
        for name in self.profiles:
            if wanted.count(name) and wanted.count(name) + sum(one.profile == name for one in pinned) > self.profiles[name].total:
                return False
        taken: Set[int] = set()
        for one in pinned:
            taken |= set(range(one.start, one.start + self.profiles[one.profile].memory))
        return self._search(sorted(wanted, key=lambda name: -self.profiles[name].memory), taken)

    def _search(self, wanted: Sequence[str], taken: Set[int]) -> bool:
        if not wanted:
            return True
        memory = self.profiles[wanted[0]].memory
        for at in self.starts(wanted[0]):
            here = set(range(at, at + memory))
            if not here & taken and self._search(wanted[1:], taken | here):
                return True
        return False


Size = Tuple[str, int, int]


def _size(one: Type) -> Size:
    """What vGPUs share a GPU instance by."""
    assert one.profile is not None
    return (one.profile, one.gib, one.per_gi)


def instances_needed(types: Sequence[Type], kept: Sequence[Tuple[Type, int]] = (), stay: Sequence[Instance] = ()) -> List[str]:
    """Profiles of the GPU instances that vGPUs need beside those that stay: one framebuffer size in each, of any series.

    types: of all vGPUs, those that stay included. kept: type and GPU instance of each that stays; what room it leaves is used first. stay: GPU
    instances that stay, whether one of these lives in them or not.
    """
    rooms: Dict[Size, Set[int]] = {}
    for one, instance in kept:
        rooms.setdefault(_size(one), set()).add(instance)
    found = []
    for size, number in sorted(Counter(map(_size, types)).items()):
        found += [size[0]] * max(0, -(-number // size[2]) - len(rooms.get(size, ())))
    for empty in [other for other in stay if other.id not in {instance for dummy, instance in kept}]:
        if empty.profile in found:
            found.remove(empty.profile)
    return found


def spreads(idle: Sequence[Type], known: Sequence[Tuple[Type, int]], free: Sequence[Instance]) -> Iterator[List[Tuple[Type, int]]]:
    """All ways in which vGPUs may live in GPU instances: type and GPU instance, once for each instance in which that size lives.

    known: type and GPU instance of others. free: GPU instances in which none of these lives.
    """
    if not idle:
        yield []
        return
    one = idle[0]
    size = _size(one)
    mine, rest = [other for other in idle if _size(other) == size], [other for other in idle if _size(other) != size]
    beside = [instance for other, instance in known if _size(other) == size]
    places = [instance for instance in free if instance.profile == size[0]]
    least = max(0, -(-(len(mine) - len(set(beside)) * size[2] + len(beside)) // size[2]))
    for number in range(least, min(len(mine), len(places)) + 1):
        for others in spreads(rest, known, [instance for instance in free if instance not in places[:number]]):
            yield [(one, instance.id) for instance in places[:number]] + others
