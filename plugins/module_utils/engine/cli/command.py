# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines vgpuctl's subcommands as data classes, from which --help and the man page are generated."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

from ..base.errors import shown
from ..system.context import Context
from .screen import Screen


class Option:
    """An option or argument of a subcommand. *names* and *rest* are passed to argparse's add_argument()."""

    def __init__(self, *names: str, text: str, **rest: Any) -> None:
        self.names, self.text, self.rest = names, text, rest

    @property
    def shown(self) -> str:
        """The option in man page notation."""
        if not self.names[0].startswith("-"):
            return str(self.rest.get("metavar", self.names[0]))
        word = "|".join(self.rest["choices"]) if "choices" in self.rest else self.rest.get("metavar", "")
        return ", ".join(self.names) + (" " + word if word else "")

    @property
    def help(self) -> str:
        """The description of the option, followed by its default."""
        return self.text + (" (default: %s)" % self.rest["default"] if self.rest.get("default") not in (None, []) else "")


@dataclass(eq=False, repr=False)
class Command:
    """A vgpuctl subcommand, whose run(ctx, screen, args) returns the exit status.

    The *text* attribute adds details to *help*. *root* is true if the subcommand requires root privileges. *failed* is the exit status after a
    failure. *partial* is true if the output is incomplete without root privileges.
    """

    name: str
    run: Callable[[Context, Screen, argparse.Namespace], int]
    help: str
    text: str = ""
    options: Sequence[Option] = field(default_factory=tuple)
    root: bool = False
    failed: int = 1
    partial: bool = False


_DAY = 86400


def seconds(text: str) -> float:
    """Parses a timeout in seconds for argparse, with the same limits as in the modules."""
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found <= _DAY:  # NaN also fails this comparison
        raise argparse.ArgumentTypeError("the value is %s (expected: a number of seconds from 0 to %d)" % (shown(text), _DAY))
    return found


def whole_seconds(text: str) -> int:
    """Parses a timeout for argparse, and returns whole seconds."""
    return int(seconds(text))


JSON = Option("--json", text="print the output as JSON", action="store_true")


def parser(name: str, description: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Returns the parser for all subcommands. After parsing, args.command_of is the selected Command."""
    made = argparse.ArgumentParser(prog=name, description=description)
    below = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for one in commands:
        sub = below.add_parser(one.name, help=one.help, description=("%s. %s" % (one.help[0].upper() + one.help[1:], one.text)).strip())
        for option in (*one.options, JSON):
            sub.add_argument(*option.names, help=option.help.replace("%", "%%"), **option.rest)
        sub.set_defaults(command_of=one, parser_of=sub)
    return made


def parsed(made: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the parsed arguments.

    If the arguments are invalid, the program prints an error message and exits. Without arguments, the error message lists the subcommands.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words:
        sys.stderr.write(made.format_help())
        raise SystemExit(2)
    args, rest = made.parse_known_args(words)
    if rest:
        args.parser_of.print_usage(sys.stderr)
        args.parser_of.exit(2, "%s: error: unrecognized arguments: %s\n" % (args.parser_of.prog, " ".join(rest)))
    return args
