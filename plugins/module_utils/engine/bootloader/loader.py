# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of a boot loader: what the next boot will have, what is to be written, and the program that makes it count.

To add a boot loader: a file here with a class that has all that is abstract here, and its line in ``choose.py``.
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

# Flags that we added, by the file that has them; those of boot entries under one name.
Added = Dict[str, List[str]]
ENTRIES = "boot entries"


@dataclass(eq=False, repr=False)
class Changes:
    """What is to be done. edits: files, whose originals are kept unless they are among ours; run: what then makes it count, for people.

    added: flags that the edits and the program add; removed: flags that the program takes from boot entries.
    """

    edits: list[FileEdit] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    run: str = ""
    added: Added = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


class Loader(ABC):
    """A boot loader on one host. Nothing here writes but apply_run."""

    name: str

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx

    @abstractmethod
    def next_boot(self) -> list[Entry]:
        """The entries that the next boot may start; one where the default is known."""

    @abstractmethod
    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """What puts the flags in force. Raises EngineError where that is not understood, or would not help."""

    @abstractmethod
    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """What takes back the flags that were added."""

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs the program of changes.run, and syncs what it wrote."""

    def source_of(self, word: str) -> str | None:
        """The file and line that a word of the command line comes from, where that is known."""
        return None

    def lacking(self, flags: Sequence[str], entries: Sequence[Entry]) -> list[str]:
        """The flags that one of the entries does not have in force."""
        return [flag for flag in flags if any(kernel_flags.missing([flag], entry.cmdline or ()) for entry in entries)]

    def wrong(self, flags: Sequence[str], entries: Sequence[Entry]) -> list[Refusal]:
        """Why the next boot would not have the flags in force."""
        if not entries:
            return [no_entries(self.name)]
        return [self._against(flags, entry) for entry in entries if kernel_flags.missing(flags, entry.cmdline or ())]

    def _against(self, flags: Sequence[str], entry: Entry) -> Refusal:
        missing = kernel_flags.missing(flags, entry.cmdline or ())
        lacks = " ".join(missing)
        if entry.cmdline is None:
            unknown = "the command line of this entry can't be read: it has a variable of GRUB's that is not known"
            return Refusal(unknown, entry.where, lacks, "Put the flags there by hand, then run again.", "cmdline_unknown")
        word = kernel_flags.against(missing, entry.cmdline)
        source = self.source_of(word) if word else None
        found = "the next boot would not have %s in force%s" % (lacks, "; %s is in the way" % word if word else "")
        remedy = "Remove %s from %s, then run again. Do not reboot before that." % (word, source or "what this entry is made of")
        if not word:
            remedy = "Find what makes this entry (a fixed entry, another configuration), put the flags there, then run again."
        return Refusal(found, entry.where, lacks, remedy, "cmdline_overridden")


def no_entries(name: str) -> Refusal:
    """No entry of this system was found."""
    found = "no boot entry of this system was found (%s)" % name
    return Refusal(found, "boot loader", "an entry with the running system's root file system", _BY_HAND, "bootloader_unknown")


_BY_HAND = "Add the flags to the kernel command line by its own tools, reboot and run again."


def refused(path: str, line: int, found: str, flags: Sequence[str]) -> EngineError:
    """A file that is not edited."""
    where = "%s:%d" % (path, line)
    remedy = "Add them by hand, or write this line as NAME=\"value\" on its own, then run again. Nothing was changed."
    return error(found, where, "a plain assignment, to which %s can be added" % " ".join(flags), remedy, "bootloader_file_unclear")
