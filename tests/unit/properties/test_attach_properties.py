# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests random VMs, vGPUs, and requests: the plan of nvidia_vgpu_attach must be as good as the best of all possible assignments.

VGPU_ATTACH_CASES sets the number of cases, and VGPU_ATTACH_SEED selects them. The reference in this file does not use the algorithm of the planner.
"""

from __future__ import annotations

import itertools
import os
import random

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.gpu import Gpu, Holder, Vf, Vgpu
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.libvirt import placement, plan, request
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read.inventory import Inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.libvirt_xml import Domain, Hostdev

CASES = int(os.environ.get("VGPU_ATTACH_CASES", "1000"))
SEED = int(os.environ.get("VGPU_ATTACH_SEED", "22"))
PARTS = 10  # number of tests into which the cases are divided
VMS = ("a", "b", "c")
TYPES = ("A40-24Q", "A40-8Q")
GPUS = ("0000:e7:00.0", "0000:e8:00.0")


class Case:
    """A random host with up to five vGPUs, up to three VMs, and requests for some of the VMs."""

    def __init__(self, seed):
        chance = random.Random(seed)
        self.vendor = chance.random() < 0.3
        self.options = placement.Options(exclusive=chance.random() < 0.7, live=chance.random() < 0.3)
        self.vgpus = [self._vgpu(chance, number) for number in range(chance.choice((1, 3, 4, 5, 5)))]
        self.domains = self._domains(chance)
        named = [vgpu.key for vgpu in self.vgpus]
        self.requests = []
        for name in chance.sample(VMS, chance.randint(1, 3)):
            wanted = []
            for dummy in range(chance.choice((0, 1, 1, 2))):
                kind = chance.random()
                if kind < 0.25 and named:
                    wanted.append({"vf" if self.vendor else "uuid": named.pop(chance.randrange(len(named)))})
                else:
                    like = chance.choice(self.vgpus)  # most requests name the type of an existing vGPU
                    wanted.append({"type": like.type.split()[-1] if kind < 0.97 else chance.choice(TYPES)})
                    if kind < 0.45:
                        wanted[-1]["gpu"] = like.parent[:-2] + ".0"
                if not self.vendor and chance.random() < 0.3:
                    wanted[-1]["display"] = chance.random() < 0.5
            self.requests.append({"name": name, "vgpus": wanted})

    def _vgpu(self, chance, number):
        vf = "%s.%d" % (chance.choice(GPUS)[:-2], number + 3)
        holders = [Holder(1, "qemu", chance.choice(VMS))] if chance.random() < 0.06 else []
        uuid = None if self.vendor else "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d" % number
        return Vgpu(uuid, vf, number, "1", "NVIDIA " + chance.choice(TYPES), holders)

    def _domains(self, chance):
        """Return the VMs. A vGPU is in the definition of at most one VM. In some cases, another VM runs or was saved with that vGPU."""
        made = {name: Domain(name, [], [] if chance.random() < 0.4 else None, uuid=name * 8, graphics=True) for name in VMS}
        for vgpu in self.vgpus:
            defined, live = (chance.choice((*VMS, None, None, None)) for dummy in range(2))
            device = Hostdev("pci" if self.vendor else "mdev", vgpu.key, managed=chance.random() < 0.1, display=chance.choice((None, True, False)))
            device.display = None if self.vendor else device.display
            if defined:
                made[defined].defined.append(device)
            runs = made.get(defined if defined and chance.random() < 0.85 else live)
            if runs and runs.running and chance.random() < 0.6:
                runs.live.append(device)
            if chance.random() < 0.04:
                made[chance.choice(VMS)].saved[vgpu.key] = "in the managed save"
            if chance.random() < 0.03:
                made[chance.choice(VMS)].fixed.append(vgpu.key if chance.random() < 0.5 else vgpu.parent)
        return list(made.values())

    def inventory(self):
        """Return the inventory of the host."""
        gpus = []
        for address in GPUS:
            mine = [one for one in self.vgpus if one.parent[:-2] == address[:-2]]
            vfs = [Vf(one.parent, one.index, "nvidia", None, "mdev") for one in mine]
            gpus.append(Gpu(address, "2235", "145a", None, total_vfs=16, vf_device=1, vfs=vfs, vgpus=mine))
        return Inventory(gpus, self.vgpus, open_files=None)

    def plan(self):
        """Return the plan of the collection, or None if planning fails."""
        try:
            return plan.plan(self.inventory(), self.domains, request.parse([dict(one) for one in self.requests]), self.options)
        except EngineError:
            return None


def means(one, vgpu):
    """Return whether a vGPU matches a request."""
    if "type" in one:
        return vgpu.type.endswith(one["type"]) and vgpu.parent[:-2] == one.get("gpu", vgpu.parent)[:-2]
    return vgpu.key in (one.get("uuid"), one.get("vf"))


def steps_of(case, assigned):
    """Return the number of steps that an assignment of (vm, request, vGPU) needs. Return None if a vGPU would be in two VMs."""
    expected = {one["name"]: {vgpu.key: wanted for vm, wanted, vgpu in assigned if vm == one["name"]} for one in case.requests}
    steps, users = 0, {vgpu.key: [] for vgpu in case.vgpus}
    for domain in case.domains:
        defined = {one.key: one for one in domain.defined}
        live = {one.key for one in domain.live or ()}
        keeps = domain.name not in expected or not case.options.exclusive
        wanted = expected.get(domain.name, {})
        after = set(wanted) | (set(defined) if keeps else set())
        live_after = live | (set(wanted) if domain.running and case.options.live else set())
        if case.options.live and not keeps:
            live_after = set(wanted) if domain.running else set()
        steps += len(after ^ set(defined)) + len(live_after ^ live)
        for key in set(wanted) & set(defined):
            display = wanted[key].get("display")
            steps += (display is not None and display != bool(defined[key].display)) or (case.vendor and defined[key].managed)
        for vgpu in case.vgpus:
            if vgpu.key in after | live_after | set(domain.saved):
                users[vgpu.key].append(domain.name)
            if {vgpu.key, vgpu.parent} & set(domain.fixed):
                users[vgpu.key] += [domain.name, "itself"]  # the device cannot be changed, and a second user excludes the vGPU
    for vm, dummy, vgpu in assigned:
        if set(users[vgpu.key]) != {vm} or [one for one in vgpu.holders if one.vm != vm]:
            return None
    return steps


def fewest(case):
    """Return the smallest number of steps that serves all requests, or None if that is impossible."""
    wanted = [(one["name"], vgpu) for one in case.requests for vgpu in one["vgpus"]]
    choices = [[vgpu for vgpu in case.vgpus if means(one, vgpu)] for dummy, one in wanted]
    found = []
    for chosen in itertools.product(*choices):
        if len({vgpu.key for vgpu in chosen}) == len(chosen):
            found.append(steps_of(case, [(vm, one, vgpu) for (vm, one), vgpu in zip(wanted, chosen)]))
    return min((one for one in found if one is not None), default=None)


def do(case, made):
    """Apply the steps of a plan to the VMs of the case."""
    vms = {one.name: one for one in case.domains}
    for step in made.steps:
        devices = vms[step.device].live if step.args["live"] else vms[step.device].defined
        key = step.args["hostdev"].key
        there = [one for one in devices if one.key == key]
        assert len(there) == (step.kind != "attach-device"), "a device is attached twice, or is detached from a VM that lacks it"
        for one in there:
            devices.remove(one)
        if step.kind != "detach-device":
            devices.append(step.args["hostdev"])


def check(seed):
    """Check the case of one seed. Return whether its requests can be served."""
    case = Case(seed)
    best, made = fewest(case), case.plan()
    assert (made is None) == (best is None), "seed %d: %s" % (seed, "refused" if made is None else "impossible")
    if made is None:
        return False
    assert len(made.steps) == best, "seed %d: %s, but %d steps suffice" % (seed, [str(one) for one in made.steps], best)
    do(case, made)
    for vm, key, dummy in made.target.attached:
        for other in case.domains:
            has = [one.key for one in [*other.defined, *(other.live or ())]]
            assert other.name == vm or key not in has, "seed %d: %s is in two VMs" % (seed, key)
    again = case.plan()
    assert again and not again.steps and again.target.attached == made.target.attached, "seed %d: a second run has steps or changes the result" % seed
    return True


@pytest.mark.parametrize("part", range(PARTS))
def test_the_plan_is_possible_where_one_is_and_the_shortest(part):
    possible = [check(seed) for seed in range(SEED * 1000003 + part, SEED * 1000003 + CASES, PARTS)]
    assert 0.2 < sum(possible) / len(possible) < 0.9, "too many or too few of the random cases are possible"
