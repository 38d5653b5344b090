# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supports GRUB on SLES and openSUSE with /etc/default/grub and grub2-mkconfig."""

from __future__ import annotations

from typing import Sequence

from ..read import next_kernel
from ..read.boot_entries import Entry
from ..state.paths import GRUB
from ..system import grub
from . import grub_defaults
from .loader import Added, Changes, Loader

CONFIG = "/boot/grub2/grub.cfg"


class Suse(Loader):
    """GRUB with grub2-mkconfig. SUSE has no drop-in files, so the collection adds flags to /etc/default/grub and records the added flags."""

    name = "GRUB (grub2-mkconfig)"
    run = "run grub2-mkconfig -o " + CONFIG

    def next_boot(self) -> list[Entry]:
        """Returns the grub.cfg entries that the next boot can use."""
        return next_kernel.default_of_grub(self.ctx)

    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """Returns the changes that edit /etc/default/grub and generate grub.cfg."""
        entries = self.next_boot()
        lacks = self.lacking(flags, entries) if entries else list(flags)
        changes = Changes(run=self.run if rebuild or lacks else "")
        edit = grub_defaults.added(self.ctx, flags) if lacks else None
        if edit:
            changes.edits.append(edit[0])
            changes.added[GRUB] = edit[1]
        return changes

    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """Returns the changes that remove the flags from /etc/default/grub and generate grub.cfg."""
        edit = grub_defaults.taken(self.ctx, added.get(GRUB, ()))
        return Changes([edit] if edit else [], run=self.run if edit or rebuild else "")

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs grub2-mkconfig."""
        grub.make(self.ctx, [*grub.MKCONFIG, CONFIG], CONFIG, timeout)

    def source_of(self, word: str) -> str | None:
        """Returns the path and line in GRUB's defaults that contain the word, or None if GRUB's defaults do not contain the word."""
        given = grub_defaults.sources(self.ctx.root, drop_ins=False)
        return grub_defaults.where(given, word) if given else None
