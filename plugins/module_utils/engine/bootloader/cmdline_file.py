# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits files that contain a kernel command line on a single line.

The kernel command line is the content of /etc/kernel/cmdline, which kernel-install and proxmox-boot-tool use, or the options line of a boot entry.
"""

from __future__ import annotations

import re
from typing import Sequence

from ..base.errors import EngineError, error
from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..state.paths import KERNEL_CMDLINE


def added(text: str, flags: Sequence[str]) -> tuple[FileEdit, list[str]] | None:
    """Returns the edit that makes all flags effective and the added flags, or None if all flags are already effective."""
    words = _words(text, flags)
    lacks = kernel_flags.missing(flags, words)
    if not lacks:
        return None
    line = text.rstrip()
    after = "%s%s%s\n" % (line, " " if line else "", " ".join(lacks))
    left = kernel_flags.missing(flags, kernel_flags.words(after))
    if left:
        word = kernel_flags.against(left, kernel_flags.words(after)) or "--"
        raise refused(KERNEL_CMDLINE + ":1", "%s conflicts with %s" % (word, " ".join(left)), left)
    return FileEdit(KERNEL_CMDLINE, text, after, ["add %s" % " ".join(lacks)]), lacks


def taken(text: str, flags: Sequence[str]) -> FileEdit | None:
    """Returns the edit that removes the flags, or None if the file contains none of the flags."""
    after = without(text, flags)
    return None if after == text else FileEdit(KERNEL_CMDLINE, text, after, ["remove %s" % " ".join(flags)])


def without(line: str, flags: Sequence[str]) -> str:
    """Returns the line without the flags."""
    for flag in flags:
        line = re.sub(r"(?:(?<=\s)|\A)%s(?:[ \t]+|(?=\s|\Z))" % re.escape(flag), "", line)
    return re.sub(r"[ \t]+(?=\n|\Z)", "", line) if flags else line


def _words(text: str, flags: Sequence[str]) -> list[str]:
    """Returns the words in a file that must contain exactly one non-empty line."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    wrong = next((number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")), None)
    if wrong is not None:
        raise refused("%s:%d" % (KERNEL_CMDLINE, wrong), "the file has a comment, which some tools read as arguments", flags)
    if len(lines) != 1:
        raise refused("%s:%d" % (KERNEL_CMDLINE, (lines or [1])[-1]), "the file has %d lines of text instead of one line" % len(lines), flags)
    if text.count('"') % 2:
        raise refused("%s:%d" % (KERNEL_CMDLINE, lines[0]), "a quote is not closed", flags)
    return kernel_flags.words(text)


def refused(where: str, found: str, flags: Sequence[str]) -> EngineError:
    """Returns the error for a line that the collection cannot edit."""
    remedy = "Add %s to this file manually, then rerun. Nothing was changed." % " ".join(flags)
    return error(found, where, "one line of kernel arguments, to which flags can be appended", remedy, "bootloader_file_unclear")
