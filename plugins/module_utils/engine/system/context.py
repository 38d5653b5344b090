# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's access to the host, in one replaceable object."""

from __future__ import annotations

import os
from typing import Any, Callable, Sequence, TypeVar

from ..base.clock import Clock
from .command import Result, Runner, run
from .sysfs import Sysfs

Read = TypeVar("Read")


class Context:
    """Access to the host: kernel files, commands, a clock, regular files below root."""

    def __init__(self, root: str = "/", sysfs: Sysfs | None = None, command: Runner = run, clock: Clock | None = None) -> None:
        self.root = root.rstrip("/")
        self.sysfs = sysfs or Sysfs(root)
        self.command = command
        self.clock = clock or Clock()
        # Cached readings, by name, for a module that changes nothing; None: no cache.
        self.memo: dict[str, Any] | None = None
        self.side_by_side = True  # whether independent GPUs are handled in parallel; a fake host has no locks for this
        self.type_directories: dict[str, str] = {}  # names of the directories of vGPU types (nvidia-558), by the type's number
        self.smi_silent: str | None = None  # why nvidia-smi did not answer (it hung), as a clause
        self.smi_stuck: int | None = None  # pid of an nvidia-smi that hangs in the kernel and can't be killed
        self.smi_deadline: float | None = None  # the deadline of nvidia-smi on the clock; no later calls are made
        self.smi_answers: dict[Sequence[str], Result] | None = None  # cached answers about several GPUs for one scrape; None: no cache
        self.smi_hung: set[str] = set()  # GPUs for which nvidia-smi hung, an empty text for all: they are not queried again in this run

    def once(self, name: str, read: Callable[[], Read]) -> Read:
        """Returns the result of read; with a memo, the first result under this name."""
        if self.memo is None:
            return read()
        if name not in self.memo:
            self.memo[name] = read()
        found: Read = self.memo[name]
        return found

    def executable(self, *paths: str) -> str | None:
        """The first of the paths that is an executable, or None."""
        return next((path for path in paths if os.access(self.root + path, os.X_OK)), None)
