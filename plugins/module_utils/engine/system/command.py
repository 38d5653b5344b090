# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs with a deadline."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Mapping, Protocol, Sequence

# The host lock's descriptor. Programs that change the host inherit the descriptor, so a program that outlives this process blocks other runs.
INHERITED: set[int] = set()

_CHECK = 0.05  # seconds between checks for whether a program has exited while the pipe is still open
_PIPE = 1 << 20  # the maximum pipe size, in bytes


@dataclass(eq=False, repr=False)
class Result:
    """The result of a program.

    ``rc`` is 124 (with ``timed_out``) if the program was killed at the deadline, and 127 if the program cannot be started.
    ``stuck`` is the PID of a program that hangs in the kernel.
    """

    rc: int
    out: str
    timed_out: bool = False
    stuck: int | None = None

    def tail(self, lines: int = 5) -> str:
        """Returns the last lines of the program's output, joined into one line."""
        return " | ".join([line.strip() for line in self.out.splitlines() if line.strip()][-lines:])


class Runner(Protocol):
    """The type of a function that runs a program: ``run``, or a replacement in a test."""

    def __call__(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, keeps_lock: bool = False) -> Result:
        """Runs a program like ``run``."""


def run(argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, keeps_lock: bool = False) -> Result:
    """Runs argv without a shell, in a new process group, with combined stdout and stderr and LC_ALL=C.

    ``keeps_lock`` keeps the host locked until the program exits, even if this process is killed. Do not set ``keeps_lock`` for programs that only
    read, because a program that hangs in the kernel would needlessly lock the host.
    """
    path = (os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin").lstrip(":")
    surroundings = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C", "PATH": path, **(env or {})}
    try:
        # Ansible's run_command is not used, because the engine runs at boot without Ansible, and run_command has no deadline.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=surroundings,
            start_new_session=True, pass_fds=sorted(INHERITED) if keeps_lock else (),
        )
    except OSError as exc:
        return Result(127, "%s: %s" % (argv[0], exc.strerror))
    out = bytearray()
    try:
        if _follow(process, out, timeout):
            return Result(process.returncode, out.decode("utf-8", "replace"))
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                pass
            if _follow(process, out, 5):
                return Result(124, out.decode("utf-8", "replace"), True)
        # The program hangs in the kernel and cannot be killed, so the PID is reported.
        return Result(124, "%s did not exit, even after SIGKILL" % argv[0], True, process.pid)
    finally:
        if process.stdout:
            process.stdout.close()


def _follow(process: subprocess.Popen[bytes], out: bytearray, timeout: float) -> bool:
    """Appends the program's output to ``out`` until the program exits. Returns whether the program exited before the deadline.

    The program's child processes may still have the pipe open.
    """
    deadline, pipe = time.monotonic() + timeout, process.stdout
    with selectors.DefaultSelector() as selector:
        if pipe:
            selector.register(pipe, selectors.EVENT_READ)
        while True:
            ended, left = process.poll() is not None, max(0.0, deadline - time.monotonic())
            if pipe and selector.select(0 if ended else min(left, _CHECK)):
                block = os.read(pipe.fileno(), _PIPE)  # after the program exits, one read returns all remaining output
                out += block
                if not block:
                    selector.unregister(pipe)
                    pipe = None
            if ended or not left:
                return ended
            if pipe is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(left)
