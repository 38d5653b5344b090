# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Random layouts in all documented spellings, and the meaning of each layout."""

from __future__ import annotations

from random import Random
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ansible_collections.vgpu.kvm.tests.model.hosts import Card, ELSEWHERE, UUIDS, WORDS
from ansible_collections.vgpu.kvm.tests.model.rules import Type, Want, instances_needed
from ansible_collections.vgpu.kvm.tests.model.world import State, World

T = TypeVar("T")
# Features that the layouts of some worlds use more often than others, or never. "wrong" stands for errors that make the module fail.
HABITS = ("uuid", "vf", "vgpu_params", "mixed_sizes", "mig", "wrong")


class Pick:
    """Wraps random choices in methods with names."""

    def __init__(self, source: Random) -> None:
        self._random = source

    def one(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return self._random.choice(choices)

    def number(self, least: int, most: int) -> int:
        """Return a number between two limits, both included."""
        return self._random.randint(least, most)

    def rarely(self, percent: int) -> bool:
        """Return True in the given percentage of cases."""
        return self._random.randrange(100) < percent

    def some(self, choices: Sequence[T], most: int) -> List[T]:
        """Return up to `most` of the choices, each at most once."""
        rest, found = list(choices), []
        for dummy in range(self.number(0, min(most, len(rest)))):
            found.append(rest.pop(self.number(0, len(rest) - 1)))
        return found


class GpuWant(NamedTuple):
    """The meaning of a layout for one GPU. mig: the GPU instances that the layout lists, or None if the vGPU types determine the instances."""

    wants: Tuple[Want, ...]
    mixed: bool
    mig: Optional[Tuple[str, ...]]


class Meaning(NamedTuple):
    """The meaning of a layout on a host. gpus: meaning by GPU. reasons: errors in the layout itself. open: cases that the documentation does not define."""

    gpus: Dict[str, GpuWant]
    reasons: Tuple[str, ...]
    open: Tuple[str, ...]

    def wants(self) -> List[Want]:
        """Return the vGPUs that the layout requests on all GPUs."""
        return [one for gpu in self.gpus.values() for one in gpu.wants]


class _Writer:
    """Writes one layout. other: percentage of cases in which the vGPU types require the opposite of the GPU's current MIG mode."""

    def __init__(self, world: World, pick: Pick, mig: bool, other: int = 6) -> None:
        self.world, self.pick, self.mig, self.other = world, pick, mig, other
        self.state: State = world.state()

    def often(self, word: str, percent: int) -> bool:
        """Return True in the given percentage of cases, multiplied by the world's factor for the feature."""
        return self.pick.rarely(percent * self.world.habits.get(word, 1))

    def layout(self) -> List[Dict[str, Any]]:
        """Return entries. Usually, each entry names one GPU and some GPUs have no entry; in rare cases, one entry names several GPUs."""
        if self.pick.rarely(7):
            return []
        if self.pick.rarely(10) and not self.world.vendor and len(self.world.cards) > 1:
            return self.moved()
        entries = []
        for gpu in self.pick.some(sorted(self.world.cards), 3) or [self.pick.one(sorted(self.world.cards))]:
            entries.append(self.entry(gpu))
        return entries

    def moved(self) -> List[Dict[str, Any]]:
        """Return the current vGPUs, with one UUID moved to another GPU. The UUID might exist only in the stored layout."""
        pick, world = self.pick, self.world
        named = [(one.gpu, one.type, one.key) for one in self.state.vgpus if one.key in UUIDS]
        named += [(gpu, one["type"], one["uuid"]) for gpu, vgpus in sorted(world.stored().items()) for one in vgpus if one["uuid"] in UUIDS]
        old, short, uuid = pick.one(named) if named else ("", "", "")
        entries = []
        to = pick.one([gpu for gpu in sorted(world.cards) if gpu != old])
        for gpu in sorted(world.cards):
            lines = self.again(gpu, [(other.type, other.key) for other in self.state.on(gpu) if other.key != uuid])
            if gpu == to and uuid:
                same = short in world.cards[gpu].types and pick.number(0, 3)
                lines.append({"type": short if same else pick.one(self.pool(gpu)).short, "uuid": uuid})
            if lines or gpu == to or pick.number(0, 1):
                entries.append({"gpu": [gpu], "vgpus": [dict(line, count=line.get("count", 1)) for line in lines]})
        return entries

    def entry(self, gpu: str) -> Dict[str, Any]:
        """Return an entry that usually fits on this GPU."""
        pick, card = self.pick, self.world.cards[gpu]
        ranks = card.spellings(gpu, self.world.host.pf(gpu).uuid)
        rank = pick.one([0, 0, 0, 0, 1, 2, 2, 3, 3, 4])
        gpus = [pick.one(ranks[rank])]
        if pick.rarely(15):
            gpus.append(pick.one(ranks[rank] + ranks[pick.number(0, 3)]))
        if pick.rarely(10):
            other = pick.one(sorted(self.world.cards))
            gpus.append(pick.one(self.world.cards[other].spellings(other, self.world.host.pf(other).uuid)[rank]))
        if self.often("wrong", 4):
            gpus.append(pick.one(ELSEWHERE))
        if self.often("wrong", 2):
            gpus = [pick.one(["0000:aa:00.0", "Z99", "GPU-00000000-0000-0000-0000-000000000000"] + ELSEWHERE)]
        entry: Dict[str, Any] = {"gpu": gpus, "vgpus": self.lines(gpu)}
        if entry["vgpus"] and (self.often("mixed_sizes", 20) if card.fake.mixed else self.often("wrong", 2)):
            entry["mixed_sizes"] = True
        if self.mig and card.fake.profiles and self.often("mig", 15) and (self.state.gpus[gpu].mig or self.often("wrong", 10)):
            types = [card.types[want.type] for line in entry["vgpus"] for want in _line(self.world, gpu, line, [])]
            needed = instances_needed([one for one in types if one.profile])
            entry["mig"] = needed + profiles(card, pick)[:pick.number(0, 1)] if pick.number(0, 3) else profiles(card, pick)
        return entry

    def lines(self, gpu: str) -> List[Dict[str, Any]]:
        """Return lines that change the GPU's current vGPUs, or lines with unrelated vGPUs."""
        pick, goal = self.pick, self.world.goal.get(gpu)
        if (self.state.on(gpu) or goal and goal.facts) and pick.rarely(60):
            return self.changed(gpu)
        types = self.pool(gpu)
        lines = []
        first, room = pick.one(types), 1.0
        for number in range(pick.one([0, 1, 1, 2, 2, 3])):
            kin = [one for one in types if one.gib == first.gib] if pick.number(0, 7) else types
            if first.profile and pick.number(0, 2):  # prefer types that can share GPU instances with the first type or that differ only in size
                kin = [one for one in types if one.profile == first.profile and (one.gib == first.gib or not pick.number(0, 2))]
            one = first if number == 0 or not pick.number(0, 2) else pick.one(kin)
            most = min(4, max(0, int(room / self.share(gpu, one) + 0.01)))
            if self.often("wrong", 5):
                most = one.most + 1
            if most:
                lines.append(self.line(gpu, one, pick.number(1, most)))
                room -= lines[-1]["count"] * self.share(gpu, one)
        return lines

    def share(self, gpu: str, one: Type) -> float:
        """Return the approximate share of the GPU that a vGPU of this type occupies."""
        card = self.world.cards[gpu]
        if not one.profile:
            return max(1 / one.most, one.gib / card.fake.gib)
        return card.board.profiles[one.profile].memory / max(profile.memory for profile in card.fake.profiles) / one.per_gi

    def pool(self, gpu: str) -> List[Type]:
        """Return the types to choose from. These are usually the types that the GPU offers in its current mode."""
        types = sorted(self.world.cards[gpu].types.values())
        mig = self.state.gpus[gpu].mig is not (self.mig and self.pick.rarely(self.other))
        found = [one for one in types if bool(one.profile) == mig]
        return found if found and not self.often("wrong", 2) else types

    def changed(self, gpu: str) -> List[Dict[str, Any]]:
        """Return the GPU's current vGPUs or those of its last layout, with some vGPUs added, removed, or replaced."""
        pick, goal = self.pick, self.world.goal.get(gpu)
        there = [(one.type, one.key) for one in self.state.on(gpu)]
        if goal and goal.facts and (not there or pick.number(0, 1)):
            there = [(fact[3], fact[1]) for fact in goal.facts if fact[3] in self.world.cards[gpu].types]
        for dummy in range(pick.number(0, 2)):
            if there and pick.number(0, 1):
                there.remove(pick.one(there))
            if pick.number(0, 2):
                like = self.world.cards[gpu].types[pick.one(there)[0]] if there and pick.number(0, 3) else None
                kin = [one for one in self.pool(gpu) if like is None or one.gib == like.gib] if pick.number(0, 1) or not like else [like]
                there.append((pick.one(kin or self.pool(gpu)).short, ""))
        if self.state.gpus[gpu].mig and pick.number(0, 1):
            there = self.moved_together(gpu, there)
        return self.again(gpu, there)

    def moved_together(self, gpu: str, there: Sequence[Tuple[str, str]]) -> List[Tuple[str, str]]:
        """Return some of these MIG-backed vGPUs and one of another size, which fits only after the GPU instances of the others move."""
        pick, card = self.pick, self.world.cards[gpu]
        rest = list(there)
        for dummy in range(pick.number(1, 3)):
            if len(rest) > 1:
                rest.remove(pick.one(rest))
        kept = [card.types[short] for short, dummy in rest if card.types[short].profile]
        fitting = [one for one in card.types.values() if one.profile and card.board.fits(instances_needed([*kept, one]))]
        kin = [one for one in fitting if (one.profile, one.gib) in {(other.profile, one.gib) for other in kept if other.gib != one.gib}]
        large = sorted(fitting, key=lambda one: (-card.board.profiles[str(one.profile)].memory, -one.gib, one.short))[:1]
        if len(kept) < len(rest) or not fitting:
            return list(there)
        return rest + [(pick.one(sorted(kin) or large if pick.number(0, 2) else large).short, "")]

    def again(self, gpu: str, there: Sequence[Tuple[str, str]]) -> List[Dict[str, Any]]:
        """Return lines for the given (type, key) pairs, usually with the UUIDs from earlier layouts."""
        counts: Dict[Tuple[str, str], int] = {}
        for short, key in there:
            word = key if key in UUIDS and self.pick.number(0, 4) else ""
            counts[short, word] = counts.get((short, word), 0) + 1
        return [self.line(gpu, self.world.cards[gpu].types[short], number, word) for (short, word), number in counts.items()]

    def line(self, gpu: str, one: Type, count: int, uuid: str = "") -> Dict[str, Any]:
        """Return one line of an entry."""
        pick = self.pick
        spelling = pick.one([one.short, one.short, one.name, "nvidia-" + one.id, "vfio-pci-" + one.id, one.id])
        if self.often("wrong", 1):
            spelling = pick.one(["A40-5Q", "Z99-1Q", "nvidia-9999"])
        line: Dict[str, Any] = {"type": spelling, "count": count}
        if self.often("vgpu_params", 20):
            line["vgpu_params"] = pick.one(["frame_rate_limiter=0", "disable_vnc=1", ""])
        if uuid:
            line["uuid"] = uuid
        elif self.often("uuid", 15) if not self.world.vendor else self.often("wrong", 2):
            line["uuid"] = pick.one(UUIDS + [UUIDS[0].upper()]) if not self.often("wrong", 2) else "no-uuid"
            line["count"] = 1 if not self.often("wrong", 3) else count
        if self.often("vf", 12) if self.world.cards[gpu].fake.vfs else self.often("wrong", 2):
            number = pick.number(0, max(0, self.world.cards[gpu].fake.vfs - (0 if self.often("wrong", 10) else 1)))
            pf = self.world.host.pf(gpu)
            line["vf"] = pf.vfs[number].address if number < len(pf.vfs) and pick.number(0, 1) else str(number)
            line["count"] = 1 if not self.often("wrong", 3) else count
        return line


def profiles(card: Card, pick: Pick) -> List[str]:
    """Return names of GPU instance profiles. A name can occur several times."""
    names = [one.name for one in card.fake.profiles]
    found = [pick.one(names) for dummy in range(pick.number(0, 4))]
    return found + found[:1] * pick.one([0, 0, 1, 2])


def write(world: World, pick: Pick, mig: bool = False, other: int = 6) -> List[Dict[str, Any]]:
    """Return a random layout for the host."""
    return _Writer(world, pick, mig, other).layout()


def moved(world: World, pick: Pick, mig: bool = False) -> List[Dict[str, Any]]:
    """Return a layout that moves a UUID to another GPU."""
    return _Writer(world, pick, mig).moved()


def rank_of(world: World, gpu: str, spelling: str) -> Optional[int]:
    """Return the rank of a spelling, where 0 is the most specific, or None if it does not match the GPU."""
    ranks = world.cards[gpu].spellings(gpu, world.host.pf(gpu).uuid)
    return next((rank for rank, found in enumerate(ranks) if spelling in found), None)


def means(world: World, layout: Sequence[Dict[str, Any]]) -> Meaning:
    """Return the meaning of a layout according to the documentation."""
    reasons, unclear = [], []
    best: Dict[str, Tuple[int, List[Dict[str, Any]]]] = {}
    absent = False
    for entry in layout:
        for spelling in entry["gpu"]:
            if any(pf.uuid == spelling and pf.driver != "nvidia" for pf in world.kernel.pfs()):
                unclear.append("%s: only the NVIDIA driver reports this UUID, but the GPU is bound to another driver" % spelling)
            missing = all(rank_of(world, gpu, spelling) is None for gpu in world.cards)
            absent = absent or missing and spelling in WORDS
            if missing and spelling not in WORDS:
                reasons.append("no GPU matches %s" % spelling)
        for gpu in world.cards:
            ranks = [rank for rank in (rank_of(world, gpu, spelling) for spelling in entry["gpu"]) if rank is not None]
            if not ranks:
                continue
            if gpu not in best or min(ranks) < best[gpu][0]:
                best[gpu] = (min(ranks), [entry])
            elif min(ranks) == best[gpu][0]:
                best[gpu][1].append(entry)
    if layout and not best:
        reasons.append("no entry matches a GPU of this host")
    if absent and set(best) != set(world.cards):
        reasons.append("a layout for several hosts must name every GPU of this host")
    gpus = {}
    for gpu, (dummy, entries) in sorted(best.items()):
        if len({bool(one.get("mixed_sizes")) for one in entries}) > 1:
            unclear.append("entries for %s differ in mixed_sizes" % gpu)
        if len(entries) > 1 and any("mig" in one for one in entries):
            unclear.append("several entries select %s, and at least one sets mig" % gpu)
        wants = [want for entry in entries for line in entry["vgpus"] for want in _line(world, gpu, line, unclear if world.host.pf(gpu).off_bus else reasons)]
        mig = next((tuple(one["mig"]) for one in entries if "mig" in one), None)
        gpus[gpu] = GpuWant(tuple(wants), any(one.get("mixed_sizes") for one in entries), mig)
    uuids = [line["uuid"].lower() for entry in layout for line in entry["vgpus"] if "uuid" in line]
    if len(uuids) > len(set(uuids)):
        reasons.append("two vGPUs have the same UUID")
    for line in [line for entry in layout for line in entry["vgpus"]]:
        if line.get("uuid") == "no-uuid":
            reasons.append("%s is not a valid UUID" % line["uuid"])
        if line["count"] > 1 and ("uuid" in line or "vf" in line):
            reasons.append("uuid and vf require a count of 1")
    return Meaning(gpus, tuple(reasons), tuple(unclear))


def _line(world: World, gpu: str, line: Dict[str, Any], reasons: List[str]) -> List[Want]:
    """Return the vGPUs of one line on a GPU."""
    card = world.cards[gpu]
    word = line["type"].rsplit("-", 1)[-1]
    types = card.types
    found = next((one for one in types.values() if line["type"] in (one.short, one.name)), None)
    if found is None and (line["type"].isdigit() or line["type"].startswith(("nvidia-", "vfio-pci-"))):
        found = next((one for one in types.values() if one.id == word), None)
    if found is None:
        reasons.append("%s has no type %s" % (gpu, line["type"]))
        return []
    number = None
    if "vf" in line:
        pf = world.host.pf(gpu)
        addresses = [pf._vf_address(index) for index in range(card.fake.vfs)]  # the kernel computes these addresses from the SR-IOV offset and stride
        if card.on_pf:
            reasons.append("%s has no VFs" % gpu)
        elif line["vf"] in addresses:
            number = addresses.index(line["vf"])
        elif ":" in line["vf"]:
            reasons.append("%s is not a VF of %s" % (line["vf"], gpu))
        else:
            number = int(line["vf"])
    uuid = line["uuid"].lower() if "uuid" in line else None
    if uuid and world.vendor and not card.on_pf:
        reasons.append("the vGPUs on %s have no UUIDs" % gpu)
    return [Want(found.short, uuid, number, line.get("vgpu_params"))] * line["count"]
