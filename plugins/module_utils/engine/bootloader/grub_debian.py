# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supports GRUB on Debian and Ubuntu with a drop-in file in /etc/default/grub.d and the update-grub command."""

from __future__ import annotations

import os
import re
from typing import Sequence

from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..read import next_kernel
from ..read.boot_entries import CONFIGS, Entry
from ..state.paths import GRUB_DIRECTORY
from ..system import files, grub
from . import grub_defaults
from .loader import Added, Changes, Loader

DROP_IN = GRUB_DIRECTORY + "/90-vgpu-iommu.cfg"
_TEXT = """# Written by vgpu.kvm: enables the IOMMU, which vGPUs require. After a change, run update-grub.
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX %s"
"""


class Debian(Loader):
    """GRUB with update-grub. No record of added flags is required, because the drop-in file contains only flags that the collection added."""

    name = "GRUB (update-grub)"
    run = "run update-grub"

    def next_boot(self) -> list[Entry]:
        """Returns the grub.cfg entries that the next boot can use."""
        return next_kernel.default_of_grub(self.ctx)

    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """Returns the changes that write the drop-in file.

        The new drop-in file contains missing flags, and current flags that are still requested.
        """
        before = files.read_text(self.ctx.root, DROP_IN)
        own = kernel_flags.words(" ".join(re.findall(r'^GRUB_CMDLINE_LINUX="\$GRUB_CMDLINE_LINUX ([^"\n]*)"$', before or "", re.MULTILINE)))
        entries = self.next_boot()
        lacks = self.lacking(flags, entries) if entries else list(flags)
        changes = Changes(ours=[DROP_IN], run=self.run if rebuild or lacks else "")
        given = grub_defaults.sources(self.ctx.root, drop_ins=True)
        if lacks:
            without = [one for one in given if one[0] != DROP_IN]
            needed = kernel_flags.missing(flags, grub_defaults.line_of(grub_defaults.states(self.ctx, without)[-1]) if without else ())
            text = _TEXT % " ".join(flag for flag in flags if flag in needed or flag in own)
            grub_defaults.require(self.ctx, without, grub_defaults.changed(without, DROP_IN, text) if needed else without, flags)
            if text != before and needed:
                changes.edits.append(FileEdit(DROP_IN, before, text, ["set %s" % " ".join(needed)]))
        elif rebuild:
            grub_defaults.states(self.ctx, given)
        return changes

    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """Returns the changes that remove the drop-in file."""
        before = files.read_text(self.ctx.root, DROP_IN)
        edits = [] if before is None else [FileEdit(DROP_IN, before, None, ["remove the flags"])]
        if edits or rebuild:
            given = grub_defaults.sources(self.ctx.root, drop_ins=True)
            grub_defaults.states(self.ctx, [one for one in given if one[0] != DROP_IN])
        return Changes(edits, [DROP_IN], self.run if edits or rebuild else "")

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs update-grub."""
        config = next((path for path in CONFIGS if os.path.exists(self.ctx.root + path)), CONFIGS[0])
        grub.make(self.ctx, grub.UPDATE_GRUB, config, timeout)

    def source_of(self, word: str) -> str | None:
        """Returns the path and line in GRUB's defaults that contain the word, or None if GRUB's defaults do not contain the word."""
        given = grub_defaults.sources(self.ctx.root, drop_ins=True)
        return grub_defaults.where(given, word) if given else None
