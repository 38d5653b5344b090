# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-gridd as systemd sees it: whether it runs, and whether it has seen the files that it reads at its start."""

from __future__ import annotations

import os

from . import license as licensing

_RUNS = ("active", "activating", "reloading")


class Daemon:
    """loaded, state, result: systemd's words, None where it did not answer. since: seconds since 1970 when its start began, or None."""

    def __init__(self, loaded=None, state=None, result=None, since=None):
        self.loaded = loaded
        self.state = state
        self.result = result
        self.since = since

    @property
    def runs(self):
        """Whether it runs or is on its way; also where systemd did not answer."""
        return self.state is None or self.state in _RUNS


def look(ctx, timeout=30):
    """Asks systemd."""
    names = "LoadState,ActiveState,SubState,Result,InactiveExitTimestampMonotonic"
    answer = ctx.command(["systemctl", "show", "--no-pager", "--property=" + names, licensing.UNIT], timeout)
    if answer.rc:
        return Daemon()
    told = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)
    begun = told.get("InactiveExitTimestampMonotonic", "")
    since = ctx.clock.wall() - (ctx.clock.now() - int(begun) / 1e6) if begun.isdigit() and int(begun) else None
    return Daemon(told.get("LoadState"), told.get("ActiveState"), told.get("Result"), since)


def has_not_seen(ctx, daemon, paths):
    """Whether one of the files is newer than the running daemon's start: a run that changed it ended before the restart.

    A time still to come tells nothing: the clock was set back since.
    """
    if daemon.state not in _RUNS or daemon.since is None:
        return False
    return any(daemon.since < when <= ctx.clock.wall() for when in (_changed(ctx.root + path) for path in paths) if when is not None)


def _changed(path):
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None
