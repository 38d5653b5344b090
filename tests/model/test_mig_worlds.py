# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs worlds of twenty operations with MIG: MIG mode, GPU instances, and layouts with MIG-backed vGPUs."""

from __future__ import annotations

from random import Random
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig
from ansible_collections.vgpu.kvm.tests.model.judge import Judge
from ansible_collections.vgpu.kvm.tests.model.layouts import Pick, means, profiles, write
from ansible_collections.vgpu.kvm.tests.model.machine import Worlds, refused, same_answer, staying, worlds
from ansible_collections.vgpu.kvm.tests.model.world import GpuState, State, agree


class MigWorlds(Worlds):
    """Worlds with GPUs that support MIG. Some worlds add a GPU without MIG support."""

    cards = ("a100", "a30", "h100", "rtxpro6000", "a100", "h100", "rtxpro6000", "a40")
    mig = True
    weights = Worlds.weights + (("mode", 3), ("mode_of_layout", 3), ("gpu_instances", 2), ("foreign_instance", 2), ("another_size", 3))

    def built(self, pick: Pick) -> None:
        """Enable MIG mode on some GPUs."""
        for gpu, card in self.world.cards.items():
            if card.fake.profiles and pick.number(0, 3):
                self.world.say("world.mig(%r)" % gpu)
                self.world.mig(gpu)

    def another_size(self, data: Random) -> None:
        """Apply more vGPUs than one GPU instance holds, then fewer vGPUs and one of another size."""
        pick, world = Pick(data), self.world
        state = world.state()
        shared = [(gpu, one) for gpu, card in sorted(world.cards.items()) if state.gpus[gpu].mig for one in sorted(card.types.values()) if one.per_gi > 1]
        if not shared:
            return
        gpu, one = pick.one(shared)
        others = [other for other in sorted(world.cards[gpu].types.values()) if other.profile == one.profile and other.gib != one.gib]
        first = {"type": one.short, "count": one.per_gi + pick.number(1, 2)}
        self.applied([{"gpu": [gpu], "vgpus": [first]}], "warn")
        fewer = {"type": one.short, "count": pick.number(2, one.per_gi)}
        self.applied([{"gpu": [gpu], "vgpus": [fewer, {"type": pick.one(others).short, "count": 1}]}], "warn")

    def mode(self, data: Random) -> None:
        """Set the MIG mode of some GPUs with nvidia_mig."""
        pick = Pick(data)
        gpus = pick.some(sorted(self.world.cards), 2) or sorted(self.world.cards)[:1]
        enabled = bool(pick.number(0, 1))
        arguments = {"gpus": gpus, "mode": "enabled" if enabled else "disabled", "cycle_vfs": bool(pick.number(0, 1))}
        self.set({gpu: enabled for gpu in gpus}, arguments, [], [])

    def mode_of_layout(self, data: Random) -> None:
        """Set the MIG modes that a layout requires with nvidia_mig."""
        pick, world = Pick(data), self.world
        layout = write(world, pick, True, 50)
        meaning = means(world, layout)
        before = world.state()
        reasons: List[str] = []
        unclear: List[str] = []
        modes: Dict[str, Optional[bool]] = {}
        for gpu, want in meaning.gpus.items():
            kinds = {bool(world.cards[gpu].types[one.type].profile) for one in want.wants} | ({True} if want.mig else set())
            if len(kinds) > 1:  # the driver assigns type numbers, but does not list them for a GPU that fell off the bus
                (unclear if before.gpus[gpu].off_bus else reasons).append("%s: MIG-backed and time-sliced types on one GPU" % gpu)
            modes[gpu] = True in kinds if kinds and want.mig != () else None
        # The documentation does not define which parts of a layout nvidia_mig checks besides MIG mode. It must accept layouts that are valid in the new modes.
        there = {gpu: self.then(state, modes.get(gpu)) for gpu, state in before.gpus.items()}
        judged = Judge(world, before._replace(gpus=there), meaning).judge()
        cycle = bool(pick.number(0, 1))
        self.set(modes, {"layout": layout, "cycle_vfs": cycle}, reasons, unclear + list(judged.verdict.open + judged.verdict.reasons))

    @staticmethod
    def then(state: GpuState, mode: Optional[bool]) -> GpuState:
        """Return the state of the GPU after its MIG mode is set and its VFs are enabled."""
        on = state._replace(vfs=state.card.fake.vfs, usable=tuple(range(state.card.fake.vfs)))
        return on if mode in (None, state.mig) else on._replace(mig=bool(mode), instances=(), mixed=False)

    def set(self, modes: Dict[str, Optional[bool]], arguments: Dict[str, Any], reasons: List[str], unclear: List[str]) -> None:
        """Change MIG modes in check mode, in a real run, and in a second run."""
        world = self.world
        before = world.state()
        for gpu, mode in modes.items():
            self.may_change(gpu, mode, before, bool(arguments["cycle_vfs"]), reasons, unclear)
        arguments["unresponsive_gpus"] = "warn"
        world.say("world.call(nvidia_mig, **%r)" % arguments)
        check = world.call(nvidia_mig, check=True, **arguments)
        outcome = world.call(nvidia_mig, **arguments)
        same_answer(check, outcome)
        self.judged(outcome, reasons, unclear, before)
        if refused(outcome):
            return
        lost = {gpu for gpu in modes if before.gpus[gpu].off_bus}
        named = {gpu for gpu in lost if modes[gpu] is not None and before.gpus[gpu].card.fake.profiles}
        agree(named <= set(outcome.result.get("unresponsive_gpus", [])) <= lost, "unresponsive_gpus", lambda: str(outcome.result))
        after = world.state()
        agree(not outcome.failed, "nvidia_mig failed midway", lambda: str(outcome.result))
        for gpu, mode in modes.items():
            state = after.gpus[gpu]
            if state.card.fake.profiles and not state.off_bus and state.driver == "nvidia" and mode is not None:
                agree(state.mig == mode, "MIG mode", lambda gpu=gpu: "%s: %s" % (gpu, outcome.result))
        for gpu in world.cards:
            same = gpu in modes or after.gpus[gpu] == before.gpus[gpu]
            agree(same, "nvidia_mig changed another GPU", lambda gpu=gpu: "%s: %s" % (gpu, after.gpus[gpu]))
        agree(after.vgpus == before.vgpus, "nvidia_mig changed vGPUs", lambda: str(after.vgpus))
        again = world.call(nvidia_mig, **arguments)
        agree(not again.failed and not again["changed"] and not again.writes, "second run of nvidia_mig", lambda: str(again.result))

    @staticmethod
    def changes(state: GpuState, mode: Optional[bool]) -> bool:
        """Return whether the requested mode differs from the current one."""
        return mode is not None and state.mig != mode and bool(state.card.fake.profiles)

    def may_change(self, gpu: str, mode: Optional[bool], before: State, cycle: bool, reasons: List[str], unclear: List[str]) -> None:
        """Collect the reasons why MIG mode cannot be set."""
        state = before.gpus[gpu]
        if state.off_bus:
            if mode and not state.card.fake.profiles:
                unclear.append("%s does not support MIG and fell off the bus" % gpu)
            return
        if state.driver != "nvidia" and (mode or state.card.fake.profiles):
            (unclear if mode is None else reasons).append("%s is on %s" % (gpu, state.driver))
            return
        if mode and not state.card.fake.profiles:
            reasons.append("%s does not support MIG" % gpu)
        if not self.changes(state, mode):
            return
        if before.on(gpu):
            reasons.append("%s holds vGPUs" % gpu)
        elif state.vfs and not cycle:
            reasons.append("%s: its VFs are enabled" % gpu)
        elif any(self.world.kernel.users(vf.group) for vf in self.world.host.pf(gpu).vfs):
            reasons.append("%s: a VM uses a VF" % gpu)

    def judged(self, outcome: Any, reasons: Sequence[str], unclear: Sequence[str], before: State) -> None:
        """Check that the module fails before any change exactly when the test model expects a failure."""
        if refused(outcome):
            agree(bool(reasons or unclear), "nvidia_mig refused", lambda: outcome.result["msg"])
            agree(self.world.state() == before and outcome.writes == 0, "nvidia_mig writes despite a refusal", lambda: outcome.result["msg"])
        else:
            agree(not reasons, "nvidia_mig did not refuse", lambda: "%s; result of the module: %s" % (list(reasons), outcome.result))

    def gpu_instances(self, data: Random) -> None:
        """Create the GPU instances of one GPU with nvidia_mig."""
        pick, world = Pick(data), self.world
        gpus = [gpu for gpu, card in sorted(world.cards.items()) if card.fake.profiles]
        if not gpus:
            return
        gpu = pick.one(gpus)
        wanted = profiles(world.cards[gpu], pick)
        before = world.state()
        state = before.gpus[gpu]
        reasons: List[str] = []
        unclear: List[str] = []
        if state.driver != "nvidia" and not state.off_bus:
            (reasons if wanted else unclear).append("%s is on %s" % (gpu, state.driver))
        elif wanted and not state.mig and not state.off_bus:
            reasons.append("%s is not in MIG mode" % gpu)
        elif wanted and not state.vfs and not state.off_bus:
            reasons.append("%s: GPU instances require enabled VFs" % gpu)
        hidden = world.hidden if not world.vendor else set()
        homes = {one.gi for one in before.on(gpu) if world.vendor or one.used and one.key not in hidden}
        pinned = [one for one in state.instances if one.id in homes]
        rest = list(wanted)
        for one in pinned:
            if one.profile in rest:
                rest.remove(one.profile)
            elif not state.off_bus:
                reasons.append("%s: an unlisted GPU instance holds a vGPU" % gpu)
        if not world.vendor and any(not one.used or one.key in hidden for one in before.on(gpu)):
            if staying(world.cards[gpu].board, state.instances, wanted) < len(state.instances):
                unclear.append("%s: the GPU instances of idle mediated devices are unknown" % gpu)
        if not world.cards[gpu].board.fits(rest, pinned):
            (unclear if state.off_bus or state.driver != "nvidia" else reasons).append("%s: the GPU instances do not fit" % gpu)
        arguments = {"gpus": [gpu], "instances": wanted, "unresponsive_gpus": "warn"}
        world.say("world.call(nvidia_mig, **%r)" % arguments)
        check = world.call(nvidia_mig, check=True, **arguments)
        outcome = world.call(nvidia_mig, **arguments)
        same_answer(check, outcome)
        self.judged(outcome, reasons, unclear, before)
        if refused(outcome):
            return
        agree(not outcome.failed, "nvidia_mig failed midway", lambda: str(outcome.result))
        after = world.state()
        agree(after.vgpus == before.vgpus, "nvidia_mig changed vGPUs", lambda: str(after.vgpus))
        if not unclear and not state.off_bus:
            found = sorted(one.profile for one in after.gpus[gpu].instances)
            agree(found == sorted(wanted), "GPU instances of nvidia_mig", lambda: "%s, listed: %s" % (found, wanted))
            self.kept(before, after, gpu, wanted)
        again = world.call(nvidia_mig, **arguments)
        agree(not again.failed and not again["changed"] and not again.writes, "second run of nvidia_mig", lambda: str(again.result))

    @staticmethod
    def kept(before: State, after: State, gpu: str, wanted: Sequence[str]) -> None:
        """Check that nvidia_mig destroyed no GPU instance that could stay."""
        old = before.gpus[gpu].instances
        most = staying(before.gpus[gpu].card.board, old, wanted)
        found = len([one for one in old if one in after.gpus[gpu].instances])
        agree(found >= most, "GPU instances destroyed", lambda: "%s became %s, %d can stay" % (old, after.gpus[gpu].instances, most))

    def foreign_instance(self, data: Random) -> None:
        """As another user of the host, create a GPU instance or destroy an empty one."""
        pick, world = Pick(data), self.world
        state = world.state()
        gpus = [gpu for gpu in sorted(world.cards) if state.gpus[gpu].mig and state.gpus[gpu].driver == "nvidia" and not state.gpus[gpu].off_bus]
        if not gpus:
            return
        gpu = pick.one(gpus)
        empty = [one for one in state.gpus[gpu].instances if one.id not in {vgpu.gi for vgpu in state.on(gpu)}]
        if empty and pick.number(0, 1):
            number = pick.one(empty).id
            world.smi("mig", "-dci", "-ci", "0", "-gi", str(number), "-i", gpu)
            world.smi("mig", "-dgi", "-gi", str(number), "-i", gpu)
        else:
            world.smi("mig", "-cgi", str(pick.one(world.cards[gpu].fake.profiles).id), "-C", "-i", gpu)


test_mig_worlds = worlds(MigWorlds)
