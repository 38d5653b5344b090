# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""NVIDIA's rules for vGPUs in their simplest form: which vGPUs fit, which vGPUs must be removed, and where GPU instances can start.

The rules come from facts about NVIDIA's driver and from the modules' documentation. They share no code with the engine, and their author did not
read the engine. The test model therefore misses only errors that it has in common with the engine.
"""

from __future__ import annotations

from collections import Counter
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple


class Vgpu(NamedTuple):
    """An existing vGPU. key: its UUID, or the address of its VF if it has no UUID. serial: a number that no other vGPU of the world gets."""

    serial: int
    key: str
    gpu: str
    vf: Optional[int]  # None if the vGPU is on a PF
    type: str
    params: str
    used: bool
    gi: Optional[int]

    def facts(self) -> Tuple[str, str, Optional[int], str, str]:
        """Return the properties of the vGPU that its VM depends on."""
        return (self.gpu, self.key, self.vf, self.type, self.params)


class Want(NamedTuple):
    """One requested vGPU of a layout."""

    type: str
    uuid: Optional[str] = None
    vf: Optional[int] = None
    params: Optional[str] = None  # None if the layout sets no parameters


class Verdict(NamedTuple):
    """The test model's verdict. reasons: why the module must fail. open: reasons for which the documentation does not define whether it fails."""

    reasons: Tuple[str, ...] = ()
    open: Tuple[str, ...] = ()


def cover(left: Sequence[int], rights: Callable[[int], Iterable[int]]) -> Dict[int, int]:
    """Return the largest matching {left: right}. Earlier elements of `left` take precedence over later ones."""
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
    """The result of may_stay. kept: the largest number of vGPUs that can stay. stuck: protected vGPUs that cannot stay."""

    kept: int
    stuck: Tuple[Vgpu, ...]


def may_stay(
    existing: Sequence[Vgpu], wants: Sequence[Want], named: Dict[str, str], protected: Set[int], but: Sequence[Vgpu] = ()
) -> Stay:
    """Return how many of a GPU's vGPUs a plan can keep.

    named: {UUID: GPU} for each UUID in the layout. protected: serials of vGPUs that must not change. but: vGPUs that are removed in any case.
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
        return want.params in (None, one.params)  # a vGPU in use keeps its parameters unless the layout sets different ones

    order = sorted((number for number, one in enumerate(existing) if one not in but), key=lambda number: existing[number].serial not in protected)
    found = cover(order, lambda one: [other for other, want in enumerate(wants) if fits(existing[one], want)])
    return Stay(len(found), tuple(one for number, one in enumerate(existing) if one.serial in protected and number not in found))


def satisfied(final: Sequence[Vgpu], wants: Sequence[Want], params: Callable[[Vgpu, Want], bool]) -> bool:
    """Return whether the vGPUs of a GPU are exactly the requested ones."""
    if len(final) != len(wants):
        return False

    def fits(want: Want, one: Vgpu) -> bool:
        return (
            one.type == want.type and want.vf in (None, one.vf) and want.uuid in (None, one.key) and params(one, want)
        )

    return len(cover(range(len(wants)), lambda number: [other for other, one in enumerate(final) if fits(wants[number], one)])) == len(wants)


# --- time-sliced vGPUs


class Type(NamedTuple):
    """A vGPU type. profile: its GPU instance profile, or None if it is time-sliced. per_gi: number of its vGPUs that share a GPU instance."""

    short: str
    name: str
    id: str
    gib: int
    most: int
    profile: Optional[str] = None
    per_gi: int = 1


def time_sliced_fit(types: Sequence[Type], gib: int, slots: Optional[int], mixed: bool, can_mix: bool) -> List[str]:
    """Return why vGPUs of these types cannot share a GPU. gib: framebuffer size. slots: number of VFs, or None if the PF holds the vGPUs."""
    found = []
    if slots is not None and len(types) > slots:
        found.append("more vGPUs than VFs")
    if mixed:
        if not can_mix:
            found.append("the GPU does not support mixed sizes")
        if sum(one.gib for one in types) > gib:
            found.append("more framebuffer than the GPU has")
    elif len({one.gib for one in types}) > 1:
        found.append("two sizes without mixed-size mode")
    for one in set(types):
        most = min(gib // one.gib, one.most)
        if (sum(other is one for other in types) if mixed else len(types)) > most:
            found.append("more vGPUs of a type than its max_instance")
    return found


# --- MIG


class Profile(NamedTuple):
    """A GPU instance profile: its compute slices, its memory slices, and the maximum number of its instances."""

    name: str
    slices: int
    memory: int
    total: int


class Instance(NamedTuple):
    """A GPU instance and the memory slice at which it starts."""

    id: int
    profile: str
    start: int


class Board:
    """The valid positions of GPU instances: multiples of their memory slices, without overlap, and up to the driver's maximum number per profile."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.profiles = {one.name: one for one in profiles}
        self._compute = max([one.slices for one in profiles] or [0])
        self._memory = max([one.memory for one in profiles] or [0])

    def starts(self, name: str) -> List[int]:
        """Return the memory slices at which an instance of this profile can start."""
        one = self.profiles[name]
        return [at for at in range(0, self._memory - one.memory + 1, one.memory) if at + one.slices <= self._compute]

    def fits(self, wanted: Sequence[str], pinned: Sequence[Instance] = ()) -> bool:
        """Return whether new instances of these profiles fit beside the pinned instances."""
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
    """Return the properties that all vGPUs in a GPU instance must share."""
    assert one.profile is not None
    return (one.profile, one.gib, one.per_gi)


def instances_needed(types: Sequence[Type], kept: Sequence[Tuple[Type, int]] = (), stay: Sequence[Instance] = ()) -> List[str]:
    """Return the profiles of the GPU instances to create. A GPU instance holds vGPUs of one framebuffer size, regardless of their series.

    types: types of all vGPUs, including existing ones. kept: type and GPU instance of each vGPU that stays; its instance is filled first.
    stay: GPU instances that stay, whether or not they hold a vGPU.
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
    """Yield all possible distributions of vGPUs over GPU instances. Each distribution has one (type, GPU instance) per occupied instance.

    idle: types whose GPU instance is unknown. known: type and GPU instance of the other vGPUs. free: GPU instances without known vGPUs.
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
