# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints vgpuctl's output, with colors and tables on a terminal, or as plain lines in a pipe."""

from __future__ import annotations

import json
import os
import re
import shutil
import textwrap
from typing import Any, Mapping, Sequence, TextIO

from ..base.errors import printable

# The terminal codes for each style.
_STYLES = {"error": "31;1", "warning": "33", "good": "32", "strong": "1", "dim": "2"}
# The space between table columns.
_GAP = "  "
# The maximum width of wrapped text in columns. On a narrower terminal, the width is the terminal's width.
_WIDTH = 110
# Matches a quoted command. Quoted commands are not wrapped, because operators paste them.
_COMMAND = re.compile(r"(?<!\w)'[^'\n]{1,60}'(?!\w)")


def count(number: int, word: str) -> str:
    """Returns a number with its noun, in the plural unless the number is 1."""
    return "%d %s%s" % (number, word, "" if number == 1 else "s")


class Screen:
    """Prints texts and tables to a stream. If *terminal* is None, the class detects whether the stream is a terminal."""

    def __init__(self, stream: TextIO, terminal: bool | None = None, surroundings: Mapping[str, str] | None = None) -> None:
        known = os.environ if surroundings is None else surroundings
        self.stream = stream
        self.terminal = stream.isatty() if terminal is None else terminal
        self.colored = self.terminal and "NO_COLOR" not in known and known.get("TERM", "") not in ("", "dumb")

    def __call__(self, text: str, style: str = "") -> None:
        """Prints a text of one or more lines in a style of _STYLES."""
        self.stream.write(self.painted(printable(text), style) + "\n")
        self.stream.flush()  # flushed, because the journal must show each step immediately

    def painted(self, text: str, style: str) -> str:
        """Returns a printable text in a style. If colors are disabled, the text is returned unchanged."""
        return "\x1b[%sm%s\x1b[0m" % (_STYLES[style], text) if style and self.colored else text

    def labeled(self, word: str, text: str) -> None:
        """Prints a wrapped text after a label in a separate column. An empty text is not printed."""
        width = min(shutil.get_terminal_size((_WIDTH, 0)).columns, _WIDTH) if self.terminal else _WIDTH
        if text:
            whole = _COMMAND.sub(lambda found: found.group().replace(" ", "\0"), text)
            lines = textwrap.wrap(whole, max(width, 40), initial_indent="  %-8s  " % word, subsequent_indent=" " * 12, break_on_hyphens=False)
            self("\n".join(lines).replace("\0", " "))

    def json(self, value: Any) -> None:
        """Prints a value as JSON."""
        self(json.dumps(value, indent=1))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """Prints rows in columns, below a heading. *styles* has one style for each row."""
        lines = [[printable(cell, lines=False) for cell in row] for row in (head, *rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        for line, style in zip(lines, ["strong", *(styles or [""] * len(rows))]):
            self(_GAP.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), style)
