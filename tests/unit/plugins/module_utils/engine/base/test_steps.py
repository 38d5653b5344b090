# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the execution of steps. After a failure, the result lists the completed and the remaining steps, and each error is complete."""

from __future__ import annotations

import errno
import threading

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import error
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.steps import ApplyError, Step, execute

STEPS = [Step("a", "g1", "d1", "make one"), Step("b", "g1", "d1", "make two"), Step("c", "g2", None, "make three")]


@pytest.mark.parametrize(
    "failure",
    [PermissionError(errno.EACCES, "Permission denied", "/etc/x"), OSError(errno.EROFS, "Read-only file system"), error("it is broken")],
)
def test_a_failure_midway_reports_all(failure):
    def perform(step):
        if step.kind != "a":
            raise failure

    with pytest.raises(ApplyError) as caught:
        execute(STEPS, perform)
    assert [str(step) for step in caught.value.done] == ["d1: make one"]
    assert [str(step) for step in caught.value.not_done] == ["d1: make two", "make three"]
    for one, device in zip(caught.value.errors, ("d1", "this host")):
        assert one.device in (device, "d1") and one.found and one.expected and one.remedy
        for part in (one.device, one.found, one.expected, one.remedy):
            assert part in str(caught.value)


def test_a_bug_of_ours_is_no_error_of_the_host():
    def perform(step):
        raise KeyError("slip")

    with pytest.raises(KeyError):
        execute(STEPS, perform)


# --- steps on several GPUs in parallel

GPUS = ("g1", "g2", "g3")
PLAN = [Step("host", None, None, "first")]
PLAN += [Step("make", gpu, gpu, "make %d on %s" % (number, gpu)) for number in range(4) for gpu in GPUS]
PLAN += [Step("host", None, None, "between"), Step("make", "g1", "g1", "last on g1"), Step("make", "g2", "g2", "last on g2")]


def test_gpus_are_worked_on_at_the_same_time_and_each_in_its_order():
    """The first step of each GPU waits for the other two GPUs. If the steps ran sequentially, the wait would time out."""
    meeting, seen = threading.Barrier(len(GPUS), timeout=30), []

    def perform(step):
        if step.text.startswith("make 0"):
            meeting.wait()
        seen.append(str(step))

    assert [str(step) for step in execute(PLAN, perform, side_by_side=True)] == [str(step) for step in PLAN], "results keep the plan's order"
    for gpu in (*GPUS, "first", "between"):
        of_one = [str(step) for step in PLAN if gpu in str(step)]
        assert [text for text in seen if gpu in text] == of_one
    assert seen[0] == "first" and len(seen[: seen.index("between")]) == 1 + 4 * len(GPUS), "host steps must not run in parallel"


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_gpus_failure_stops_it_alone(side_by_side):
    def perform(step):
        if str(step) == "g2: make 1 on g2":
            raise error("it is broken")

    with pytest.raises(ApplyError) as caught:
        execute(PLAN, perform, side_by_side)
    assert [str(step) for step in caught.value.not_done] == ["g2: make %d on g2" % number for number in (1, 2, 3)] + ["g2: last on g2"]
    assert len(caught.value.done) == len(PLAN) - 4 and len(caught.value.errors) == 1


@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_hosts_failure_stops_all(side_by_side):
    def perform(step):
        if step.text == "between":
            raise error("it is broken")

    with pytest.raises(ApplyError) as caught:
        execute(PLAN, perform, side_by_side)
    assert [str(step) for step in caught.value.not_done] == ["between", "g1: last on g1", "g2: last on g2"]


def test_a_bug_of_ours_in_one_of_the_threads_is_raised():
    def perform(step):
        if step.lane == "g3":
            raise KeyError("slip")

    with pytest.raises(KeyError):
        execute(PLAN, perform, side_by_side=True)
