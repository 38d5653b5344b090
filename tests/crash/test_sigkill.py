# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests in which a module is killed before each of its writes. Existing vGPUs and files survive, and a rerun or a boot reaches the requested state."""

from __future__ import annotations

import json
import random

import pytest
from harness import Remote, State, read_state
from scenarios import NO_VFS, NO_VGPUS, SCENARIOS, Scenario
from ways import MARKS, THEIRS, Way, go, lost, places, same


def require_whole(before: State, goal: State, after: State) -> None:
    """Assert that, after a kill, each file and vGPU is as before or as requested, and that files and vGPUs in both states exist."""
    for path, text in after.files.items():
        if not path.startswith((THEIRS, MARKS)):
            assert text in (before.files.get(path), goal.files.get(path)), f"{path} is incomplete: {text!r}"
    assert not lost((before, goal), after)
    for key in set(before.vgpus) & set(goal.vgpus):
        if before.vgpus[key] == goal.vgpus[key]:
            assert after.vgpus.get(key) == before.vgpus[key], f"the vGPU {key} no longer exists"
    for key, place in after.vgpus.items():
        assert place in (before.vgpus.get(key), goal.vgpus.get(key)), f"the vGPU {key} {place} was never requested"
    assert after.stored() in (before.stored(), goal.stored())


def reboot(remote: Remote) -> None:
    """Simulate a boot: remove all vGPUs and VFs, and run the restore."""
    remote.shell(f"{NO_VGPUS}; for f in /sys/bus/pci/devices/*/nvidia/current_vgpu_type; do [ ! -e $f ] || echo 0 > $f; done; {NO_VFS}")
    assert read_state(remote).vgpus == {}
    answer = remote.ask({"command": ["restore", "--settle", "0.1"]})
    assert answer["status"] == 0, answer["output"]


def moments(points: int, kills: int, chance: random.Random) -> list[int]:
    """Return the numbers of writes before which to kill: all from 1 to `points`, or `kills` of them at even distances from a random start."""
    if kills >= points:
        return list(range(1, points + 1))
    offset = chance.random()
    return [1 + int((number + offset) * points / kills) for number in range(kills)]


@pytest.mark.booted
@pytest.mark.parametrize("scenario", [pytest.param(one, id=one.name, marks=[pytest.mark.long] if one.long else []) for one in SCENARIOS])
def test_a_kill_at_each_write(scenario: Scenario, lab, chance, tally, request):
    remote = lab.of(scenario.framework)
    for way in scenario.start:
        go(remote, way)
    ways = (scenario.forth, scenario.back)
    goals: list[State] = []
    points: list[int] = []
    for way in ways * 2:
        # The first round trip reaches the two states. The second round trip counts the writes between them.
        answer = remote.ask({"module": way[0], "arguments": way[1]}) if isinstance(way, tuple) else go(remote, way)
        assert not answer.get("status"), answer["output"][-3000:]
        remote.shell(scenario.then)
        goals.append(read_state(remote))
        points.append(len(answer.get("points", ())))
    goals, points = goals[2:], points[2:]
    assert not any(state.left for state in goals)
    kills = max(2, request.config.getoption("--kills") * scenario.share // sum(one.share for one in SCENARIOS))
    killable = sum(1 for way in ways if isinstance(way, tuple))
    each = [moments(points[n], max(1, kills // killable), chance) if isinstance(ways[n], tuple) else [] for n in (0, 1)]
    for turn in range(max(map(len, each))):
        for direction, way in enumerate(ways):
            before, goal = goals[1 - direction], goals[direction]
            if turn < len(each[direction]):
                if kill(remote, scenario, way, each[direction][turn], turn, before, goal):
                    tally.add(f"SIGKILLs of {scenario.name}")
            if not isinstance(way, str):
                remote.shell(scenario.then)
                if turn % 3:
                    continue
                again = go(remote, way)
                assert not again["changed"] or turn >= len(each[direction]), f"the second rerun changed {again.get('actions')}"
            else:
                go(remote, way)
            assert same(read_state(remote), goal)
    for way in scenario.end:
        go(remote, way)


def kill(remote: Remote, scenario: Scenario, way: Way, number: int, turn: int, before: State, goal: State) -> bool:
    """Kill one run before write number `number`, check the state, and rerun. Return False if the run finished before this write."""
    assert isinstance(way, tuple)
    whole_tree = turn % 3 != 2
    answer = remote.ask({"module": way[0], "arguments": way[1], "kill_at": number, "whole_tree": whole_tree})
    where = f"{way[0]} was killed ({'with' if whole_tree else 'without'} its child processes) before write {number}: {answer['killed']}"
    after = read_state(remote)
    try:
        require_whole(before, goal, after)
        if scenario.boots and turn % 4 == 1:
            reboot(remote)
            intended = places(after.stored() or before.vgpus)
            assert places(read_state(remote).vgpus) == intended, "the boot must restore exactly the intended vGPUs"
            after = read_state(remote)
        rerun = go(remote, way)
        now = read_state(remote)
        assert same(now, goal), f"the rerun did not reach the requested state: {now.vgpus} {now.gpus}, not {goal.vgpus} {goal.gpus}"
        assert rerun["changed"] or same(after, goal), "the rerun must report that it changed the state"
        assert not now.left, f"temporary files remain: {now.left}"
    except AssertionError as exc:
        raise AssertionError(f"{where}\n{exc}\n{json.dumps(answer['points'], indent=0)}") from exc
    return bool(answer["killed"])
