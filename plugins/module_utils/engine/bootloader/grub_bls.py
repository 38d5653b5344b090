# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supports GRUB with Boot Loader Specification (BLS) entries on RHEL and its derivatives.

grubby edits existing entries. GRUB's defaults and /etc/kernel/cmdline define the entries for future kernels. The collection never writes grub.cfg,
neither the main file nor the file on the EFI partition.
"""

from __future__ import annotations

from typing import Sequence

from ..base.errors import error
from ..hardware import kernel_flags
from ..read import boot_entries, next_kernel
from ..read.boot_entries import BLS, Entry
from ..state.paths import GRUB, KERNEL_CMDLINE
from ..system import files, grubby
from . import cmdline_file, grub_defaults
from .loader import ENTRIES, Added, Changes, Loader

IDS = "vfio_pci.ids"


class Bls(Loader):
    """GRUB with BLS entries. grubby changes all entries alike, and a flag is effective only if every entry contains the flag."""

    name = "GRUB with boot entries (grubby)"

    def _entries(self) -> list[Entry]:
        entries = boot_entries.read_bls(self.ctx.root, BLS, boot_entries.environment(self.ctx.root))
        return [entry for entry in entries if not entry.rescue]

    def next_boot(self) -> list[Entry]:
        """Returns GRUB's saved default entry."""
        return next_kernel.default_of_bls(self.ctx.root, self._entries())

    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """Returns the changes that edit GRUB's defaults and /etc/kernel/cmdline, then the boot entries."""
        changes = Changes()
        edit = grub_defaults.added(self.ctx, flags)
        text = files.read_text(self.ctx.root, KERNEL_CMDLINE)
        other = cmdline_file.added(text, flags) if text is not None and flags else None
        for one, path in ((edit, GRUB), (other, KERNEL_CMDLINE)):
            if one:
                changes.edits.append(one[0])
                changes.added[path] = one[1]
        lacks = self.lacking(flags, self._entries())
        if lacks:
            changes.added[ENTRIES] = lacks
        return self._with_run(changes, rebuild)

    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """Returns the changes that remove the flags from GRUB's defaults and /etc/kernel/cmdline, then from the boot entries."""
        text = files.read_text(self.ctx.root, KERNEL_CMDLINE)
        edits = [
            grub_defaults.taken(self.ctx, added.get(GRUB, ())),
            cmdline_file.taken(text, added.get(KERNEL_CMDLINE, ())) if text is not None else None,
        ]
        changes = Changes([edit for edit in edits if edit])
        ours = added.get(ENTRIES, [])
        changes.removed = [flag for flag in ours if any(flag in (entry.cmdline or (flag,)) for entry in self._entries())]
        return self._with_run(changes, rebuild)

    def _with_run(self, changes: Changes, rebuild: bool) -> Changes:
        """Adds a grubby run to the changes.

        If *rebuild* is true, vfio-pci IDs that were removed from GRUB's defaults are also removed from the boot entries.
        """
        self.add, self.remove = list(changes.added.get(ENTRIES, ())), list(changes.removed)
        given = grub_defaults.sources(self.ctx.root, drop_ins=False)
        if rebuild and given:
            kept = ids(grub_defaults.line_of(grub_defaults.states(self.ctx, given)[-1]))
            if any(ids(entry.cmdline or [IDS]) != kept for entry in self._entries()):
                self.remove += ["vfio-pci.ids", "vfio_pci.ids"]
                self.add += kept
        words = ["remove %s" % " ".join(self.remove)] if self.remove else []
        words += ["add %s" % " ".join(self.add)] if self.add else []
        changes.run = "run grubby for all entries: " + ", ".join(words) if words else ""
        return changes

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs grubby, and verifies that all other kernel arguments are unchanged.

        grubby may also rewrite GRUB's defaults, which must remain valid shell syntax.
        """
        before = {entry.name: entry.cmdline for entry in self._entries()}
        grubby.update(self.ctx, self.add, self.remove, timeout)
        meant = {**kernel_flags.meaning(self.add), **kernel_flags.meaning(self.remove)}
        for entry in self._entries():
            now = kernel_flags.meaning(entry.cmdline or ())
            old = kernel_flags.meaning(before.get(entry.name) or ())
            lost = sorted(key for key, value in old.items() if key not in meant and now.get(key) != value)
            if lost:
                remedy = "Run 'grubby --update-kernel=ALL --args=…' to restore these arguments before you reboot the host."
                raise error("grubby removed %s from this entry" % ", ".join(lost), entry.where, "all previous arguments", remedy, "cmdline_lost")
        given = grub_defaults.sources(self.ctx.root, drop_ins=False)
        if given:
            grub_defaults.states(self.ctx, given)


def ids(line: Sequence[str]) -> list[str]:
    """Returns the words in a kernel command line that set vfio-pci IDs."""
    return [word for word in line if kernel_flags.name_of(word) == IDS]
