# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs worlds of twenty operations with single mediated devices, layouts, and foreign vGPUs."""

from __future__ import annotations

from random import Random
from typing import Any, Dict, List, NamedTuple, Optional, Set

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mdev
from ansible_collections.vgpu.kvm.tests.model.hosts import UUIDS
from ansible_collections.vgpu.kvm.tests.model.layouts import Pick
from ansible_collections.vgpu.kvm.tests.model.machine import Worlds, refused, same_answer, worlds
from ansible_collections.vgpu.kvm.tests.model.rules import Type, Vgpu, time_sliced_fit
from ansible_collections.vgpu.kvm.tests.model.world import State, agree


class Device(NamedTuple):
    """The meaning of one nvidia_mdev device. vf: None if any free VF of the GPU is acceptable or if the PF holds the vGPUs."""

    present: bool
    uuid: Optional[str]
    gpu: Optional[str]
    vf: Optional[int]
    type: Optional[Type]


class MdevWorlds(Worlds):
    """Worlds with hosts whose vGPUs are mediated devices. Some worlds use a host with the other framework."""

    cards = ("a40", "a40", "l40s", "t4", "v100", "p40", "a100", "a2")
    weights = (
        ("devices", 12), ("apply", 2), ("vm_starts", 4), ("vms_stop", 1), ("foreign_vgpu", 3), ("vgpu_vanishes", 3),
        ("vf_cycle", 1), ("whole_gpu", 1), ("off_the_bus", 1), ("vf_taken", 1), ("vfs_by_module", 2), ("reboot", 1), ("restore_now", 1),
        ("devices_killed", 1),
    )

    def draw(self, pick: Pick) -> List[Dict[str, Any]]:
        """Return one to four devices in any documented spelling."""
        world = self.world
        found = []
        there = [one.key for one in world.state().vgpus]
        for dummy in range(pick.number(1, 4)):
            gpu = pick.one(sorted(world.cards))
            card, pf = world.cards[gpu], world.host.pf(gpu)
            one = pick.one(sorted(card.types.values())[:3] + sorted(card.types.values()))
            device: Dict[str, Any] = {}
            if pick.number(0, 2):
                device["uuid"] = pick.one(UUIDS + there)
            if pick.rarely(25):
                device["state"] = "absent"
            if "state" not in device or pick.rarely(20):
                index = pick.number(0, max(0, card.fake.vfs - 1))
                address = gpu if card.on_pf or pick.number(0, 1) else pf._vf_address(index)
                device["parent"] = pick.one(card.spellings(address, "-")[0][:3])
                device["type"] = pick.one([one.short, one.name, "nvidia-" + one.id, "vfio-pci-" + one.id, one.id])
            if pick.rarely(2):
                device.pop(pick.one(sorted(device)), None)
            found.append(device)
        return found

    def means(self, device: Dict[str, Any], reasons: List[str]) -> Optional[Device]:
        """Return the meaning of a device, or None if it is invalid."""
        world = self.world
        present = device.get("state") != "absent"
        if ":" in device.get("uuid", ""):
            reasons.append("the address of a VF is not a UUID")
        if not present and "uuid" not in device:
            reasons.append("a device without a UUID cannot be removed")
            return None
        if present and not ("parent" in device and "type" in device):
            reasons.append("a device to create requires parent and type")
            return None
        if "parent" not in device:
            return Device(present, device["uuid"], None, None, None)
        for gpu, card in world.cards.items():
            addresses = [gpu] + ([] if card.on_pf else [world.host.pf(gpu)._vf_address(index) for index in range(card.fake.vfs)])
            for number, address in enumerate(addresses):
                if device["parent"] in card.spellings(address, "-")[0]:
                    word = device.get("type", "").rsplit("-", 1)[-1]
                    types = [one for one in card.types.values() if device.get("type") in (one.short, one.name) or one.id == word]
                    return Device(present, device.get("uuid"), gpu, number - 1 if number else None, types[0] if types else None)
        raise AssertionError("a parent that is nowhere")

    def devices(self, data: Random) -> None:
        """Run nvidia_mdev for some devices in check mode, in a real run, and in a second run."""
        world, devices = self.world, self.draw(Pick(data))
        before = world.state()
        reasons: List[str] = []
        unclear: List[str] = []
        meant = [self.means(one, reasons) for one in devices]
        final = self.judge(before, [one for one in meant if one], reasons, unclear) if None not in meant else []
        arguments = {"devices": devices, "settle": 0}
        world.say("world.call(nvidia_mdev, **%r)" % arguments)
        check = world.call(nvidia_mdev, check=True, **arguments)
        outcome = world.call(nvidia_mdev, **arguments)
        same_answer(check, outcome)
        if refused(outcome):
            agree(bool(reasons or unclear), "nvidia_mdev refused", lambda: outcome.result["msg"])
            agree(world.state() == before and not outcome.writes, "nvidia_mdev writes despite a refusal", lambda: outcome.result["msg"])
            return
        agree(not reasons, "nvidia_mdev did not refuse", lambda: "%s; result of the module: %s" % (reasons, outcome.result))
        agree(not outcome.failed, "nvidia_mdev failed midway", lambda: str(outcome.result))
        self.remember_devices(before)
        after = world.state()
        if not unclear:
            found = sorted((one.gpu, one.type) for one in after.vgpus)
            agree(found == sorted(final), "devices", lambda: "%s, expected %s" % (found, sorted(final)))
        named = {one.uuid for one in meant if one and one.uuid}
        for one in before.vgpus:
            stays = one in after.vgpus or one.key in named or any(meaning and meaning.vf == one.vf and meaning.gpu == one.gpu for meaning in meant)
            agree(stays, "nvidia_mdev removed another device", lambda one=one: str(one))
        self.check_devices([one for one in meant if one], after, outcome)
        again = world.call(nvidia_mdev, **arguments)
        agree(not again.failed and not again["changed"] and not again.writes, "second run of nvidia_mdev", lambda: str(again.result))

    def remember_devices(self, before: State) -> None:
        """Record that no layout contains the devices of nvidia_mdev."""
        old = {one.serial for one in before.vgpus}
        self.world.adopted.update(one.serial for one in self.world.state().vgpus if one.serial not in old)
        self.world.by_hand = True

    def check_devices(self, meant: List[Device], after: State, outcome: Any) -> None:
        """Check that each device is in the requested state and that the module returns it."""
        there = {one.key: one for one in after.vgpus}
        for one in meant:
            if not one.present:
                agree(one.uuid not in there, "device still exists", lambda one=one: str(one))
                continue
            found = [other for other in after.on(one.gpu or "") if one.type and other.type == one.type.short
                     and one.vf in (None, other.vf) and one.uuid in (None, other.key)]
            agree(bool(found), "device is missing", lambda one=one: "%s; on the host: %s" % (one, after.vgpus))
        for row in outcome["devices"]:
            other = there.get(row["uuid"])
            parent = other and (self.world.host.pf(other.gpu).vfs[other.vf].address if other.vf is not None else other.gpu)
            agree(other is not None and (parent, other.type) == (row["parent"], row["type"]), "returned devices", lambda row=row: str(row))
        agree(len(outcome["devices"]) == sum(one.present for one in meant), "returned devices", lambda: str(outcome["devices"]))

    def judge(self, before: State, meant: List[Device], reasons: List[str], unclear: List[str]) -> List[Any]:
        """Return (GPU, type) of all vGPUs after the run, and collect the reasons why the module must fail."""
        uuids = [one.uuid for one in meant if one.uuid]
        if len(set(uuids)) < len(uuids):
            reasons.append("two devices have the same UUID")
        vfs = [(one.gpu, one.vf) for one in meant if one.present and one.vf is not None]
        if len(set(vfs)) < len(vfs):
            reasons.append("two devices request the same VF")
        for one, vgpu in [(one, vgpu) for one in meant for vgpu in before.vgpus if not one.present and one.uuid == vgpu.key]:
            if one.gpu not in (None, vgpu.gpu) or one.vf not in (None, vgpu.vf):
                reasons.append("a device to remove has another parent")
            elif one.gpu and one.vf != vgpu.vf:
                unclear.append("the request to remove a device names its PF as the parent")
            if before.gpus[vgpu.gpu].off_bus:
                reasons.append("a device to remove is on a GPU that fell off the bus")
        final: List[Vgpu] = []
        gone: Set[int] = set()
        for one in before.vgpus:
            for device in meant:
                if device.uuid == one.key and (not device.present or not self.same(device, one)):
                    gone.add(one.serial)
                    if device.present:
                        reasons.append("%s exists with another type or parent" % one.key)
            if one.serial in gone:
                if one.used:
                    reasons.append("%s is in use and must be removed or changed" % one.key)
            else:
                final.append(one)
        created = self.place(before, meant, final, reasons, unclear)
        self.fit(before, meant, final, created, reasons)
        return [(one.gpu, one.type) for one in final] + created

    @staticmethod
    def same(device: Device, one: Vgpu) -> bool:
        """Return whether a vGPU has the properties of the device, except for the UUID."""
        return device.gpu == one.gpu and device.type is not None and device.type.short == one.type and device.vf in (None, one.vf)

    def place(self, before: State, meant: List[Device], final: List[Vgpu], reasons: List[str], unclear: List[str]) -> List[Any]:
        """Return (GPU, type) of each vGPU to create."""
        created: List[Any] = []
        free = [one for one in final if one.key not in [device.uuid for device in meant]]
        for device in sorted((one for one in meant if one.present), key=lambda one: one.vf is None):
            assert device.gpu is not None
            state = before.gpus[device.gpu]
            if device.type is None:
                reasons.append("unknown vGPU type")
                continue
            if state.off_bus:
                unclear.append("%s fell off the bus, whether or not the device exists" % device.gpu)
            elif state.driver != "nvidia" or not (state.card.on_pf or state.vfs):
                reasons.append("%s currently cannot hold vGPUs" % device.gpu)
            if self.world.vendor and not state.card.on_pf:
                reasons.append("the vGPUs on %s are not mediated devices" % device.gpu)
            if device.vf is not None and device.vf not in state.usable:
                reasons.append("the VF currently does not exist")
            if device.uuid:
                if any(one.key == device.uuid for one in final):
                    continue
                if device.vf is not None and any(one.gpu == device.gpu and one.vf == device.vf for one in final):
                    reasons.append("the VF holds another device")
            else:
                found = [one for one in free if self.same(device, one)]
                if found:
                    free.remove(found[0])
                    continue
                if device.vf is not None and any(one.gpu == device.gpu and one.vf == device.vf for one in final):
                    reasons.append("the VF holds a device of another type")
            if state.off_bus:
                reasons.append("%s fell off the bus" % device.gpu)
            created.append((device.gpu, device.type.short))
        return created

    @staticmethod
    def fit(before: State, meant: List[Device], final: List[Vgpu], created: List[Any], reasons: List[str]) -> None:
        """Collect a reason for each GPU that gets a new vGPU but does not have enough room."""
        for gpu in sorted({gpu for gpu, short in created}):
            state = before.gpus[gpu]
            types = [state.card.types[short] for other, short in [(one.gpu, one.type) for one in final] + created if other == gpu]
            if any(bool(one.profile) != state.mig for one in types):
                reasons.append("%s: MIG mode is %s" % (gpu, "on" if state.mig else "off"))
                continue
            slots = None if state.card.on_pf else len(state.usable)
            reasons += time_sliced_fit(types, state.card.fake.gib, slots, state.mixed, state.card.fake.mixed)

    def devices_killed(self, data: Random) -> None:
        """Kill nvidia_mdev during its run. Later operations start from the incomplete result."""
        pick, world = Pick(data), self.world
        devices, number = self.draw(pick), pick.number(1, 6)
        world.say("world.killed(nvidia_mdev, %d, devices=%r, settle=0)" % (number, devices))
        before = world.state()
        world.killed(nvidia_mdev, number, devices=devices, settle=0)
        self.remember_devices(before)


test_mdev_worlds = worlds(MdevWorlds)
