# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the boot loader interface: the entries for the next boot, the file edits, and the program that applies the edits.

To add a boot loader, implement the abstract methods in a class in a new file of this directory, and add the class to ``choose.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Dict, List, Sequence

from ..base.errors import EngineError, Refusal, error
from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..read.boot_entries import Entry
from ..system.context import Context

# The flags that the collection added, keyed by file. The key ENTRIES lists the flags that were added to all boot entries.
Added = Dict[str, List[str]]
ENTRIES = "boot entries"


@dataclass(eq=False, repr=False)
class Changes:
    """The planned changes for one boot loader.

    The *edits* attribute lists the file edits. The original files are recorded, except for files in *ours*, which the collection manages. *run*
    describes the program that applies the edits. *added* contains the flags that the edits and the program add. *removed* contains the flags that the
    program removes from boot entries.
    """

    edits: list[FileEdit] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    run: str = ""
    added: Added = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


class Loader(ABC):
    """A boot loader on one host. Only apply_run() writes to the host."""

    name: str

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx

    @abstractmethod
    def next_boot(self) -> list[Entry]:
        """Returns the boot entries that the next boot can use. If the default entry is known, returns only the default entry."""

    @abstractmethod
    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """Returns the changes that make the flags effective. Raises EngineError if a file cannot be edited or an edit would have no effect."""

    @abstractmethod
    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """Returns the changes that remove the added flags."""

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs the program that Changes.run describes, and syncs the written files to disk."""

    def source_of(self, word: str) -> str | None:
        """Returns the file and line that set a word of the kernel command line, or None if the source is unknown."""
        return None

    def lacking(self, flags: Sequence[str], entries: Sequence[Entry]) -> list[str]:
        """Returns the flags that are ineffective in at least one boot entry."""
        return [flag for flag in flags if any(kernel_flags.missing([flag], entry.cmdline or ()) for entry in entries)]

    def wrong(self, flags: Sequence[str], entries: Sequence[Entry]) -> list[Refusal]:
        """Returns the errors that explain why the flags would not take effect at the next boot."""
        if not entries:
            return [no_entries(self.name)]
        return [self._against(flags, entry) for entry in entries if kernel_flags.missing(flags, entry.cmdline or ())]

    def _against(self, flags: Sequence[str], entry: Entry) -> Refusal:
        missing = kernel_flags.missing(flags, entry.cmdline or ())
        lacks = " ".join(missing)
        if entry.cmdline is None:
            unknown = "the command line of this boot entry cannot be read, because the entry uses an unknown GRUB variable"
            return Refusal(unknown, entry.where, lacks, "Add the flags to this entry manually, then rerun.", "cmdline_unknown")
        word = kernel_flags.against(missing, entry.cmdline)
        source = self.source_of(word) if word else None
        found = "the next boot would not apply %s%s" % (lacks, ", because %s takes precedence" % word if word else "")
        remedy = "Remove %s from %s, then rerun. Do not reboot the host before the rerun." % (word, source or "the source of this boot entry")
        if not word:
            remedy = "Find the file that defines this boot entry (a fixed entry or another configuration), add the flags to this file, then rerun."
        return Refusal(found, entry.where, lacks, remedy, "cmdline_overridden")


def no_entries(name: str) -> Refusal:
    """Returns the error for a boot loader that has no boot entry for the system."""
    found = "no boot entry for this system was found (%s)" % name
    return Refusal(found, "boot loader", "a boot entry with the root file system of the running system", _BY_HAND, "bootloader_unknown")


_BY_HAND = "Add the flags to the kernel command line with the boot loader's own tools, reboot the host, and rerun."


def refused(path: str, line: int, found: str, flags: Sequence[str]) -> EngineError:
    """Returns the error for a file that the collection cannot edit."""
    where = "%s:%d" % (path, line)
    remedy = "Add the flags manually, or rewrite this line as a single NAME=\"value\" statement. Then rerun. Nothing was changed."
    return error(found, where, "a plain assignment, to which %s can be added" % " ".join(flags), remedy, "bootloader_file_unclear")
