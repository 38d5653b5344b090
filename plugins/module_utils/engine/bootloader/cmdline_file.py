# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/kernel/cmdline, which kernel-install and proxmox-boot-tool give to kernels, and the options of boot entries: one line of words each. Pure."""

from __future__ import annotations

import re
from typing import Sequence

from ..base.errors import EngineError, error
from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..state.paths import KERNEL_CMDLINE


def added(text: str, flags: Sequence[str]) -> tuple[FileEdit, list[str]] | None:
    """The edit that puts the flags in force, and the flags that it adds; None if all are there."""
    words = _words(text, flags)
    lacks = kernel_flags.missing(flags, words)
    if not lacks:
        return None
    line = text.rstrip()
    after = "%s%s%s\n" % (line, " " if line else "", " ".join(lacks))
    left = kernel_flags.missing(flags, kernel_flags.words(after))
    if left:
        word = kernel_flags.against(left, kernel_flags.words(after)) or "--"
        raise refused(KERNEL_CMDLINE + ":1", "%s is in the way of %s" % (word, " ".join(left)), left)
    return FileEdit(KERNEL_CMDLINE, text, after, ["add %s" % " ".join(lacks)]), lacks


def taken(text: str, flags: Sequence[str]) -> FileEdit | None:
    """The edit that takes the flags back; None if none is there."""
    after = without(text, flags)
    return None if after == text else FileEdit(KERNEL_CMDLINE, text, after, ["remove %s" % " ".join(flags)])


def without(line: str, flags: Sequence[str]) -> str:
    """A line without the flags."""
    for flag in flags:
        line = re.sub(r"(?:(?<=\s)|\A)%s(?:[ \t]+|(?=\s|\Z))" % re.escape(flag), "", line)
    return re.sub(r"[ \t]+(?=\n|\Z)", "", line) if flags else line


def _words(text: str, flags: Sequence[str]) -> list[str]:
    """The words of the file, which must be one line of them."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    wrong = next((number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")), None)
    if wrong is not None:
        raise refused("%s:%d" % (KERNEL_CMDLINE, wrong), "it has a comment, which some tools take for arguments", flags)
    if len(lines) != 1:
        raise refused("%s:%d" % (KERNEL_CMDLINE, (lines or [1])[-1]), "it has %d lines with text, not one" % len(lines), flags)
    if text.count('"') % 2:
        raise refused("%s:%d" % (KERNEL_CMDLINE, lines[0]), "a quote is not closed", flags)
    return kernel_flags.words(text)


def refused(where: str, found: str, flags: Sequence[str]) -> EngineError:
    """A line that is not edited."""
    remedy = "Put %s there by hand, then run again. Nothing was changed." % " ".join(flags)
    return error(found, where, "one line of words, at whose end flags count", remedy, "bootloader_file_unclear")
