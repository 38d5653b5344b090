# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The operations of a world. After each operation, the host is compared with the test model."""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import pytest
from hypothesis import note, seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import Outcome

from ansible_collections.vgpu.kvm.tests.model.hosts import ADDRESSES, UUIDS
from ansible_collections.vgpu.kvm.tests.model.judge import Judge, Judgement, wanted_params
from ansible_collections.vgpu.kvm.tests.model.layouts import HABITS, Pick, means, moved, write
from ansible_collections.vgpu.kvm.tests.model.rules import Vgpu, instances_needed, satisfied, time_sliced_fit
from ansible_collections.vgpu.kvm.tests.model.world import Goal, State, World, agree

# Each operation derives its random choices from one number. hypothesis prefers small numbers in ranges above 2**24 and otherwise treats all numbers alike.
# The number 0 makes an operation do nothing, so that hypothesis can shrink an example to fewer operations without changing the others.
NUMBERS = st.integers(0, 2**24 - 1)
STRANDED = (None, "pci-pf-stub")  # drivers that a PF can have while another program enables its VFs
Fact = Tuple[str, str, Optional[int], str, Optional[str]]


class Worlds(RuleBasedStateMachine):
    """One world as a hypothesis state machine. cards: the GPUs to choose from."""

    cards: Sequence[str] = ()
    mig = False

    def __init__(self) -> None:
        super().__init__()
        self.world: World = None  # type: ignore[assignment]
        self.last: Optional[List[Dict[str, Any]]] = None
        self.names: List[str] = []  # names of the operations, repeated according to their weights
        self.swapped: Set[str] = set()  # GPUs whose card was replaced after the layout was stored

    @initialize(number=NUMBERS)
    def begin(self, number: int) -> None:
        """Build a host."""
        if not number:
            return
        pick = Pick(Random(number))
        addresses = sorted(pick.some(ADDRESSES, 3) or [ADDRESSES[2]])
        gpus = [(address, pick.one(self.cards)) for address in addresses]
        vendor = bool(pick.number(0, 1))
        self.world = World(gpus, vendor, bool(pick.number(0, 1)), pick.some(["short list", "cdevs", "spreads", "side by side"], 3))
        self.world.habits = {word: pick.one([0, 1, 1, 3]) for word in HABITS}
        # Each world has its own weights: an operation that is rare in most worlds is frequent in some.
        self.names = [name for name, weight in self.weights for dummy in range(weight * pick.one([0, 1, 1, 3]))] + ["apply"]
        self.built(pick)
        if pick.number(0, 9):
            self.world.host.vfs_on()
            self.world.say("world.host.vfs_on()")

    def built(self, pick: Pick) -> None:
        """Prepare the host before its VFs are enabled."""

    def teardown(self) -> None:
        if self.world is not None:
            note("\n".join(self.world.log))
            self.world.close()

    weights = (
        ("apply", 14), ("apply_once_more", 2), ("apply_killed", 2), ("apply_raced", 3), ("apply_blind", 1), ("preflight", 1), ("vf_taken", 1),
        ("vm_starts", 5), ("vms_stop", 2), ("foreign_vgpu", 4), ("vgpu_vanishes", 4),
        ("vf_cycle", 1), ("off_the_bus", 2), ("whole_gpu", 1), ("vfs_by_module", 2), ("reboot", 3), ("restore_now", 3),
        ("comes_back", 4), ("beside_a_vm", 3), ("beside_others", 2), ("without_a_gpu", 2), ("moves_from_a_lost_gpu", 1), ("stranded", 1),
    )

    @rule(number=NUMBERS)
    def operation(self, number: int) -> None:
        """Run one random operation, selected by weight."""
        if number and self.world is not None:
            data = Random(number)
            getattr(self, Pick(data).one(self.names))(data)

    # --- layouts

    def apply(self, data: Random) -> None:
        """Apply a layout, usually after enabling the VFs."""
        for gpu, state in self.world.state().gpus.items():
            if state.driver == "nvidia" and not state.vfs and not state.card.on_pf and not state.off_bus and data.randrange(8):
                self.world.cycle(gpu)
        self.applied(write(self.world, Pick(data), self.mig), Pick(data).one(["fail", "warn"]))

    def apply_once_more(self, data: Random) -> None:
        """Apply the last layout again."""
        if self.last is not None:
            self.applied(self.last, "warn")

    def apply_killed(self, data: Random) -> None:
        """Kill nvidia_vgpu during a run, then run it again."""
        pick, world = Pick(data), self.world
        layout = write(world, pick, self.mig) if self.last is None or pick.number(0, 1) else self.last
        number, fails = pick.number(1, 12), pick.number(0, 3) == 3
        world.say("world.killed(nvidia_vgpu, %d, fails=%r, layout=%r, settle=0)" % (number, fails, layout))
        before = world.state()
        world.killed(nvidia_vgpu, number, fails, layout=layout, settle=0)
        self.unsure(before, layout)
        self.applied(layout, "warn")

    def apply_raced(self, data: Random) -> None:
        """Start a VM that uses one of the vGPUs while nvidia_vgpu applies a layout."""
        pick, world = Pick(data), self.world
        before = world.state()
        idle = [one.key for one in before.vgpus if not one.used]
        if not idle:
            return
        key, number, layout = pick.one(idle), pick.one([1, 1, 2, 3, 4, 5]), write(world, pick, self.mig)
        world.say("world.raced(nvidia_vgpu, %d, lambda: world.start_vm([%r], False), layout=%r, settle=0)" % (number, key, layout))

        def event() -> None:
            if key in world.kernel.mdevs:
                world.start_vm([key], False)
                there.append(world.vgpu(world.kernel.mdevs[key]))

        there: List[Vgpu] = []
        world.raced(nvidia_vgpu, number, event, layout=layout, settle=0)
        for one in there:
            agree(one in world.state().vgpus, "vGPU changed under a VM that had just started", lambda one=one: str(one))
        self.unsure(before, layout)

    def apply_blind(self, data: Random) -> None:
        """Apply a layout while nvidia-smi does not list the users of vGPUs. Every vGPU then counts as in use."""
        with self.world.blinded():
            self.applied(write(self.world, Pick(data), self.mig), "warn")

    def preflight(self, data: Random) -> None:
        """Check a layout before the VFs are enabled. Check mode must predict the result with enabled VFs."""
        pick, world = Pick(data), self.world
        for gpu, state in world.state().gpus.items():
            if state.driver != "nvidia" or state.off_bus:
                return
            if self.idle(gpu) and not state.card.on_pf and pick.number(0, 2):
                world.cycle(gpu, on=False)
        layout = write(world, pick, self.mig)
        before = world.state()
        on = {gpu: state._replace(vfs=state.card.fake.vfs, usable=state.usable if state.vfs else tuple(range(state.card.fake.vfs)))
              for gpu, state in before.gpus.items()}
        judged = Judge(world, before._replace(gpus=on), means(world, layout)).judge()
        world.say("world.call(nvidia_vgpu, check=True, layout=%r, check_mode_assume=['vfs'])" % layout)
        outcome = world.call(nvidia_vgpu, check=True, layout=layout, check_mode_assume=["vfs"])
        if outcome.failed:
            agree(bool(judged.verdict.reasons or judged.verdict.open), "refused before VFs are enabled", lambda: outcome.result["msg"])
        # Check mode can accept a layout whose vGPU types are unknown until the VFs are enabled.

    def unsure(self, before: State, layout: Sequence[Dict[str, Any]]) -> None:
        """Record an interrupted run: the modules now manage its vGPUs, and the result of the next restore is unknown."""
        self.world.mig_layouts.update(self.world.cards)
        listed = means(self.world, layout).gpus
        self.world.adopted.update(one.serial for one in before.vgpus if one.gpu in listed and one.serial not in self.world.created)
        old = {one.serial: one for one in before.vgpus}
        for one in self.world.state().vgpus:
            if one.serial not in old:
                self.world.created.add(one.serial)
            if one.serial not in old or old[one.serial].params != one.params:
                self.remember_params(one)
        self.world.goal = {gpu: None for gpu in self.world.cards}

    def remember_params(self, one: Vgpu) -> None:
        """Record that a layout set the parameters of this vGPU. Other users of the host set different parameters ("foreign=1")."""
        world = self.world
        world.params.pop(one.serial, None)
        if one.params and one.params != "foreign=1":
            world.params[one.serial] = one.params
        if world.vendor and one.vf is not None:
            world.vf_params.pop(one.key, None)
            if one.serial in world.params:
                world.vf_params[one.key] = one.params

    def applied(self, layout: List[Dict[str, Any]], unresponsive: str) -> None:
        """Apply a layout in check mode, in a real run, and in a second run. Compare each run with the test model."""
        world = self.world
        arguments = {"layout": layout, "settle": 0, "unresponsive_gpus": unresponsive}
        world.say("world.call(nvidia_vgpu, **%r)" % arguments)
        before = world.state()
        meaning = means(world, layout)
        judge = Judge(world, before, meaning)
        judged = judge.judge()
        self.last = layout
        check = world.call(nvidia_vgpu, check=True, **arguments)
        outcome = world.call(nvidia_vgpu, **arguments)
        if judged.lost and check.failed and outcome.failed and not refused(outcome):
            check.result.update(steps=steps(check))  # the documentation does not define whether a failed check mode run lists its steps as done or not done
            outcome.result.update(steps=steps(outcome))
            same_answer(check, outcome, "steps", "errors")
        else:
            same_answer(check, outcome)
        self.verdict(judged, outcome, unresponsive, before)
        if refused(outcome):
            return
        self.result(before, judge, judged, outcome)
        start = world.host.clock.now()
        again = world.call(nvidia_vgpu, **arguments)
        took = world.host.clock.now() - start
        agree(took < 5 + 13 * len(world.cards), "a run without steps waits", lambda: "%d s" % took)
        agree(again.failed == outcome.failed and not again.result.get("changed") and not again.result.get("actions"), "second run",
              lambda: "%s %s" % (again.result, again.warnings))
        agree(again.writes == 0, "second run writes", lambda: str(world.host.writes[-again.writes:]))

    def verdict(self, judged: Judgement, outcome: Outcome, unresponsive: str, before: State) -> None:
        """Check that the module fails before any change exactly when the test model expects a failure."""
        verdict = judged.verdict
        if refused(outcome):
            agree(bool(verdict.reasons or verdict.open), "refused", lambda: outcome.result["msg"])
            agree(self.world.state() == before and outcome.writes == 0, "writes despite a refusal", lambda: outcome.result["msg"])
            return
        agree(not verdict.reasons, "not refused", lambda: "%s; result of the module: %s" % (verdict.reasons, outcome.result))
        if judged.lost and unresponsive == "fail":
            agree(outcome.failed and outcome.codes == ["gpu_off_bus"] * len(judged.lost), "GPU off the bus", lambda: str(outcome.result))
        else:
            agree(not outcome.failed, "failed midway", lambda: str(outcome.result))

    def result(self, before: State, judge: Judge, judged: Judgement, outcome: Outcome) -> None:
        """Check that the host matches the layout and that the module made no unnecessary change."""
        world, after = self.world, self.world.state()
        old = {one.serial: one for one in before.vgpus}
        listed = {gpu: want for gpu, want in judge.meaning.gpus.items() if gpu not in judged.lost}
        for gpu in world.cards:
            there = after.on(gpu)
            kept = {one.serial for one in there}
            gone = [one for one in before.on(gpu) if one.serial not in kept]
            agree(after.gpus[gpu].mig == before.gpus[gpu].mig, "MIG mode of a layout", lambda gpu=gpu: str(after.gpus[gpu]))
            bounds = judged.removals.get(gpu, (0, 0))
            agree(bounds is None or bounds[0] <= len(gone) <= bounds[1], "removals",
                  lambda gpu=gpu, gone=gone: "%s: %s, expected by the test model: %s" % (gpu, gone, judged.removals[gpu]))
            if gpu in listed:
                fits = satisfied(there, listed[gpu].wants, lambda one, want: wanted_params(old, judge, one, want))
                agree(fits, "state", lambda gpu=gpu, there=there: "%s has %s, requested: %s" % (gpu, there, listed[gpu]))
                self.mixed(before, after, gpu, listed[gpu])
                self.instances(before, after, gpu, listed[gpu])
            else:
                if gpu not in world.mig_layouts or before.gpus[gpu].off_bus:
                    agree(after.gpus[gpu].instances == before.gpus[gpu].instances, "GPU instances of an unlisted GPU", lambda gpu=gpu: str(after.gpus[gpu]))
                new = [one for one in there if one.serial not in old]
                agree(not new, "unrequested vGPUs", lambda new=new: str(new))
                others = [one for one in gone if one.serial not in world.created | world.adopted]
                agree(not others, "removed vGPUs of other users", lambda others=others: str(others))
            self.come_back(before, after, gpu, listed.get(gpu), judge)
        if not outcome.failed:
            agree(returned(outcome) == sorted(shown(world, one) for gpu in listed for one in after.on(gpu)), "returned vgpus",
                  lambda: "%s, the kernel has %s" % (returned(outcome), after.vgpus))
        self.remember(before, after, judge, listed)
        self.check_store(before, after, listed)

    def mixed(self, before: State, after: State, gpu: str, want: Any) -> None:
        """Check that mixed sizes are enabled if requested, and are disabled on a GPU whose vGPUs were all removed."""
        kept = {one.serial for one in before.on(gpu)} & {one.serial for one in after.on(gpu)}
        if want.wants and want.mixed:
            agree(after.gpus[gpu].mixed, "mixed sizes are disabled", lambda: gpu)
        elif not want.mixed and not kept and before.on(gpu):
            agree(not after.gpus[gpu].mixed, "mixed sizes stay enabled", lambda: gpu)

    def come_back(self, before: State, after: State, gpu: str, want: Any, judge: Judge) -> None:
        """Check that missing vGPUs return to their VFs with their UUIDs before other types use these VFs. A derived UUID always belongs to the same VF."""
        world, old = self.world, {one.serial for one in before.vgpus}
        new = [one for one in after.on(gpu) if one.serial not in old]
        for one in new:
            if one.key not in UUIDS and one.vf is not None and ":" not in one.key:
                home = world.homes.setdefault(one.key, (gpu, one.vf))
                agree(home == (gpu, one.vf), "a derived UUID appears on another VF", lambda one=one: "%s, before: %s" % (one, home))
        goal = world.goal.get(gpu)
        if not want or not goal or after.gpus[gpu].card.on_pf:
            return
        pinned = {one.vf for one in want.wants if one.vf is not None}
        named = {one.uuid for one in judge.meaning.wants() if one.uuid}
        there = {one.vf for one in after.on(gpu) if one.serial in old} | {one.vf for one in before.on(gpu)}
        keys = {one.key for one in before.vgpus} | {one.key for one in after.vgpus if one.gpu != gpu}
        recreated = {(one.key, one.vf) for one in before.on(gpu)}
        missing = [fact for fact in goal.facts if fact[2] not in there | pinned and fact[1] not in keys and fact[2] in before.gpus[gpu].usable]
        # A vGPU that replaces another type's surplus vGPU also counts as returned.
        recreated |= {fact[1:3] for fact in goal.facts if fact not in missing}
        made = [one for one in new if one.vf not in pinned and (one.key, one.vf) not in recreated]
        for short in sorted({one.type for one in made}):
            mine = [one for one in made if one.type == short and one.key not in named]
            lost = [fact for fact in missing if fact[3] == short and fact[1] not in named]
            back = [one for one in mine if (one.key, one.vf) in [fact[1:3] for fact in lost]]
            agree(len(back) >= min(len(mine), len(lost)), "a missing vGPU returns on another VF",
                  lambda lost=lost, mine=mine: "missing: %s, created: %s" % (lost, mine))
        for one in made:
            homes = [fact[2] for fact in missing if fact[1] == one.key and fact[3] == one.type and one.key in named]
            agree(not homes or one.vf in homes, "an explicit UUID on another VF", lambda one=one, homes=homes: "%s, before: %s" % (one, homes))

        others = sorted(one.vf for one in new if one.vf not in pinned and (one.key, one.vf, one.type) not in [fact[1:4] for fact in missing])
        taken = there | pinned | {one.vf for one in new if one.vf not in others}
        free = sorted(set(before.gpus[gpu].usable) - taken)
        gone = [one for one in before.on(gpu) if one not in after.vgpus]
        if not gone and {fact[2] for fact in missing} <= taken:
            agree(others == free[:len(others)], "free VFs are used out of order", lambda: "%s, free: %s" % (new, free))

    def instances(self, before: State, after: State, gpu: str, want: Any) -> None:
        """Check that listed and used GPU instances exist, that foreign instances stay on an emptied GPU, and that matching instances are not recreated."""
        if not after.gpus[gpu].mig:
            return
        old, there = before.gpus[gpu].instances, after.gpus[gpu].instances
        goal = self.world.goal.get(gpu)
        if want.mig is not None:
            profiles = [one.profile for one in there]
            more = {name for name in profiles if profiles.count(name) > want.mig.count(name)}  # an idle mediated device can use any instance of its profile
            listed = all(profiles.count(name) >= want.mig.count(name) for name in want.mig) and more <= self.blind(after, gpu)
            agree(listed, "GPU instances", lambda: "%s, listed: %s" % (there, want.mig))
        elif want.wants:
            homes = {one.gi for one in after.on(gpu)}
            blind = self.blind(after, gpu)
            agree(all(one.id in homes or one.profile in blind for one in there), "unneeded GPU instances", lambda: "%s: %s" % (there, after.on(gpu)))
        elif goal and goal.asked:
            agree(not there, "GPU instances of an emptied GPU", lambda: str(there))
        elif gpu not in self.world.mig_layouts:
            agree(there == old, "GPU instances of other users were destroyed", lambda: "%s became %s" % (old, there))
        if want.wants or want.mig is not None:
            kept = {one.serial for one in before.on(gpu)} & {one.serial for one in after.on(gpu)}
            homes = {one.gi for one in before.on(gpu) if one.serial in kept}
            most = staying(before.gpus[gpu].card.board, old, [one.profile for one in there], [one for one in old if one.id in homes])
            found = len([one for one in old if one in there])
            agree(found >= most, "GPU instances destroyed", lambda: "%s became %s, %d can stay" % (old, there, most))

    def blind(self, after: State, gpu: str) -> Set[Optional[str]]:
        """Return the profiles of GPU instances that might hold an idle mediated device."""
        return set() if self.world.vendor else {self.world.cards[gpu].types[one.type].profile for one in after.on(gpu)}

    def remember(self, before: State, after: State, judge: Judge, listed: Dict[str, Any]) -> None:
        """Update the test model's record of the host after a run."""
        world = self.world
        old = {one.serial for one in before.vgpus}
        for one in after.vgpus:
            if one.serial not in old:
                world.created.add(one.serial)
            elif one.serial not in world.created and one.gpu in listed:
                world.adopted.add(one.serial)
            if one.gpu in listed:
                self.remember_params(one)
        for gpu in world.cards:
            if after.gpus[gpu].off_bus or (gpu not in listed and gpu in judge.meaning.gpus):
                world.goal[gpu] = None
                continue
            facts = tuple(sorted(goal_fact(one) for one in after.on(gpu))) if gpu in listed else ()
            profiles = tuple(sorted(one.profile for one in after.gpus[gpu].instances))
            if gpu in listed and listed[gpu].mig is not None:
                # An additional GPU instance can stay, because it might hold an idle mediated device. A boot creates only the listed instances.
                profiles = tuple(sorted(listed[gpu].mig))
            self.swapped.discard(gpu)
            asked = gpu in listed and bool(listed[gpu].mig or any(world.cards[gpu].types[one.type].profile for one in listed[gpu].wants))
            if asked or gpu in listed and listed[gpu].mig is not None:
                world.mig_layouts.add(gpu)
            mixed = gpu in listed and listed[gpu].mixed
            world.goal[gpu] = Goal(facts, mixed, after.gpus[gpu].vfs, after.gpus[gpu].mig, profiles, asked)  # type: ignore[arg-type]

    def check_store(self, before: State, after: State, listed: Dict[str, Any]) -> None:
        """Check that the layout stored for the boot matches the vGPUs on the host."""
        world = self.world
        stored, earlier = world.stored(), world.stored(before.stored)
        uuids = [one["uuid"] for vgpus in stored.values() for one in vgpus if one["uuid"]]
        agree(len(uuids) == len(set(uuids)), "a UUID is stored twice", lambda: str(stored))
        for gpu in world.cards:
            if after.gpus[gpu].off_bus:
                elsewhere = {one["uuid"] for other, vgpus in stored.items() for one in vgpus if other != gpu}
                kept = [one for one in earlier.get(gpu, []) if not one["uuid"] or one["uuid"] not in elsewhere]
                agree(stored.get(gpu, []) == kept, "stored GPU off the bus", lambda gpu=gpu: "%s, before: %s" % (stored.get(gpu), earlier.get(gpu)))
                continue
            found = sorted((one["uuid"] or one["parent"], one["vf_index"], one["type"]) for one in stored.get(gpu, []))
            there = sorted((one.key, one.vf, one.type) for one in after.on(gpu)) if gpu in listed else []
            agree(found == there, "store", lambda gpu=gpu, found=found, there=there: "%s: stored: %s, on the host: %s" % (gpu, found, there))
        if world.mdevctl and not world.by_hand and not any(state.off_bus for state in after.gpus.values()):
            keys = sorted(one.key for one in after.vgpus if one.gpu in listed and (one.vf is None or not world.vendor))
            agree(list(after.defined) == keys, "mdevctl definitions", lambda: "%s, expected %s" % (after.defined, keys))

    # --- users

    def vm_starts(self, data: Random) -> None:
        """Start a VM with one or two vGPUs."""
        pick = Pick(data)
        free = [one.key for one in self.world.state().vgpus if not one.used and not self.world.host.pf(one.gpu).off_bus]
        keys = pick.some(free, 2)
        if keys:
            self.world.start_vm(keys, pick.number(0, 3) == 3, bool(pick.number(0, 1)))

    def vms_stop(self, data: Random) -> None:
        """Stop all VMs, including a VM that uses a whole GPU."""
        self.world.stop_vms()

    def foreign_vgpu(self, data: Random) -> None:
        """Create a vGPU as another user of the host."""
        pick, world = Pick(data), self.world
        gpu = pick.one(sorted(world.cards))
        card, pf = world.cards[gpu], world.host.pf(gpu)
        parents = [pf] if card.on_pf else [vf for vf in pf.vfs if vf.prefix and not vf.mdevs()]
        if pf.driver == "nvidia" and parents and not pf.off_bus:
            parent = pick.one(parents[:2] + parents)
            offered = [one.short for one in card.fake.types if world.kernel.available(parent, one)]
            short = pick.one(sorted(offered if offered and pick.number(0, 3) else card.types))
            world.create(parent.address, short, pick.one(UUIDS), pick.one(["", "", "foreign=1"]))

    def vgpu_vanishes(self, data: Random) -> None:
        """Remove one or more unused vGPUs as another user of the host."""
        for one in Pick(data).some([one for one in self.world.state().vgpus if not one.used], 3):
            self.world.remove(one.key)

    # --- mishaps

    def idle(self, gpu: str) -> bool:
        """Return whether the GPU and all of its vGPUs are idle."""
        state = self.world.state()
        return state.gpus[gpu].driver == "nvidia" and not any(one.used for one in state.on(gpu))

    def vf_cycle(self, data: Random) -> None:
        """Disable the VFs of a GPU as another user of the host, and in some cases enable them again."""
        pick = Pick(data)
        gpu = pick.one(sorted(self.world.cards))
        if self.idle(gpu) and not self.world.cards[gpu].on_pf:
            self.world.cycle(gpu, bool(pick.number(0, 2)))

    def vf_taken(self, data: Random) -> None:
        """Attach a VF without a vGPU to a VM as a plain PCI device."""
        pick, world = Pick(data), self.world
        free = [vf.address for pf in world.kernel.pfs() for vf in pf.vfs if vf.prefix and not vf.mdevs()]
        if free:
            world.take_vf(pick.one(free))

    def off_the_bus(self, data: Random) -> None:
        """Make a GPU fall off the bus, or make it respond again."""
        pf = self.world.host.pf(Pick(data).one(sorted(self.world.cards)))
        pf.off_bus = not pf.off_bus
        self.world.say("world.host.pf(%r).off_bus = %r" % (pf.address, pf.off_bus))

    def whole_gpu(self, data: Random) -> None:
        """Bind a GPU to vfio-pci for a VM, or bind it to nvidia again."""
        pick = Pick(data)
        gpu = pick.one(sorted(self.world.cards))
        if self.world.host.pf(gpu).driver == "vfio-pci":
            self.world.to_nvidia(gpu)
        elif self.idle(gpu) and pick.number(0, 1):
            self.world.to_vfio(gpu, bool(pick.number(0, 1)))

    def vfs_by_module(self, data: Random) -> None:
        """Enable the VFs of all GPUs with nvidia_sriov."""
        world = self.world
        before = world.state()
        wanted = [gpu for gpu, state in before.gpus.items() if state.driver == "nvidia" and not state.off_bus and not state.card.on_pf]
        if not wanted:
            return
        world.say("world.call(nvidia_sriov, gpus=%r)" % wanted)
        check = world.call(nvidia_sriov, check=True, gpus=wanted)
        outcome = world.call(nvidia_sriov, gpus=wanted)
        same_answer(check, outcome, "changed", "actions", "msg")
        if any(before.gpus[gpu].vfs and len(before.gpus[gpu].usable) < before.gpus[gpu].vfs for gpu in wanted):
            return  # a VF that is bound to another driver is in use, or makes the module fail
        agree(not outcome.failed, "enabling VFs failed", lambda: outcome.result["msg"])
        after = world.state()
        agree(all(after.gpus[gpu].vfs == world.cards[gpu].fake.vfs for gpu in wanted), "VFs are disabled", lambda: str(outcome.result))
        agree(after.vgpus == before.vgpus, "enabling VFs changed vGPUs", lambda: str(after.vgpus))
        agree(world.call(nvidia_sriov, gpus=wanted).writes == 0, "second run of nvidia_sriov", lambda: "")

    # --- sequences of operations

    def comes_back(self, data: Random) -> None:
        """Remove vGPUs as another user of the host, then apply the last layout or another one."""
        self.vgpu_vanishes(data)
        if Pick(data).number(0, 1):
            self.apply_once_more(data)
        else:
            self.apply(data)

    def beside_a_vm(self, data: Random) -> None:
        """Start a VM, then apply a layout."""
        self.vm_starts(data)
        self.apply(data)

    def beside_others(self, data: Random) -> None:
        """Start a VM with a foreign vGPU, then run the restore."""
        world = self.world
        before = {one.serial for one in world.state().vgpus}
        self.foreign_vgpu(data)
        keys = [one.key for one in world.state().vgpus if one.serial not in before]
        if keys:
            world.start_vm(keys, bool(Pick(data).rarely(25)))
        self.restores(None)

    def without_a_gpu(self, data: Random) -> None:
        """Make a GPU fall off the bus, apply a layout, and in some cases make the GPU respond again."""
        pick, world = Pick(data), self.world
        pf = world.host.pf(pick.one(sorted(world.cards)))
        pf.off_bus = True
        world.say("world.host.pf(%r).off_bus = True" % pf.address)
        if pick.number(0, 1):
            self.apply_once_more(data)
        else:
            self.apply(data)
        pf.off_bus = bool(pick.number(0, 1))
        world.say("world.host.pf(%r).off_bus = %r" % (pf.address, pf.off_bus))

    def moves_from_a_lost_gpu(self, data: Random) -> None:
        """Reboot the host without a GPU that had vGPUs with explicit UUIDs, then apply a layout that moves one of these UUIDs to another GPU."""
        pick, world = Pick(data), self.world
        lost = [gpu for gpu, vgpus in sorted(world.stored().items()) if gpu in world.cards and any(one["uuid"] in UUIDS for one in vgpus)]
        if not lost or len(world.cards) < 2:
            return
        pf = world.host.pf(pick.one(lost))
        pf.off_bus = True
        world.say("world.host.pf(%r).off_bus = True" % pf.address)
        world.reboot(back=False)
        self.restores(None)
        self.applied(moved(world, pick, self.mig), "warn")

    def stranded(self, data: Random) -> None:
        """Interrupt the program that enables a GPU's VFs at boot. The PF is then bound to neither nvidia nor vfio-pci when the restore starts."""
        pick, world = Pick(data), self.world
        world.reboot()
        gpus = [gpu for gpu, state in world.state().gpus.items() if state.driver == "nvidia" and not state.card.on_pf and not state.vfs]
        if gpus:
            gpu = pick.one(gpus)
            world.strand(gpu, pick.one([None, "pci-pf-stub"]))
            self.restores(None)
            if world.host.pf(gpu).driver != "nvidia":
                world.to_nvidia(gpu)

    # --- the boot

    def reboot(self, data: Random) -> None:
        """Reboot the host and run the restore. In some cases, kill the first restore and run it again."""
        pick, world = Pick(data), self.world
        if pick.rarely(10):
            gpu = pick.one(sorted(world.cards))
            world.swap(gpu, pick.one(self.cards))
            goal = world.goal.get(gpu)
            self.swapped.discard(gpu)  # the slot might contain the original card again
            if goal and not {fact[3] for fact in goal.facts} & set(world.cards[gpu].types):
                self.swapped.add(gpu)
        world.reboot(back=bool(pick.number(0, 1)))
        self.restores(pick.number(1, 12) if pick.rarely(35) else None)

    def restore_now(self, data: Random) -> None:
        """Run the restore on a running host."""
        self.restores(Pick(data).number(1, 12) if Pick(data).rarely(20) else None)

    def restores(self, kill: Optional[int]) -> None:
        """Run the restore, in some cases after a killed restore, and compare the host with the goals."""
        world = self.world
        if not world.goal:
            return
        before = world.state()
        if kill:
            world.say("world.restored(kill=%d)" % kill)
            world.restored(kill)
        world.say("world.restored()")
        errors = world.restored()
        after = world.state()
        kept = {one.serial for one in after.vgpus}
        gone = [one for one in before.vgpus if one.serial not in kept]
        agree(not gone, "the restore removed vGPUs", lambda: str(gone))
        expected, unsure = False, False
        for gpu, goal in world.goal.items():
            if goal is None:
                unsure = True
                continue
            possible = self.restorable(before, gpu, goal)
            expected = expected or possible is False
            unsure = unsure or possible is None
            if possible:
                self.check_restored(before, after, gpu, goal, errors)
        agree(unsure or bool(errors) == expected, "errors of the restore", lambda: "%s; expected: %s" % (errors, expected))
        old = {one.serial: one for one in before.vgpus}
        for one in after.vgpus:
            if one.serial not in old:
                world.created.add(one.serial)
            if one.serial not in old or old[one.serial].params != one.params:  # the restore sets the stored parameters of an idle vGPU
                self.remember_params(one)
        world.say("world.restored()")
        writes = len(world.host.writes)
        again = world.restored()
        agree(len(world.host.writes) == writes or unsure or bool(again), "a second restore writes", lambda: str(world.host.writes[writes:]))
        agree(world.state() == after or unsure, "a second restore changes the host", lambda: "%s became %s" % (after, world.state()))

    def restorable(self, before: State, gpu: str, goal: Goal) -> Optional[bool]:
        """Return whether the restore can reach the goal of this GPU. Return None if the documentation does not define the result."""
        state, there = before.gpus[gpu], before.on(gpu)
        if gpu in self.swapped:
            return False if goal.facts else None
        lost = [fact[2] for fact in goal.facts if fact[2] is not None and state.vfs and fact[2] not in state.usable]
        if lost:  # the documentation does not define whether the restore releases an unused VF from vfio-pci
            vfs = self.world.host.pf(gpu).vfs
            return False if any(self.world.kernel.users(vfs[number].group) for number in lost) else None
        if state.off_bus or state.driver not in ("nvidia", *STRANDED) or state.driver in STRANDED and state.card.on_pf:
            if goal.profiles and not goal.facts:
                return None  # the documentation does not define whether missing GPU instances are an error if no vGPU needs them
            return False if goal.facts else (True if state.driver != "nvidia" else None)
        if goal.mixed and not state.mixed and there:
            return None
        if not goal.facts and not goal.profiles and goal.mig == state.mig:
            return True
        if goal.mig != state.mig:
            return True if not there and not state.vfs and goal.mig else None
        keys = {(one.key, one.type) for one in there}  # a VM refers to a mediated device by its UUID, regardless of the VF
        missing = [fact for fact in goal.facts if (fact[1], fact[3]) not in keys]
        taken = {one.key for one in before.vgpus} & {fact[1] for fact in missing}
        vfs = {one.vf for one in there} & {fact[2] for fact in missing if fact[2] is not None}
        types = [state.card.types[one.type] for one in there] + [state.card.types[fact[3]] for fact in missing]
        slots = None if state.card.on_pf else goal.vfs
        if goal.mig:
            # The restore does not remove GPU instances. Existing GPU instances, such as those of an earlier run, can leave too little room.
            if not there:
                if not state.card.board.fits(instances_needed(types, (), state.instances), state.instances):
                    return False
                more = Counter(goal.profiles) - Counter(one.profile for one in state.instances)
                return True if state.card.board.fits(list(more.elements()), state.instances) else None
            homes = [(state.card.types[one.type], one.gi or 0) for one in there]
            room = state.card.board.fits(instances_needed(types, homes, state.instances), state.instances)
            return not (missing and (taken or vfs or not room or len(types) > goal.vfs))
        if missing and (taken or vfs or time_sliced_fit(types, state.card.fake.gib, slots, goal.mixed or state.mixed, state.card.fake.mixed)):
            return False
        return True

    def check_restored(self, before: State, after: State, gpu: str, goal: Goal, errors: Any) -> None:
        """Check that the goal's vGPUs exist and that the restore removed no earlier vGPU."""
        if after.gpus[gpu].driver != "nvidia":
            return
        agree(after.gpus[gpu].vfs == (before.gpus[gpu].vfs or goal.vfs), "VFs after the restore", lambda: "%s: %s" % (gpu, after.gpus[gpu].vfs))
        there, old = after.on(gpu), {one.serial for one in before.on(gpu)}
        for fact in goal.facts:
            found = [one for one in there if (one.key, one.type) == (fact[1], fact[3]) and (one.vf == fact[2] or one.serial in old)]
            # If no parameters are stored, the restore keeps the parameters that another user set, like a layout without vgpu_params.
            written = [one for one in found if one.serial in old and one.params == "foreign=1" and not fact[4]]
            found = [one for one in found if one.used or fact[4] in (None, one.params) or one in written]
            agree(bool(found), "not restored", lambda fact=fact: "%s; on the host: %s; errors: %s" % (fact, there, errors))
        owed = {fact[1] for fact in goal.facts} | {one.key for one in before.on(gpu)}
        agree(all(one.key in owed for one in there), "vGPUs restored that are not stored", lambda: str(there))
        if not before.on(gpu) and goal.mig:
            found = sorted(one.profile for one in after.gpus[gpu].instances)
            agree(after.gpus[gpu].mig or not goal.facts, "MIG mode after the restore", lambda: gpu)
            old = [one.profile for one in before.gpus[gpu].instances]  # the restore does not remove GPU instances
            right = all(found.count(name) == goal.profiles.count(name) or found.count(name) == max(old.count(name), goal.profiles.count(name))
                        for name in {*found, *goal.profiles})
            agree(right or not goal.facts, "GPU instances after the restore", lambda: "%s, expected %s" % (found, goal.profiles))
        if not before.on(gpu):
            agree(after.gpus[gpu].mixed == goal.mixed or not goal.facts, "mixed sizes after the restore", lambda: gpu)


def staying(board: Any, old: Sequence[Any], wanted: Sequence[str], must: Sequence[Any] = ()) -> int:
    """Return the largest number of old GPU instances that can stay if instances of the requested profiles are created."""
    most = 0
    for bits in range(2 ** len(old)):
        stay = [one for number, one in enumerate(old) if bits >> number & 1]
        rest = list(wanted)
        for one in stay:
            if one.profile not in rest:
                break
            rest.remove(one.profile)
        else:
            if len(stay) > most and all(one in stay for one in must) and board.fits(rest, stay):
                most = len(stay)
    return most


def goal_fact(one: Vgpu) -> Fact:
    """Return the properties of a vGPU that the restore must reach. Parameters that another user set are excluded."""
    return one.facts()[:4] + (None if one.params == "foreign=1" else one.params,)


def refused(outcome: Outcome) -> bool:
    """Return whether the module failed before any change."""
    return outcome.failed and not outcome.result.get("actions") and not outcome.result.get("not_done")


def steps(outcome: Outcome) -> List[str]:
    """Return all steps of a run that failed after some changes, whether done or not."""
    return sorted(outcome.result.get("actions", []) + outcome.result.get("not_done", []))


def same_answer(check: Outcome, real: Outcome, *only: str) -> None:
    """Check that check mode and the real run return the same values."""
    keys = only or sorted(set(check.result) | set(real.result))
    differ = [key for key in keys if check.result.get(key) != real.result.get(key) and key not in ("diff", "invocation")]
    agree(check.failed == real.failed and not differ, "check mode differs",
          lambda: "in %s: check mode %s, real run %s" % (differ, {key: check.result.get(key) for key in differ}, {key: real.result.get(key) for key in differ}))


def returned(outcome: Outcome) -> List[Tuple[Any, ...]]:
    """Return the vGPUs in the module's result in a form that can be compared."""
    rows = outcome["vgpus"]
    return sorted((one["gpu"], one["vf"], -1 if one["vf_index"] is None else one["vf_index"], one["type"], one["uuid"] or "") for one in rows)


def shown(world: World, one: Vgpu) -> Tuple[Any, ...]:
    """Return a vGPU as the module's result must show it."""
    parent = world.host.pf(one.gpu).vfs[one.vf].address if one.vf is not None else one.gpu
    return (one.gpu, parent, one.vf if one.vf is not None else -1, one.type, "" if one.key == parent else one.key)


def worlds(machine: Any) -> Callable[[int], None]:
    """Return a test of this machine that runs one world per parameter.

    hypothesis derives most examples from earlier ones, so that they differ little. Each world is therefore a separate hypothesis run with two examples:
    the empty example, which runs no operation, and one random example.
    """
    first = int(os.environ.get("VGPU_WORLDS_SEED") or 0) * 1000000

    @pytest.mark.parametrize("number", range(first, first + int(os.environ.get("VGPU_WORLDS") or 20)))
    def test(number: int) -> None:
        """Compare the modules with the test model in one world."""
        run_state_machine_as_test(seed(number)(machine))

    return test
