# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of every playbook with every kind of failure at every remote call. In the first run, one call of each host fails. A second run must succeed.

By default, only a small selection of the tests runs. With VGPU_FLEET=full, each call of each playbook fails once with each kind of failure, and each
strategy is tested with alternating kinds. VGPU_FLEET_PYTHON is the Python of another release of ansible-core. spread.py runs the tests in parallel.
"""

from __future__ import annotations

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
PARTS = 8  # Each test covers one of this many parts of a playbook's calls, so the tests are short and of similar length.
IN_TURN = [kind for kind in KINDS if kind != "slow"]
KINDS_OF = {"linear": (*KINDS, "in_turn"), "free": ("in_turn",), "host_pinned": ("in_turn",)}
CASES = [(playbook, kind, strategy, part) for strategy in STRATEGIES for playbook in PLAYBOOKS for kind in KINDS_OF[strategy] for part in range(PARTS)]


class Command:
    """A playbook with its variables, and the initial state of its hosts."""

    def __init__(self, bed, bundles, playbook):
        self.bed = bed
        self.playbook = playbook
        self.variables = {"vgpu_layout": LAYOUT, "vgpu_driver_dkms": False, "vgpu_driver_bundle": bundles[NEW]}
        self.variables["vgpu_reboot_timeout"] = 60  # A connection that breaks during the shutdown command counts as a reboot, for which Ansible waits.
        for option, name in (("key", "mok.key"), ("certificate", "mok.der")):
            (bed.folder / name).write_text(SECRET, encoding="utf-8")
            (bed.folder / name).chmod(0o600)
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
        """Add a host: for the playbooks host and site, a bare host; otherwise, a host with an older driver."""
        machine = self.bed.add(name)
        if self.playbook in ("host", "site"):
            return debian(machine)
        ready(machine, OLD, LAYOUT)
        if self.playbook == "upgrade":
            machine.kernel.use(machine.vgpus()[0][0])
        return machine

    def run(self, strategy="linear"):
        """Run the playbook and return the run."""
        return self.bed.play(self.playbook, strategy=strategy, **self.variables)


def plain(machine):
    """Return the state that must be equal on all hosts after the runs. The state excludes files below /run, which a reboot removes."""
    state = machine.state()
    return {**{key: value for key, value in state.items() if key != "boots"}, "files": sorted(path for path in state["files"] if not path.startswith("/run/"))}


def secrets(bed):
    """Return the names of the hosts that have the signing key."""
    return [name for name, machine in bed.hosts.items() if machine.has_text(SECRET)]


def three_runs(bed, command, faults, strategy):
    """Run the playbook with the faults {host: (number of the call, kind)}, then twice without faults. Return descriptions of the errors."""
    calls = len(bed.calls["good"])
    for name, (number, kind) in faults.items():
        command.add(name)
        bed.faults[name] = {number: kind}
    first, bed.faults = command.run(strategy), {}
    wrong = ["first run: Traceback"] if "Traceback" in first.out else []
    wrong += ["first run: the output contains the signing key"] if SECRET in first.out else []
    wrong += ["first run: the signing key remains on %s" % name for name in secrets(bed) if name not in first.unreachable]
    # The failing call can be the task that returns the host to service.
    out = [name for name, machine in bed.hosts.items() if machine.drained and name not in first.unreachable]
    wrong += ["first run: %s remains out of service" % name for name in out if faults[name][0] < calls]
    second = command.run(strategy)
    wrong += ["second run: %s: %s" % (name, said(second, name)) for name, number in second.bad.items() if number]
    states, goal = {name: plain(machine) for name, machine in bed.hosts.items()}, plain(bed.hosts["good"])
    wrong += ["second run: %s is %s" % (name, diff(state, goal)) for name, state in states.items() if state != goal]
    wrong += ["second run: the signing key remains on %s" % name for name in secrets(bed)]
    third = command.run(strategy)
    wrong += ["third run: %s: %s" % (name, said(third, name)) for name, number in third.bad.items() if number]
    # The third upgrade also returns the hosts to service, which counts as a change.
    wrong += ["third run: %s has %d changes" % (name, number) for name, number in third.changed.items() if number > (command.playbook == "upgrade")]
    wrong += ["third run: %s is %s" % (name, diff(plain(bed.hosts[name]), state)) for name, state in states.items() if plain(bed.hosts[name]) != state]
    assert not goal["drained"] and sorted(second.bad) == sorted(third.bad) == sorted(bed.hosts), second.out[-3000:]
    return wrong


def said(ended, name):
    """Return Ansible's output about a failed host."""
    lines = [line for line in ended.out.splitlines() if line.startswith(("fatal: [%s]" % name, "failed: [%s]" % name, "[ERROR]"))]
    return " ".join(lines)[-1500:]


def diff(state, goal):
    """Return the differences between two states. Of lists, return only the items that differ."""
    found = {}
    for key in goal:
        one, other = state[key], goal[key]
        if one != other:
            both = isinstance(one, list) and isinstance(other, list)
            found[key] = ([item for item in one if item not in other], [item for item in other if item not in one]) if both else (one, other)
    return found


def test_a_slice(bed, bundles):
    """In the playbook host, the driver's call does its work although the connection breaks, and the layout's call does nothing."""
    command = Command(bed, bundles, "host")
    command.add("good")
    command.run()
    calls = bed.calls["good"]
    faults = {"a": (calls.index("nvidia_driver") + 1, "cut"), "b": (calls.index("nvidia_vgpu") + 1, "garbage")}
    assert three_runs(bed, command, faults, "linear") == []


@long
@pytest.mark.parametrize("playbook, kind, strategy, part", [case for case in CASES if case[0] not in READING])
def test_each_call(bed, bundles, playbook, kind, strategy, part):
    """Each host fails at a different call. Together, the hosts cover every eighth call, beginning with the call number `part`."""
    command = Command(bed, bundles, playbook)
    command.add("good")
    good = command.run(strategy)
    assert good.rc == 0, good.out[-4000:]
    calls = bed.calls["good"]
    kinds = IN_TURN if kind == "in_turn" else [kind]
    faults = {"h%d_%s" % (number, name): (number, kinds[number % len(kinds)]) for number, name in enumerate(calls, 1) if number % PARTS == part}
    print("%s, %s, %s: %d of %d calls" % (playbook, kind, strategy, len(faults), len(calls)))
    assert three_runs(bed, command, faults, strategy) == []


@long
@pytest.mark.parametrize("playbook, kind, strategy, part", [case for case in CASES if case[0] in READING and case[3] == 0])
def test_each_call_of_a_reading(bed, bundles, playbook, kind, strategy, part):
    """The playbook writes its page or verdict with the names of all hosts and changes nothing on them. The next run succeeds."""
    command = Command(bed, bundles, playbook)
    command.add("good")
    assert command.run(strategy).rc == 0
    written = bed.folder / {"validate": "verdict.json", "report": "report.html"}[playbook]
    calls = bed.calls["good"]
    for number in range(1, len(calls) + 1):
        command.add("h%d" % number)
        bed.faults["h%d" % number] = {number: IN_TURN[number % len(IN_TURN)] if kind == "in_turn" else kind}
    before = bed.states()
    written.unlink()
    first, bed.faults = command.run(strategy), {}
    print("%s, %s, %s: %d calls" % (playbook, kind, strategy, len(calls)))
    assert written.exists() and [name for name in bed.hosts if name not in written.read_text()] == [], first.out[-3000:]
    assert bed.states() == before and "Traceback" not in first.out
    second = command.run(strategy)
    assert second.rc == 0 and set(second.bad.values()) == {0} and bed.states() == before, second.out[-3000:]
