# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests in which the power fails while a module or the restore runs. Only unwritten data is lost."""

from __future__ import annotations

import json
import time

import power
import pytest
from harness import Remote, State, read_state
from scenarios import BARE, NO_VFS, NO_VGPUS, ONE, TWO, VFS_ON
from ways import MARKS, THEIRS, go, lost, places, same


def require_whole(states: list[State], after: State) -> None:
    """Assert that each file of the collection is as in one of the states. mdevctl's files can be damaged, because a rerun repairs them."""
    for path, text in after.files.items():
        if not path.startswith((THEIRS, MARKS)):
            assert text in [state.files.get(path) for state in states], f"{path} is incomplete: {text!r}"
    assert not lost((states[0], states[1]), after)
    assert after.stored() in [state.stored() for state in states]


@pytest.mark.booted
def test_power_cuts_while_modules_run(lab, chance, tally, request):
    remote: Remote = lab.of("mdev")
    for way in (BARE, VFS_ON, ("nvidia_vgpu_restore", {}), ONE):
        go(remote, way)
    states, took = [], []
    for way in (TWO, ONE):
        begin = time.monotonic()
        go(remote, way)
        took.append(time.monotonic() - begin)
        states.append(read_state(remote))
    remote.shell("sync")
    wish = 1
    for number in range(request.config.getoption("--cuts")):
        restoring = number % 4 == 3
        if restoring:
            remote.shell(f"{NO_VGPUS}; {NO_VFS}")
            expected: dict = {"command": ["restore", "--settle", "0.1"]}
        else:
            wish = 1 - wish
            expected = {"module": (TWO, ONE)[wish][0], "arguments": (TWO, ONE)[wish][1]}
        moment = chance.uniform(0, 4 if restoring else max(took) * 1.2)
        remote.send(expected)
        time.sleep(moment)  # the moment of the power cut is random
        power.cut(lab.twin.name)
        power.wait_until_up(lab.twin.name)
        remote.again()
        after = read_state(remote)
        said = f"cut {number}: {moment:.2f} s after {json.dumps(expected)} began"
        try:
            require_whole(states, after)
            assert after.vgpus == {}, "no vGPU must exist directly after a boot"
            answer = remote.ask({"command": ["restore", "--settle", "0.1"]})
            assert answer["status"] == 0, answer["output"]
            assert places(read_state(remote).vgpus) == places(after.stored()), "the restore must create exactly the stored vGPUs"
            go(remote, (TWO, ONE)[wish])
            now = read_state(remote)
            assert same(now, states[wish]), f"the rerun did not reach the requested state: {now.vgpus} {now.gpus}, not {states[wish].vgpus}"
            assert not now.left, f"temporary files remain: {now.left}"
            if number % 3 == 0:
                again = go(remote, (TWO, ONE)[wish])
                assert not again["changed"], again["actions"]
        except AssertionError as exc:
            raise AssertionError(f"{said}\n{exc}") from exc
        tally.add("power cuts while a module or the restore ran")
