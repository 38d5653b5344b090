# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object through which the engine accesses the host, and which tests can replace."""

from __future__ import annotations

import os
from typing import Any, Callable, Sequence, TypeVar

from ..base.clock import Clock
from .command import Result, Runner, run
from .sysfs import Sysfs

Read = TypeVar("Read")


class Context:
    """Access to the host: kernel files, commands, the clock, and regular files below ``root``."""

    def __init__(self, root: str = "/", sysfs: Sysfs | None = None, command: Runner = run, clock: Clock | None = None) -> None:
        self.root = root.rstrip("/")
        self.sysfs = sysfs or Sysfs(root)
        self.command = command
        self.clock = clock or Clock()
        # Cached results keyed by name, for modules that make no changes. None disables the cache.
        self.memo: dict[str, Any] | None = None
        self.side_by_side = True  # whether independent GPUs are handled in parallel; a fake host has no locks for parallel access
        self.type_directories: dict[str, str] = {}  # directory names of vGPU types (such as nvidia-558), keyed by type number
        self.smi_silent: str | None = None  # the reason why nvidia-smi did not respond (a hang), as a clause
        self.smi_stuck: int | None = None  # PID of an nvidia-smi process that hangs in the kernel and cannot be killed
        self.smi_deadline: float | None = None  # the clock time after which nvidia-smi is not called
        self.smi_answers: dict[Sequence[str], Result] | None = None  # cached responses for several GPUs during one scrape; None disables the cache
        self.smi_hung: set[str] = set()  # GPUs for which nvidia-smi is not called again, because nvidia-smi hung; an empty string means all GPUs

    def once(self, name: str, read: Callable[[], Read]) -> Read:
        """Returns the result of ``read``. If a memo exists, all calls with the same name return the first result."""
        if self.memo is None:
            return read()
        if name not in self.memo:
            self.memo[name] = read()
        found: Read = self.memo[name]
        return found

    def executable(self, *paths: str) -> str | None:
        """Returns the first executable path, or None."""
        return next((path for path in paths if os.access(self.root + path, os.X_OK)), None)
