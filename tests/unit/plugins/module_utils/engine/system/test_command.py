# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Programs that are run."""

from __future__ import annotations

import os
import time


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
