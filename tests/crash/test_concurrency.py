# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of two writers on one host: the second waits for the first, reports the holder of the lock, and continues when the first exits or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from connections import connections
from harness import VFS, Remote, read_state
from scenarios import CLEAN, ONE, TWO, VFS_ON
from ways import go, places, same

pytestmark = pytest.mark.booted
LOCK = "/run/nvidia-vgpu.lock"


@pytest.fixture(scope="module")
def second(lab) -> Iterator[Remote]:
    """Yield another server on the host."""
    lab.of("mdev")
    remote = Remote(lab.twin)
    try:
        yield remote
    finally:
        remote.close()


@pytest.fixture
def two(lab, second) -> tuple[Remote, Remote]:
    """Return two servers on a host with VFs and without vGPUs."""
    first = lab.of("mdev")
    for way in (CLEAN, VFS_ON):
        go(first, way)
    return first, second


def asked(way: tuple) -> dict:
    """Return the server request for a way (a module with its arguments)."""
    return {"module": way[0], "arguments": way[1]}


def test_two_layouts_at_once(two):
    """Both layouts are applied in sequence, and the plan of the second starts from the result of the first."""
    goals = []
    go(two[0], ONE)  # the stored layout depends on the previously stored layout
    for way in (TWO, ONE):
        go(two[0], way)
        goals.append(read_state(two[0]))
    for dummy in range(2):
        for remote, way in zip(two, (ONE, TWO)):
            remote.send(asked(way))
        for remote in two:
            answer = remote.answer()
            assert answer["status"] == 0, answer["output"]
        now = read_state(two[0])
        assert [same(now, goal) for goal in goals].count(True) == 1, now.vgpus


def test_a_layout_beside_the_restore(two):
    go(two[0], TWO)
    go(two[0], ONE)
    goal = read_state(two[0])
    two[0].shell("for u in /sys/bus/mdev/devices/*; do echo 1 > $u/remove; done")
    two[0].send({"command": ["restore", "--settle", "0.1"]})
    two[1].send(asked(ONE))
    for remote in two:
        answer = remote.answer()
        assert answer["status"] == 0, answer["output"]
    assert same(read_state(two[0]), goal)


def test_the_holder_is_named_and_dies_with_its_lock(two):
    remote, other = two
    other.shell(f"flock {LOCK} sleep 600 > /dev/null 2>&1 < /dev/null & for i in $(seq 100); do grep -q FLOCK /proc/locks && break; sleep 0.1; done")
    holders = [int(word) for word in other.shell("pgrep -x sleep; pgrep -x flock").split()]
    answer = remote.ask({"module": "nvidia_sriov", "arguments": {"state": "disabled", "lock_timeout": 2}})
    assert answer["result"]["failed"] and answer["result"]["errors"][0]["code"] == "locked", answer
    assert any(f"pid {pid} (" in answer["result"]["msg"] for pid in holders) and "sleep 600" in answer["result"]["msg"], answer["result"]["msg"]
    restore = remote.ask({"command": ["restore", "--timeout", "2"]})
    assert restore["status"] == 1 and "sleep 600" in restore["output"], restore
    assert read_state(remote).gpus["0000:e8:00.0"] == ("nvidia", VFS)
    check = remote.ask({"module": "nvidia_sriov", "arguments": {"state": "disabled", "lock_timeout": 2}, "check": True})
    assert check["status"] == 0, "a run in check mode must not wait for the lock"
    remote.send({"module": "nvidia_sriov", "arguments": {"state": "enabled", "lock_timeout": 600}})
    begin = time.monotonic()
    other.shell("kill -9 " + " ".join(map(str, holders)))
    assert remote.answer()["status"] == 0 and time.monotonic() - begin < 60


def test_a_pid_in_the_file_names_nobody(two):
    """The pid in the lock file is that of a process that no longer exists. Another process can have the same pid now."""
    remote, other = two
    other.shell(
        f"echo '1 module of yesterday' > {LOCK}; flock {LOCK} sleep 601 > /dev/null 2>&1 < /dev/null & "
        "for i in $(seq 100); do grep -q FLOCK /proc/locks && break; sleep 0.1; done"
    )
    answer = remote.ask({"module": "nvidia_sriov", "arguments": {"lock_timeout": 1}})
    other.shell("kill -9 $(pgrep -x sleep) $(pgrep -x flock)")
    assert "sleep 601" in answer["result"]["msg"] and "pid 1 (" not in answer["result"]["msg"] and "yesterday" not in answer["result"]["msg"], answer


def test_a_link_in_the_place_of_the_lock_is_not_followed(two):
    remote, dummy = two
    before = remote.shell("cksum /etc/passwd")
    remote.shell(f"rm {LOCK}; ln -s /etc/passwd {LOCK}")
    answer = remote.ask({"module": "nvidia_sriov", "arguments": {}})
    assert answer["result"]["failed"] and LOCK in answer["result"]["msg"] and "a link" in answer["result"]["msg"], answer
    assert remote.shell("cksum /etc/passwd") == before
    remote.shell(f"rm {LOCK}")
    remote.module("nvidia_sriov")


def test_what_a_killed_module_left_at_work_is_waited_for(two):
    """sriov-manage still runs after its module was killed, and the next module waits until it exits."""
    remote, other = two
    go(remote, ("nvidia_sriov", {"state": "disabled"}))
    points = remote.ask({"module": "nvidia_sriov"})["points"]
    go(remote, ("nvidia_sriov", {"state": "disabled"}))
    number = next(n for n, point in enumerate(points, 1) if point.endswith("sriov_numvfs") and point.startswith("write"))
    remote.send({"module": "nvidia_sriov", "kill_at": number, "whole_tree": False})
    other.shell("for i in $(seq 600); do grep -q FLOCK /proc/locks && break; sleep 0.05; done")  # wait until the first module holds the lock
    other.send({"module": "nvidia_sriov"})
    assert remote.answer()["killed"]
    assert other.answer()["status"] == 0
    state = read_state(remote)
    assert state.gpus == {"0000:e8:00.0": ("nvidia", VFS), "0000:e7:00.0": ("nvidia", VFS)}
    assert not remote.module("nvidia_sriov")["changed"]


def test_the_connection_is_cut_during_a_task(two, lab, tally):
    """The controller's ssh process is killed. The module on the host still finishes normally, and a rerun waits for it."""
    remote, other = two
    go(remote, ("nvidia_sriov", {"state": "disabled"}))
    remote.close()
    other.close()
    program = Path(sys.executable).parent / "ansible"
    argv = [str(program), "-i", str(lab.twin.inventory), "all", "--become", "-m", "vgpu.kvm.nvidia_sriov"]
    log = lab.twin.folder / "cut.jsonl"
    with subprocess.Popen(argv, env=lab.twin.environment(log), cwd=lab.twin.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        lab.twin.sh("for i in $(seq 600); do grep -q 'FLOCK' /proc/locks && exit 0; sleep 0.1; done; exit 1")
        for pid in connections(lab.twin.name):
            os.kill(pid, signal.SIGKILL)
        out = process.communicate(timeout=300)[0]
    assert process.returncode, f"the playbook must fail when its connection is cut: {out}"
    assert not lab.twin.module("nvidia_sriov")["failed"]
    assert not lab.twin.module("nvidia_sriov")["changed"]
    remote.again()
    assert read_state(remote).gpus["0000:e8:00.0"] == ("nvidia", VFS)
    go(remote, ONE)
    other.again()
    assert places(read_state(other).stored()) == places(read_state(other).vgpus)
    tally.add("connections cut during a task")
