# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-gridd in systemd: whether it runs, and whether it has read the files that it reads at its start."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional, Sequence

from ..system.context import Context
from . import license as licensing

_RUNS = ("active", "activating", "reloading")


@dataclass
class Daemon:
    """loaded, state, result: systemd's words, None where it did not answer. since: seconds since 1970 when its start began, or None."""

    loaded: Optional[str] = None
    state: Optional[str] = None
    result: Optional[str] = None
    since: Optional[float] = None

    @property
    def runs(self) -> bool:
        """Whether it runs or is starting; true where systemd did not answer."""
        return self.state is None or self.state in _RUNS


def read(ctx: Context, timeout: float = 30) -> Daemon:
    """What systemd reports."""
    names = "LoadState,ActiveState,SubState,Result,InactiveExitTimestampMonotonic"
    answer = ctx.command(["systemctl", "show", "--no-pager", "--property=" + names, licensing.UNIT], timeout)
    if answer.rc:
        return Daemon()
    shown = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)
    begun = shown.get("InactiveExitTimestampMonotonic", "")
    since = ctx.clock.wall() - (ctx.clock.now() - int(begun) / 1e6) if begun.isdigit() and int(begun) else None
    return Daemon(shown.get("LoadState"), shown.get("ActiveState"), shown.get("Result"), since)


def has_not_seen(ctx: Context, daemon: Daemon, paths: Sequence[str]) -> bool:
    """Whether one of the files is newer than the running daemon's start: a run that changed it ended before the restart.

    A time in the future proves nothing: the clock was set back since.
    """
    if daemon.state not in _RUNS or daemon.since is None:
        return False
    changes = [when for when in (_changed(ctx.root + path) for path in paths) if when is not None]
    return any(daemon.since < when <= ctx.clock.wall() for when in changes)


def _changed(path: str) -> Optional[float]:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None
