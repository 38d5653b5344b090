# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates vgpuctl's man page from the subcommand table, which --help also uses."""

from __future__ import annotations

from typing import Iterable, Sequence

from ..state.paths import COMMAND, STORE
from .command import JSON, Command

_HEAD = """.\\" Written by vgpu.kvm, from the table of vgpuctl's subcommands.
.TH VGPUCTL 8
.SH NAME
vgpuctl \\- %s
.SH SYNOPSIS
.B vgpuctl
.I COMMAND
[OPTION ...]
.SH COMMANDS
"""
_TAIL = """.SH EXIT STATUS
.TP
.B 0
The command succeeded.
.B status
and
.B doctor
found no errors.
.TP
.B 1
The command failed or rejected the request. Standard error shows the reason.
.B status
found warnings only.
.B doctor
found errors.
.TP
.B 2
.B status
found errors or could not read the host. Each command also returns 2 for invalid options.
.SH ENVIRONMENT
.TP
.B NO_COLOR
If this variable is set, the output contains no colors.
.SH FILES
.TP
.I %s
The stored layout, which is restored at each boot.
.TP
.I %s
The vgpuctl command, a single file that requires Python 3.8 or newer and no other package. Layouts in YAML require PyYAML.
"""


def page(description: str, commands: Sequence[Command]) -> str:
    """Returns the man page for section 8."""
    return "".join([_HEAD % _escaped(description), *(line for one in commands for line in _command(one)), _TAIL % (_escaped(STORE), _escaped(COMMAND))])


def _command(one: Command) -> Iterable[str]:
    words = [option.names[0] if option.names[0].startswith("-") else option.shown for option in (*one.options, JSON)]
    yield ".SS %s\n" % _escaped(" ".join([one.name, *("[%s]" % word if word.startswith("-") else word for word in words)]))
    yield _sentence(one.help) + (_sentence(one.text) if one.text else "")
    for option in (*one.options, JSON):
        yield ".TP\n.B %s\n%s" % (_escaped(option.shown), _sentence(option.help))


def _sentence(text: str) -> str:
    """Returns the text as a sentence on a separate line."""
    text = text if text.startswith("vGPU") else text[0].upper() + text[1:]
    return _escaped(text if text.endswith(".") else text + ".") + "\n"


def _escaped(text: str) -> str:
    """Returns a text that troff prints unchanged, even if a line resembles a troff request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text
