# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a program with a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Mapping, Protocol, Sequence

# The host's lock, which programs that change the host keep open: one that outlives us keeps others out.
INHERITED: set[int] = set()


@dataclass(eq=False, repr=False)
class Result:
    """How a program ended. rc 124 and timed_out: it was ended at its deadline; rc 127: it isn't there."""

    rc: int
    out: str
    timed_out: bool = False

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
    try:
        out = process.communicate(timeout=timeout)[0]
        return Result(process.returncode, out.decode("utf-8", "replace"))
    except subprocess.TimeoutExpired:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                out = process.communicate(timeout=5)[0]
                return Result(124, out.decode("utf-8", "replace"), True)
            except subprocess.TimeoutExpired:
                continue
        # It hangs in the kernel and can't be ended; leave it and report that.
        return Result(124, "%s does not end, not even by SIGKILL" % argv[0], True)
