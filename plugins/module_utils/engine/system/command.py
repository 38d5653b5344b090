# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a program with a deadline."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Mapping, Protocol, Sequence

# The host's lock, which programs that change the host keep open: one that outlives us keeps others out.
INHERITED: set[int] = set()

_CHECK = 0.05  # seconds between two checks whether a program has ended whose pipe is still open
_PIPE = 1 << 20  # the largest that a pipe may be


@dataclass(eq=False, repr=False)
class Result:
    """How a program ended. rc 124 and timed_out: it was ended at its deadline; rc 127: it isn't there. stuck: its pid, if it hangs in the kernel."""

    rc: int
    out: str
    timed_out: bool = False
    stuck: int | None = None

    def tail(self, lines: int = 5) -> str:
        """The last lines of what it printed, on one line."""
        return " | ".join([line.strip() for line in self.out.splitlines() if line.strip()][-lines:])


class Runner(Protocol):
    """What runs a program: run, or a test's."""

    def __call__(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, keeps_lock: bool = False) -> Result:
        """As run."""


def run(argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, keeps_lock: bool = False) -> Result:
    """Runs argv (no shell) in its own process group, stdout and stderr together, LC_ALL=C.

    keeps_lock: whether the host stays locked as long as it works, also when we are killed. Not for programs that only read:
    one that hangs in the kernel would lock the host for nothing.
    """
    path = (os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin").lstrip(":")
    surroundings = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C", "PATH": path, **(env or {})}
    try:
        # Not run_command: the engine runs at boot without Ansible, and run_command has no deadline.
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
        # It hangs in the kernel and can't be ended; leave it and report that.
        return Result(124, "%s does not end, not even by SIGKILL" % argv[0], True, process.pid)
    finally:
        if process.stdout:
            process.stdout.close()


def _follow(process: subprocess.Popen[bytes], out: bytearray, timeout: float) -> bool:
    """Adds to out what the program prints until it ends; whether it did within timeout seconds. What it started may go on, and hold the pipe open."""
    deadline, pipe = time.monotonic() + timeout, process.stdout
    with selectors.DefaultSelector() as selector:
        if pipe:
            selector.register(pipe, selectors.EVENT_READ)
        while True:
            ended, left = process.poll() is not None, max(0.0, deadline - time.monotonic())
            if pipe and selector.select(0 if ended else min(left, _CHECK)):
                block = os.read(pipe.fileno(), _PIPE)  # of a program that has ended, all the rest
                out += block
                if not block:
                    selector.unregister(pipe)
                    pipe = None
            if ended or not left:
                return ended
            if pipe is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(left)
