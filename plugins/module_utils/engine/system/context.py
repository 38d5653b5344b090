# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine needs of its surroundings, in one replaceable piece."""

from __future__ import annotations

import os
from typing import Any, Callable, Sequence, TypeVar

from ..base.clock import Clock
from .command import Result, Runner, run
from .sysfs import Sysfs

Read = TypeVar("Read")


class Context:
    """The host as the engine sees it: kernel files, commands, a clock, regular files below root."""

    def __init__(self, root: str = "/", sysfs: Sysfs | None = None, command: Runner = run, clock: Clock | None = None) -> None:
        self.root = root.rstrip("/")
        self.sysfs = sysfs or Sysfs(root)
        self.command = command
        self.clock = clock or Clock()
        # Readings that count for the whole of a module which changes nothing, by name; None: each reading is a new one.
        self.memo: dict[str, Any] | None = None
        self.side_by_side = True  # whether GPUs that do not need each other are worked on at the same time; a fake host has no locks for it
        self.type_directories: dict[str, str] = {}  # names of vGPU types' directories (nvidia-558) by the type's number
        self.smi_silent: str | None = None  # why nvidia-smi reported nothing (it hung), as a clause
        self.smi_stuck: int | None = None  # pid of one that hangs in the kernel, where nothing ends it
        self.smi_deadline: float | None = None  # when, by the clock, nvidia-smi must have ended; later calls are not made
        self.smi_answers: dict[Sequence[str], Result] | None = None  # answers about several GPUs that count for all of a scrape; None: none is kept
        self.smi_hung: set[str] = set()  # GPUs for which it hung, empty for all: they are not asked for again in this run

    def once(self, name: str, read: Callable[[], Read]) -> Read:
        """What read returns; with a memo, what it returned under this name the first time."""
        if self.memo is None:
            return read()
        if name not in self.memo:
            self.memo[name] = read()
        found: Read = self.memo[name]
        return found

    def executable(self, *paths: str) -> str | None:
        """The first of the paths that is a program, or None."""
        return next((path for path in paths if os.access(self.root + path, os.X_OK)), None)
