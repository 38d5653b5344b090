# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests work that runs in a child process because it might never finish."""

from __future__ import annotations

import os
import time

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import child


def test_rows_come_in_order_and_an_error_is_the_last():
    def work():
        yield [1, None]
        yield ["two"]
        os.listdir("/nowhere")
        yield "never"

    assert child.rows(work, 10) == ([[1, None], ["two"], {"errno": 2}], True)


def test_what_is_larger_than_a_pipe_comes_whole():
    rows, ended = child.rows(lambda: ["x" * 100000] * 5, 10)
    assert ended and [len(one) for one in rows] == [100000] * 5


def test_what_hangs_is_left_behind_and_holds_nothing_of_ours():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def work():
        yield os.getpid()
        time.sleep(600)
        yield "never"

    begin = time.monotonic()
    (pid,), ended = child.rows(work, 0.5)
    assert not ended and time.monotonic() - begin < 5
    assert os.listdir("/proc/%d/fd" % pid) != [], "the child is alive, and only the pipe for its result is open"
    assert {os.readlink("/proc/%d/fd/%s" % (pid, one))[:5] for one in os.listdir("/proc/%d/fd" % pid)} == {"pipe:"}
    os.close(writer)
    assert os.read(reader, 1) == b"", "a process that reads our output to its end must not have to wait for the child"
    os.close(reader)
    assert os.getsid(pid) == pid, "a signal to our process group must not reach the child"
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_a_child_that_is_killed_ends_without_rows():
    assert child.rows(lambda: os.kill(os.getpid(), 9) or (), 10) == ([], True)
