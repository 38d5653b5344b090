# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine needs of its surroundings, in one replaceable piece."""

from __future__ import annotations

from ..base.clock import Clock
from .command import run
from .sysfs import Sysfs


class Context:
    """The host as the engine sees it: kernel files, commands, a clock, ordinary files below root."""

    def __init__(self, root="/", sysfs=None, command=run, clock=None):
        self.root = root.rstrip("/")
        self.sysfs = sysfs or Sysfs(root)
        self.command = command
        self.clock = clock or Clock()
        # Readings that count for the whole of a module which changes nothing, by name; None: each reading is a new one.
        self.memo = None
        # Whether GPUs that do not need each other are worked on at the same time. A fake host, which has no locks of its own, says no.
        self.side_by_side = True
        # Names of folders of vGPU types (nvidia-558) by the type's number, as some VF had them.
        self.type_folders = {}
        # Why nvidia-smi is not asked any more in this run (it hung once), as a clause.
        self.smi_silent = None
