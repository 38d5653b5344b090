# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Playbook by remote call by kind of failure: one host for each call, which fails there in a first run; the same command again must end well.

VGPU_FLEET=full runs each call of each playbook with each kind of failure and each strategy, or what VGPU_FLEET_CASES names
(playbook:kind:strategy, separated by commas); VGPU_FLEET_PYTHON is the Python of another release of ansible-core.
"""

from __future__ import annotations

import os

import pytest
from bed import KINDS, long
from machine import NEW, OLD
from modules import ready

from ansible_collections.vgpu.kvm.tests.unit.fake.boot import debian

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
SECRET = "SECRETMARK-key"
PLAYBOOKS = ("host", "site", "upgrade", "teardown", "validate", "report")
READING = ("validate", "report")
STRATEGIES = ("linear", "free", "host_pinned")
NAMED = [tuple(case.split(":")) for case in os.environ.get("VGPU_FLEET_CASES", "").split(",") if case]
CASES = NAMED or [(playbook, kind, strategy) for playbook in PLAYBOOKS for kind in KINDS for strategy in STRATEGIES]


class Command:
    """A playbook with its variables, and the hosts that it starts from."""

    def __init__(self, bed, bundles, playbook):
        self.bed = bed
        self.playbook = playbook
        self.variables = {"vgpu_layout": LAYOUT, "vgpu_driver_dkms": False, "vgpu_driver_bundle": bundles[NEW]}
        for option, name in (("key", "mok.key"), ("certificate", "mok.der")):
            (bed.folder / name).write_text(SECRET, encoding="utf-8")
            self.variables["vgpu_driver_mok_" + option] = str(bed.folder / name)
        if playbook == "upgrade":
            self.variables.update(vgpu_serial="100%", vgpu_max_fail_percentage=100)
            for word in ("drain", "undrain"):
                (bed.folder / (word + ".yml")).write_text("- ansible.builtin.command: {argv: [%s]}\n" % word, encoding="utf-8")
                self.variables["vgpu_upgrade_" + word] = str(bed.folder / (word + ".yml"))
        if playbook == "teardown":
            self.variables["vgpu_teardown_confirm"] = True
        if playbook == "validate":
            self.variables.update(vgpu_validate_fail_on="never", vgpu_validate_json=str(bed.folder / "verdict.json"))
        if playbook == "report":
            self.variables["report_path"] = str(bed.folder / "report.html")

    def add(self, name):
        """A host: bare for host and site, else with an older driver."""
        machine = self.bed.add(name)
        if self.playbook in ("host", "site"):
            return debian(machine)
        ready(machine, OLD, LAYOUT)
        if self.playbook == "upgrade":
            machine.kernel.use(machine.vgpus()[0][0])
        return machine

    def run(self, strategy="linear"):
        """Once more."""
        return self.bed.play(self.playbook, strategy=strategy, **self.variables)


def plain(machine):
    """What must be the same on all hosts in the end."""
    state = machine.state()
    return {**{key: value for key, value in state.items() if key != "boots"}, "files": sorted(state["files"])}


def secrets(bed):
    """Hosts that have the signing key."""
    return [name for name, machine in bed.hosts.items() if machine.has_text(SECRET)]


def three_runs(bed, command, faults, strategy):
    """The first run with faults, {host: (number of the call, kind)}; the second and the third without."""
    for name, (number, kind) in faults.items():
        command.add(name)
        bed.faults[name] = {number: kind}
    first, bed.faults = command.run(strategy), {}
    dead = [name for name, (dummy, kind) in faults.items() if kind in ("unreachable", "cut")]
    assert "Traceback" not in first.out and SECRET not in first.out
    assert [name for name in secrets(bed) if name not in dead] == [], "the signing key stayed"
    assert [name for name, machine in bed.hosts.items() if machine.drained and name not in dead] == [], "it stayed out of service"
    second = command.run(strategy)
    assert second.rc == 0, second.out[-4000:]
    states, goal = {name: plain(machine) for name, machine in bed.hosts.items()}, plain(bed.hosts["good"])
    assert {name: diff(state, goal) for name, state in states.items() if state != goal} == {}, faults
    assert secrets(bed) == [] and not goal["drained"]
    third = command.run(strategy)
    assert third.rc == 0 and {name: plain(machine) for name, machine in bed.hosts.items()} == states, third.out[-4000:]
    changes = {name: number for name, number in third.changed.items() if number - (command.playbook == "upgrade") > 0}
    assert changes == {}, third.out[-4000:]


def diff(state, goal):
    """What differs."""
    return {key: (state[key], goal[key]) for key in goal if state[key] != goal[key]}


@long
def test_a_slice(bed, bundles):
    """Of host: one call that did its work unseen, the driver's; one that did not, the layout's."""
    command = Command(bed, bundles, "host")
    command.add("good")
    command.run()
    calls = bed.calls["good"]
    faults = {"a": (calls.index("nvidia_driver") + 1, "cut"), "b": (calls.index("nvidia_vgpu") + 1, "garbage")}
    three_runs(bed, command, faults, "linear")


@long
@pytest.mark.parametrize("playbook, kind, strategy", CASES)
def test_each_call(bed, bundles, playbook, kind, strategy):
    command = Command(bed, bundles, playbook)
    command.add("good")
    good = command.run(strategy)
    assert good.rc == 0, good.out[-4000:]
    calls = bed.calls["good"]
    if playbook in READING:
        before = bed.states()
        bed.faults["good"] = {1: kind}
        command.run(strategy)
        assert bed.states() == before
        return
    three_runs(bed, command, {"h%d" % number: (number, kind) for number in range(1, len(calls) + 1)}, strategy)
    print("%s, %s, %s: %d calls" % (playbook, kind, strategy, len(calls)))
