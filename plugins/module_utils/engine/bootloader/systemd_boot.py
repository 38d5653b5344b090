# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supports systemd-boot with kernel-install.

Flags are added to the options of the system's boot entries, and to /etc/kernel/cmdline for future kernels. If /etc/kernel/cmdline is
missing, the collection does not create the file, because kernel-install uses the running kernel's command line instead. After the reboot, that command
line contains the flags.
"""

from __future__ import annotations

import re
from typing import Sequence

from ..base.errors import error
from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..read import boot_entries
from ..read.boot_entries import Entry
from ..state.paths import KERNEL_CMDLINE, LOADERS
from ..system import files
from . import cmdline_file
from .loader import ENTRIES, Added, Changes, Loader


class SystemdBoot(Loader):
    """The systemd-boot boot loader. No program runs after an edit, because systemd-boot reads the boot entries directly."""

    name = "systemd-boot"

    def _entries(self) -> list[Entry]:
        return [entry for place in LOADERS for entry in boot_entries.read_bls(self.ctx.root, place + "/entries", {})]

    def next_boot(self) -> list[Entry]:
        """Returns the default boot entry, or all boot entries for the system if no default is set."""
        return boot_entries.systemd_boot_default(self.ctx, self._entries())

    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """Returns the changes that edit the boot entries, then /etc/kernel/cmdline."""
        changes = Changes()
        added: list[str] = []
        for entry in boot_entries.of_this_system(self.ctx, self._entries()):
            lacks = kernel_flags.missing(flags, entry.cmdline or ())
            if lacks:
                changes.edits.append(self._edit(entry, lacks))
                added += [flag for flag in lacks if flag not in added]
        if added:
            changes.added[ENTRIES] = added
        text = files.read_text(self.ctx.root, KERNEL_CMDLINE)
        other = cmdline_file.added(text, flags) if text is not None and flags else None
        if other:
            changes.edits.append(other[0])
            changes.added[KERNEL_CMDLINE] = other[1]
        changes.ours = [edit.path for edit in changes.edits if edit.path != KERNEL_CMDLINE]
        return changes

    def _edit(self, entry: Entry, flags: Sequence[str]) -> FileEdit:
        """Returns the edit that appends the flags to the last options line of the entry.

        Verifies that the edited text contains the flags and all previous options.
        """
        text = files.read_text(self.ctx.root, entry.path) or ""
        lines = text.splitlines(True)
        line = lines[entry.line - 1] if entry.line <= len(lines) else ""
        if not re.match(r"\s*options\s", line):
            raise cmdline_file.refused(entry.where, "this boot entry has no options line", flags)
        ending = line[len(line.rstrip()):] or "\n"
        lines[entry.line - 1] = "%s %s%s" % (line.rstrip(), " ".join(flags), ending)
        after = "".join(lines)
        again = boot_entries.of_bls(entry.path, after, {})
        expected = [*(entry.cmdline or ()), *flags]
        if again is None or again.cmdline != expected or kernel_flags.missing(flags, expected):
            word = kernel_flags.against(kernel_flags.missing(flags, expected), expected)
            raise error(
                "%s conflicts with %s" % (word or "the text of this entry", " ".join(flags)), entry.where, "%s in effect" % " ".join(flags),
                "Remove the conflicting option from the entry, then rerun. Nothing was changed.", "cmdline_overridden",
            )
        return FileEdit(entry.path, text, after, ["add %s" % " ".join(flags)])

    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """Returns the changes that remove the flags from the boot entries and from /etc/kernel/cmdline."""
        changes = Changes()
        for entry in boot_entries.of_this_system(self.ctx, self._entries()) if added.get(ENTRIES) else ():
            text = files.read_text(self.ctx.root, entry.path) or ""
            lines = [cmdline_file.without(line, added[ENTRIES]) if re.match(r"\s*options\s", line) else line for line in text.splitlines(True)]
            if "".join(lines) != text:
                changes.edits.append(FileEdit(entry.path, text, "".join(lines), ["remove %s" % " ".join(added[ENTRIES])]))
        changes.ours = [edit.path for edit in changes.edits]
        text = files.read_text(self.ctx.root, KERNEL_CMDLINE) or ""
        edit = cmdline_file.taken(text, added.get(KERNEL_CMDLINE, ()))
        if edit:
            changes.edits.append(edit)
        return changes
