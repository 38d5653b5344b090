# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of a boot loader: the entries of the next boot, the edits of files, and the program that applies them.

To add a boot loader, write a file in this directory with a class that implements the abstract methods, and add it to ``choose.py``.
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

# The flags that this collection added, by file. Flags of boot entries are listed under one common name.
Added = Dict[str, List[str]]
ENTRIES = "boot entries"


@dataclass(eq=False, repr=False)
class Changes:
    """The planned changes. edits: the files; their originals are kept, except for our own files. run: the program that applies them, as text.

    added: the flags that the edits and the program add; removed: the flags that the program removes from boot entries.
    """

    edits: list[FileEdit] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    run: str = ""
    added: Added = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


class Loader(ABC):
    """A boot loader on one host. Only apply_run writes."""

    name: str

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx

    @abstractmethod
    def next_boot(self) -> list[Entry]:
        """The entries that the next boot may start. If the default is known, only this one."""

    @abstractmethod
    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """The changes that put the flags in force. Raises EngineError if a file is not understood or an edit would have no effect."""

    @abstractmethod
    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """The changes that remove the added flags."""

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs the program of changes.run, and syncs its files to disk."""

    def source_of(self, word: str) -> str | None:
        """The file and line that a word of the command line comes from; None if unknown."""
        return None

    def lacking(self, flags: Sequence[str], entries: Sequence[Entry]) -> list[str]:
        """The flags that are not in force in at least one of the entries."""
        return [flag for flag in flags if any(kernel_flags.missing([flag], entry.cmdline or ()) for entry in entries)]

    def wrong(self, flags: Sequence[str], entries: Sequence[Entry]) -> list[Refusal]:
        """The reason for which the next boot would not have the flags in force."""
        if not entries:
            return [no_entries(self.name)]
        return [self._against(flags, entry) for entry in entries if kernel_flags.missing(flags, entry.cmdline or ())]

    def _against(self, flags: Sequence[str], entry: Entry) -> Refusal:
        missing = kernel_flags.missing(flags, entry.cmdline or ())
        lacks = " ".join(missing)
        if entry.cmdline is None:
            unknown = "the command line of this entry can't be read: it uses an unknown variable of GRUB"
            return Refusal(unknown, entry.where, lacks, "Add the flags to this entry manually, then run again.", "cmdline_unknown")
        word = kernel_flags.against(missing, entry.cmdline)
        source = self.source_of(word) if word else None
        found = "the next boot would not have %s in force%s" % (lacks, "; %s conflicts with them" % word if word else "")
        remedy = "Remove %s from %s, then run again. Do not reboot before that." % (word, source or "the source of this entry")
        if not word:
            remedy = "Find the source of this entry (a fixed entry, another configuration), add the flags there, then run again."
        return Refusal(found, entry.where, lacks, remedy, "cmdline_overridden")


def no_entries(name: str) -> Refusal:
    """The error of a boot loader without an entry of this system."""
    found = "no boot entry of this system was found (%s)" % name
    return Refusal(found, "boot loader", "an entry with the running system's root file system", _BY_HAND, "bootloader_unknown")


_BY_HAND = "Add the flags to the kernel command line with the boot loader's own tools, reboot and run again."


def refused(path: str, line: int, found: str, flags: Sequence[str]) -> EngineError:
    """The error of a file that is not edited."""
    where = "%s:%d" % (path, line)
    remedy = "Add the flags manually, or write this line as a single statement NAME=\"value\", then run again. Nothing was changed."
    return error(found, where, "a plain assignment, to which %s can be added" % " ".join(flags), remedy, "bootloader_file_unclear")
