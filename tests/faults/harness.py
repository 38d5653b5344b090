# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a row of the fault matrix: creates the fault, runs the module or role, checks the result, lifts the fault, and runs twice more."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

from machines import Machines, neighbour
from matrix import GPU, Fault, Module
from recorded import recorded
from support import Run, Twin, launcher

PLAY = Path(__file__).resolve().parent / "role.yml"


class Outcome:
    """The result of a run of the row's module or role."""

    def __init__(self, failed: bool, changed: bool, message: str, actions: list[str], not_done: list[str], stopped_midway: bool, errors: list[dict]) -> None:
        self.failed = failed
        self.changed = changed
        self.message = message
        self.actions = actions
        self.not_done = not_done
        self.stopped_midway = stopped_midway
        self.errors = errors

    @classmethod
    def of_module(cls, result: dict) -> Outcome:
        """Create the outcome from a module's result."""
        return cls(
            bool(result["failed"]),
            bool(result.get("changed")),
            str(result.get("msg", "")),
            list(result.get("actions", [])),
            list(result.get("not_done", [])),
            "not_done" in result,
            list(result.get("errors", [])),
        )

    @classmethod
    def of_role(cls, run: Run) -> Outcome:
        """Create the outcome from a play's tasks. The actions that a failed module reports count as done."""
        done: list[str] = []
        not_done: list[str] = []
        for line in run.lines:
            if line["result"].get("changed"):
                done += line["result"].get("actions", []) or [line["task"]]
            not_done += line["result"].get("not_done", [])
        return cls(run.rc != 0, bool(run.changed), run.failure, done, not_done, bool(done or not_done), [])

    def __repr__(self) -> str:
        return json.dumps(self.__dict__, indent=1)


def call(twin: Twin, row: Fault) -> Outcome:
    """Run the row's module or role and return its outcome."""
    if isinstance(row.run, Module):
        return Outcome.of_module(twin.module(row.run.name, **row.run.arguments))
    return Outcome.of_role(twin.playbook(str(PLAY), dict(row.run.variables, fault_role=row.run.name)))


def do(twin: Twin, lines: tuple[str, ...]) -> None:
    """Create or lift a fault with the shell lines of its row."""
    for line in lines:
        if line.startswith("twin: "):
            launcher("fault", twin.name, *line[6:].split())
        elif line == "twin-power-cut":
            launcher("power-cut", twin.name)
        elif line.startswith("here: "):
            subprocess.run(line[6:], shell=True, check=True)
        else:
            twin.sh(line)


def state(twin: Twin, row: Fault) -> str:
    """Return the current state of the machine as one sentence."""
    if row.left:
        return ", ".join(twin.sh(row.left).splitlines())
    text = twin.sh(
        f"cd /sys/bus/pci/devices/{GPU} || exit; echo driver $(basename $(readlink driver || echo none)); "
        "for v in virtfn*; do [ -e $v ] && echo vf $(basename $(readlink $v/driver || echo none)); done; true"
    )
    drivers = [line.split()[1] for line in text.splitlines() if line.startswith("driver ")]
    vfs = Counter(line.split()[1] for line in text.splitlines() if line.startswith("vf "))
    shown = [f"the GPU is on {drivers[0]}" if drivers and drivers[0] != "none" else "the GPU has no driver"]
    shown.append(", ".join(f"{number} VFs on {name}" for name, number in sorted(vfs.items())) or "no VFs")
    vgpus = Counter(name for parent, name in twin.mdevs().values() if parent.startswith(GPU[:8]))
    shown.append(", ".join(f"{number} × {name}" for name, number in sorted(vgpus.items())) or "no vGPU")
    return "; ".join(shown)


def until_settled(twin: Twin, row: Fault) -> None:
    """Wait until a machine has settled after the failure. During this time, ssh can fail."""
    deadline = time.monotonic() + 600
    while row.settled and not twin.sh(f"{row.settled} && echo settled", check=False).endswith("settled"):
        assert time.monotonic() < deadline, f"{row.key}: {row.settled} did not succeed within 600 s"
        time.sleep(1)


def take(machines: Machines, row: Fault) -> dict[str, str]:
    """Run all steps of the row and return its record."""
    twin = machines.at(row.machine)
    do(twin, row.make)
    before = state(twin, row)
    first = call(twin, row)
    until_settled(twin, row)
    left = state(twin, row)
    assert not neighbour(twin)
    record = {"seen": "", "done": "", "left": left, "rerun": ""}
    if row.heals:
        assert not first.failed and first.changed, first
        record["done"] = "; ".join(first.actions)
    else:
        assert first.failed, first
        for word in (row.device, *row.found, row.expected, row.remedy):
            assert word in first.message, (word, first)
        for expected, told in ((row.done, first.actions), (row.not_done, first.not_done)):
            for word in expected:
                assert any(word in text for text in told), (word, first)
                assert word in first.message, (word, first)
        assert "Traceback" not in first.message
        if not first.stopped_midway:
            assert not first.changed and left == before, (before, left, first)
        for one in first.errors:
            for part in ("device", "found", "expected", "remedy"):
                assert one[part] and one[part] in first.message, (part, first)
        record["seen"] = first.message.partition("Done: ")[0]
        record["done"] = f"Done: {'; '.join(first.actions) or 'nothing'}. Not done: {'; '.join(first.not_done) or 'all'}."
    if row.lifted_on:
        twin = machines.at(row.lifted_on)
    do(twin, row.lift)
    second = call(twin, row)
    assert not second.failed, second
    assert second.changed is not (row.heals or row.unchanged), second
    third = call(twin, row) if second.changed else second
    assert not third.failed and not third.changed, third
    assert not neighbour(twin)
    record["rerun"] = "nothing left to do" if not second.changed else "changed, then nothing left to do"
    return recorded(record)
