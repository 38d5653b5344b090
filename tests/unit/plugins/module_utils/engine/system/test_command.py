# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how programs are run."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import command


def test_a_program_with_its_words():
    answer = command.run(["sh", "-c", "echo out; echo err >&2; echo $LC_ALL; exit 3"], 10)
    assert (answer.rc, answer.timed_out, answer.out) == (3, False, "out\nerr\nC\n")
    assert answer.tail(2) == "err | C"


def test_a_program_that_is_not_there():
    answer = command.run(["/nowhere/program"], 10)
    assert answer.rc == 127 and "No such file" in answer.out and "/nowhere/program" in answer.out


def test_a_program_that_does_not_end_is_ended_with_its_children(tmp_path):
    answer = command.run(["sh", "-c", "echo begun; sleep 60 & echo $! > %s/pid; wait" % tmp_path], 0.5)
    assert answer.timed_out and answer.rc == 124 and "begun" in answer.out
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while os.path.exists("/proc/%d" % pid) and time.monotonic() < deadline:
        if open("/proc/%d/stat" % pid).read().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not os.path.exists("/proc/%d" % pid)


@pytest.mark.parametrize("goes_on", ["sleep 20", "setsid sleep 20", "yes"])
def test_a_program_has_ended_although_what_it_started_holds_its_output(tmp_path, goes_on):
    """A script that starts a service has finished even if the service keeps the script's output open. A service that prints nothing continues to run."""
    begin = time.monotonic()
    answer = command.run(["sh", "-c", "trap '' PIPE; %s & echo $! > %s/pid; seq 9000; exit 3" % (goes_on, tmp_path)], 15)
    took = time.monotonic() - begin
    pid = int((tmp_path / "pid").read_text())
    if goes_on != "yes":  # without a reader for its output, the program 'yes' exits
        os.kill(pid, signal.SIGKILL)
    assert took < 5 and answer.rc == 3 and not answer.timed_out
    lines = [line for line in answer.out.splitlines() if line != "y"]
    assert len(lines) == 9000 or goes_on == "yes" and len(lines) >= 8990  # lines of the other program can be among the last lines


def test_a_program_that_closes_its_output_and_goes_on_is_waited_for():
    begin = time.monotonic()
    answer = command.run(["sh", "-c", "echo first; exec >&- 2>&-; sleep 0.5; exit 4"], 10)
    assert answer.rc == 4 and answer.out == "first\n" and time.monotonic() - begin > 0.4


def test_a_long_output_is_whole():
    assert command.run(["seq", "400000"], 60).out.splitlines() == [str(number) for number in range(1, 400001)]
