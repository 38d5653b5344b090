# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads, edits, and verifies /etc/default/grub and its drop-in files.

The host's sh evaluates the variables in the files. Errors name the line that conflicts with the flags.
"""

from __future__ import annotations

import re
from typing import List, Sequence, Tuple

from ..base.errors import EngineError, error
from ..binding.boot_files import FileEdit
from ..hardware import kernel_flags
from ..state.paths import GRUB, GRUB_DIRECTORY
from ..system import files, shell
from ..system.context import Context
from . import shell_text
from .loader import refused

LINUX, DEFAULT = "GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"
Sources = List[Tuple[str, str]]  # pairs of path and text, in the order in which GRUB's tools source the files


def sources(root: str, drop_ins: bool) -> Sources:
    """Returns the path and text of each file. *drop_ins* is true if the distribution's GRUB tools also source drop-in files."""
    paths = [GRUB, *(files.names(root, GRUB_DIRECTORY, ".cfg") if drop_ins else ())]
    texts = [(path, files.read_text(root, path)) for path in paths]
    return [(path, text) for path, text in texts if text is not None]


def changed(given: Sources, path: str, text: str) -> Sources:
    """Returns the list of files with one text replaced or one file added."""
    return sorted([one for one in given if one[0] != path] + [(path, text)], key=lambda one: (one[0] != GRUB, one[0]))


def states(ctx: Context, given: Sources) -> list[shell.Variables]:
    """Returns the variables' values after sourcing each file."""
    return shell.variables(ctx, [text for dummy, text in given], [path for path, dummy in given])


def line_of(variables: shell.Variables) -> list[str]:
    """Returns the kernel arguments that the variables add to a normal boot entry. Arguments from GRUB_CMDLINE_LINUX_DEFAULT come last."""
    return kernel_flags.words(variables.get(LINUX, "") + " " + variables.get(DEFAULT, ""))


def require(ctx: Context, before: Sources, after: Sources, flags: Sequence[str]) -> None:
    """Raises EngineError unless the edited files make the flags effective and change nothing else."""
    old, new = states(ctx, before), states(ctx, after)
    base = old[-1] if old else {}
    others = sorted(name for name in {*base, *new[-1]} if name != LINUX and base.get(name) != new[-1].get(name))
    lines = [[word for word in kernel_flags.words(one.get(LINUX, "")) if word not in flags] for one in (base, new[-1])]
    if others or lines[0] != lines[1]:
        found = "an edit would also change other settings (%s)" % (", ".join(others) or LINUX)
        edited = next((path for path, text in after if (path, text) not in before), GRUB)
        raise refused(edited, 1, found, flags)
    if kernel_flags.missing(flags, line_of(new[-1])):
        raise in_the_way(after, new, flags)


def in_the_way(given: Sources, after: Sequence[shell.Variables], flags: Sequence[str]) -> EngineError:
    """Returns the error with the line that prevents the flags from taking effect."""
    missing = kernel_flags.missing(flags, line_of(after[-1]))
    lacks = " ".join(missing)
    word = kernel_flags.against(missing, line_of(after[-1]))
    had = [not kernel_flags.missing(missing, kernel_flags.words(one.get(LINUX, ""))) for one in after]
    if word is not None:
        path, line = _line_with(given, word)
        found = "%s is set on this line and overrides %s" % (word, lacks)
        remedy = "Remove %s from this line, then rerun. Nothing was changed." % word
    else:
        first = next((number for number in range(len(had) - 1, 0, -1) if had[number - 1] and not had[number]), len(had) - 1)
        path = given[first][0]
        line = _last_assignment(given[first][1], LINUX)
        found = "this line sets %s again, which removes %s from the command line of the next boot" % (LINUX, lacks)
        remedy = "Write %s=\"$%s …\" on this line, or add the flags to this line, then rerun. Nothing was changed." % (LINUX, LINUX)
    return error(found, "%s:%d" % (path, line), "%s in effect at the next boot" % " ".join(flags), remedy, "cmdline_overridden")


def _line_with(given: Sources, word: str) -> tuple[str, int]:
    """Returns the path and number of the last line that contains the word."""
    for path, text in reversed(given):
        for number, line in reversed(list(enumerate(text.splitlines(), 1))):
            if word in line and not line.lstrip().startswith("#"):
                return path, number
    return given[-1][0], 1


def where(given: Sources, word: str) -> str | None:
    """Returns the path and line of a word in the files, or None if no file contains the word."""
    path, number = _line_with(given, word)
    return "%s:%d" % (path, number) if word in dict(given)[path] else None


def _last_assignment(text: str, name: str) -> int:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*(?:export\s+)?%s\+?=" % name, line)]
    return lines[-1] if lines else 1


def added(ctx: Context, flags: Sequence[str]) -> tuple[FileEdit, list[str]] | None:
    """Returns the edit of /etc/default/grub that makes the flags effective, and the added flags.

    Returns None if the file does not exist or all flags are already effective. The edit takes effect after GRUB's tools generate new files.
    """
    before = sources(ctx.root, drop_ins=False)
    if not before:
        return None
    text = before[0][1]
    lacks = list(flags)
    try:
        try:
            lacks = kernel_flags.missing(flags, line_of(states(ctx, before)[-1]))
        except EngineError:
            shell_text.assignments(text, LINUX)  # raises an error that names the line, if possible
            raise
        if not lacks:
            return None
        after = shell_text.append(text, LINUX, lacks)
    except shell_text.NotUnderstood as exc:
        raise refused(GRUB, exc.line, exc.found, lacks) from exc
    require(ctx, before, [(GRUB, after)], flags)
    return FileEdit(GRUB, text, after, ["add %s to %s" % (" ".join(lacks), LINUX)]), lacks


def taken(ctx: Context, flags: Sequence[str]) -> FileEdit | None:
    """Returns the edit of /etc/default/grub that removes the flags, or None if the file contains none of the flags."""
    before = sources(ctx.root, drop_ins=False)
    if not before or not flags:
        return None
    text = before[0][1]
    base = states(ctx, before)[-1]
    old = kernel_flags.words(base.get(LINUX, ""))
    if not set(flags) & set(old):
        return None
    try:
        after = shell_text.without(text, LINUX, flags)
    except shell_text.NotUnderstood as exc:
        raise refused(GRUB, exc.line, exc.found, flags) from exc
    new = states(ctx, [(GRUB, after)])[-1]
    same = {name: value for name, value in new.items() if name != LINUX} == {name: value for name, value in base.items() if name != LINUX}
    if not same or kernel_flags.words(new.get(LINUX, "")) != [word for word in old if word not in flags]:
        found = "%s cannot be removed from %s without other changes" % (" ".join(flags), LINUX)
        raise refused(GRUB, _last_assignment(text, LINUX), found, flags)
    return FileEdit(GRUB, text, after, ["remove %s from %s" % (" ".join(flags), LINUX)])
