# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The test model's judgment of a layout on a host: either the module must fail, with reasons, or it must keep, remove, and create specific vGPUs."""

from __future__ import annotations

from itertools import combinations
from typing import Dict, List, NamedTuple, Sequence, Set, Tuple

from ansible_collections.vgpu.kvm.tests.model.layouts import GpuWant, Meaning
from ansible_collections.vgpu.kvm.tests.model.rules import Instance, Stay, Type, Verdict, Want, instances_needed, may_stay, spreads, time_sliced_fit
from ansible_collections.vgpu.kvm.tests.model.world import GpuState, State, Vgpu, World


class Judgement(NamedTuple):
    """The judgment of a layout. removals: (minimum, maximum) number of vGPUs to remove by GPU, or None if open. lost: listed GPUs that fell off the bus."""

    verdict: Verdict
    removals: Dict[str, Tuple[int, int] | None]
    lost: Tuple[str, ...]


class Judge:
    """Judges one layout against one state of the host."""

    def __init__(self, world: World, state: State, meaning: Meaning) -> None:
        self.world, self.state, self.meaning = world, state, meaning
        self.reasons: List[str] = list(meaning.reasons)
        self.open: List[str] = list(meaning.open)
        self.removals: Dict[str, Tuple[int, int] | None] = {}
        self.named: Dict[str, str] = {}  # {UUID: GPU} for each UUID in the layout

    def judge(self) -> Judgement:
        """Return the judgment of the layout."""
        listed = self.meaning.gpus
        lost = tuple(gpu for gpu in listed if self.state.gpus[gpu].off_bus)
        uuids: Set[str] = set()
        for gpu, want in listed.items():
            for one in want.wants:
                if one.uuid and one.uuid in uuids:
                    self.reasons.append("%s occurs twice in the layout" % one.uuid)
                elif one.uuid:
                    uuids.add(one.uuid)
                    if gpu not in lost:
                        self.named[one.uuid] = gpu
                    elif any(vgpu.key == one.uuid and vgpu.gpu != gpu for vgpu in self.state.vgpus):
                        self.open.append("%s is assigned to a GPU that fell off the bus, but exists on another GPU" % one.uuid)
        for gpu in self.state.gpus:
            if gpu in lost:
                self._lost(gpu, listed[gpu])
            elif gpu in listed:
                self._listed(gpu, listed[gpu])
            else:
                self._unlisted(gpu)
        self._moved(lost)
        return Judgement(Verdict(tuple(self.reasons), tuple(self.open)), self.removals, lost)

    def protected(self, gpu: str) -> Set[int]:
        """Return the serials of vGPUs that must not change: vGPUs in use, and all vGPUs that could be a vGPU in use that the driver does not identify."""
        if self.world.blind:
            return {one.serial for one in self.state.on(gpu)}
        found = {one.serial for one in self.state.on(gpu) if one.used}
        for key in sorted(self.world.hidden):
            mdev = self.world.kernel.mdevs.get(key)
            if mdev and mdev.parent.vendor and mdev.parent.vm_name is None and mdev.parent.gpu.address == gpu:
                home = mdev.gi.id if mdev.gi else None  # nvidia-smi shows the GPU instance of each vGPU, and sysfs shows the VF's GPU instance
                found |= {one.serial for one in self.state.on(gpu) if one.type == mdev.type.short and one.gi == home}
        return found

    def ours(self, one: Vgpu) -> bool:
        """Return whether a layout has set the parameters of this vGPU."""
        return self.world.params.get(one.serial) == one.params or self.world.vf_params.get(one.key) == one.params

    def _unlisted(self, gpu: str) -> None:
        there = self.state.on(gpu)
        if self.state.gpus[gpu].off_bus:
            if there:
                self.open.append("%s fell off the bus and is not listed: its vGPUs cannot be removed" % gpu)
                self.removals[gpu] = None
            return
        mine = [one for one in there if one.serial in self.world.created and one.serial not in self.world.adopted]
        self.removals[gpu] = (len(mine), len(mine))
        for one in there:
            if one.serial in self.world.adopted:
                self.open.append("%s: a layout included %s, but the modules did not create it" % (gpu, one.key))
                self.removals[gpu] = None
        if set(one.serial for one in mine) & self.protected(gpu):
            self.reasons.append("%s: a vGPU that must be removed is in use" % gpu)

    def _moved(self, lost: Tuple[str, ...]) -> None:
        """Judge UUIDs that exist on another GPU than the layout specifies."""
        for one in self.state.vgpus:
            target = self.named.get(one.key)
            if target in (None, one.gpu) or one.gpu in self.meaning.gpus and one.gpu not in lost:
                continue
            if self.state.gpus[one.gpu].off_bus:
                self.open.append("%s is on a GPU that fell off the bus" % one.key)
            elif one.serial not in self.world.created | self.world.adopted:
                self.reasons.append("%s was not created by the modules and is on an unlisted GPU" % one.key)

    def _lost(self, gpu: str, want: GpuWant) -> None:
        """Judge a GPU that fell off the bus: the module can reject a request that no state of the GPU could fulfill."""
        refusals, self.reasons = self.reasons, []
        state = self.state.gpus[gpu]._replace(vfs=self.state.gpus[gpu].card.fake.vfs, usable=tuple(range(self.state.gpus[gpu].card.fake.vfs)))
        self._slots(gpu, want, state)
        self._fit(gpu, want, state, [state.card.types[one.type] for one in want.wants])
        self.open += self.reasons
        self.reasons = refusals

    def _listed(self, gpu: str, want: GpuWant) -> None:
        state = self.state.gpus[gpu]
        there = self.state.on(gpu)
        protected = self.protected(gpu)
        types = [state.card.types[one.type] for one in want.wants]
        self.removals[gpu] = None
        if state.driver != "nvidia":
            (self.reasons if want.wants else self.open).append("%s is on %s" % (gpu, state.driver))
            return
        if not state.card.on_pf and want.wants and not state.vfs:
            self.reasons.append("%s: its VFs are disabled" % gpu)
            return
        if want.mixed and (not want.wants or not state.card.fake.mixed):
            (self.reasons if want.wants else self.open).append("%s: mixed sizes without vGPUs, or on a GPU without support" % gpu)
        self._slots(gpu, want, state)
        self._fit(gpu, want, state, types)
        if want.mixed and not state.mixed and want.wants:
            if protected:
                self.reasons.append("%s: mixed sizes cannot be enabled while a vGPU is in use" % gpu)
            self.removals[gpu] = (len(there), len(there))
            return
        stay = may_stay(there, want.wants, self.named, protected)
        for one in stay.stuck:
            self.reasons.append("%s: %s is in use and must be removed or changed" % (gpu, one.key))
        self.removals[gpu] = self._least(gpu, want, state, types, stay)

    def _least(self, gpu: str, want: GpuWant, state: GpuState, types: List[Type], stay: Stay) -> Tuple[int, int]:
        """Return the minimum and maximum number of acceptable removals. They differ because the GPU instance of an idle mediated device is unknown."""
        there = self.state.on(gpu)
        if not state.mig or not there or not want.wants or any(not one.profile for one in types):
            return (len(there) - stay.kept,) * 2
        least = self._gone(there, want, state, types, stay.kept, False)
        return (least, least if self.world.vendor else self._gone(there, want, state, types, stay.kept, True))

    def _gone(self, there: List[Vgpu], want: GpuWant, state: GpuState, types: List[Type], most: int, spread: bool) -> int:
        """Return how many vGPUs must be removed to make room for the others, without removing a protected vGPU."""
        protected = self.protected(there[0].gpu)
        for size in range(most, -1, -1):
            for kept in combinations(there, size):
                gone = [one for one in there if one not in kept]
                if any(one.serial in protected for one in gone):
                    continue
                if may_stay(there, want.wants, self.named, protected, gone).kept == size and self._room(state, want, types, kept, spread):
                    return len(gone)
        return len(there)

    def _room(self, state: GpuState, want: GpuWant, types: List[Type], kept: Sequence[Vgpu], spread: bool = False) -> bool:
        """Return whether all vGPUs find GPU instances while some vGPUs stay. With `spread`, this must hold for every possible location of the idle vGPUs."""
        homes = [(state.card.types[one.type], one.gi or 0) for one in kept if one.used or not spread]
        idle = [state.card.types[one.type] for one in kept if not one.used and spread]
        blind, held = {one.profile for one in idle}, {home for dummy, home in homes}
        pinned = [one for one in state.instances if one.id in held or one.profile in blind]
        free = [one for one in pinned if one.id not in held]
        return all(self._finds(state, want, instances_needed(types, homes + some, free), kept, pinned, spread) for some in spreads(idle, homes, free))

    def _finds(self, state: GpuState, want: GpuWant, new: List[str], kept: Sequence[Vgpu], pinned: Sequence[Instance], spread: bool) -> bool:
        """Return whether new GPU instances fit beside those that stay. If the layout lists GPU instances, it must list all of these instances."""
        if want.mig is not None:
            rest = list(want.mig)
            shown = {one.gi for one in kept if self.world.vendor or one.used and one.key not in self.world.hidden and not self.world.blind}
            for instance in sorted(pinned, key=lambda one: one.id not in shown):
                if instance.profile in rest:
                    rest.remove(instance.profile)
                elif spread or instance.id in shown:
                    return False  # Otherwise, the instance stays, because it is unknown whether it holds a mediated device.
            if any(new.count(name) > rest.count(name) for name in new):
                return False
            new = rest
        return state.card.board.fits(new, pinned)

    def _slots(self, gpu: str, want: GpuWant, state: GpuState) -> None:
        pinned = [one.vf for one in want.wants if one.vf is not None]
        if len(set(pinned)) < len(pinned):
            self.reasons.append("%s: two vGPUs request the same VF" % gpu)
        for number in pinned:
            if number not in state.usable:
                self.reasons.append("%s: VF %d does not exist or cannot hold vGPUs" % (gpu, number))

    def _fit(self, gpu: str, want: GpuWant, state: GpuState, types: List[Type]) -> None:
        slots = None if state.card.on_pf else len(state.usable)
        if any(bool(one.profile) != state.mig for one in types):
            self.reasons.append("%s: MIG mode is %s, which the vGPU types do not match" % (gpu, "on" if state.mig else "off"))
            return
        if want.mig == () and not state.mig:
            self.open.append("%s: unclear whether an empty list of GPU instances requests MIG mode" % gpu)
        if not want.wants and not want.mig:
            return
        if not state.mig:
            if want.mig is not None:
                (self.reasons if want.mig else self.open).append("%s: GPU instances without MIG mode" % gpu)
            for text in time_sliced_fit(types, state.card.fake.gib, slots, want.mixed, state.card.fake.mixed):
                self.reasons.append("%s: %s" % (gpu, text))
            return
        if slots is not None and len(types) > slots:
            self.reasons.append("%s: more vGPUs than VFs" % gpu)
        if want.mixed:
            self.open.append("%s: mixed sizes in MIG mode" % gpu)
        if any(name not in state.card.board.profiles for name in want.mig or ()):
            self.reasons.append("%s: unknown GPU instance profile" % gpu)
            return
        protected = self.protected(gpu)
        used = [one for one in self.state.on(gpu) if one.serial in protected]
        if any(not state.card.types[one.type].profile for one in used):  # nvidia_mig evaluates this check as if MIG mode were enabled
            self.reasons.append("%s: a time-sliced vGPU is in use" % gpu)
        elif not self._room(state, want, types, used):
            self.reasons.append("%s: the GPU instances do not fit" % gpu)


def wanted_params(before: Dict[int, Vgpu], judge: Judge, one: Vgpu, want: Want) -> bool:
    """Return whether the parameters of a vGPU match those in the layout."""
    if want.params is not None:
        return one.params == want.params
    old = before.get(one.serial)
    if old is not None and old.serial in judge.protected(old.gpu):
        return one.params == old.params
    if old is not None:
        return one.params == ("" if judge.ours(old) else old.params)
    return one.params == ""
