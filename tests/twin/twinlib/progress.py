# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Prints progress lines for the user on stderr, because stdout contains only the result of a command."""

from __future__ import annotations

import shutil
import sys
import time

_START = time.monotonic()
EVERY = 30.0  # seconds between two lines of `Status` without a terminal


class TwinError(Exception):
    """An error that the user can fix. Only its text is shown."""


def say(text: str) -> None:
    """Print a line with the time since the command started, in seconds."""
    print(f"{_stamp()} {text}", file=sys.stderr, flush=True)


def _stamp() -> str:
    return f"[{time.monotonic() - _START:4.0f} s]"


class Status:
    """A status line, which is updated in place on a terminal. Without a terminal, a line is printed every half minute."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()

    def update(self, text: str) -> None:
        """Show the current status."""
        if self._terminal:
            line = f"{_stamp()} {text}"[: shutil.get_terminal_size().columns - 1]  # a longer line would wrap and could not be replaced
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown >= EVERY:
            self._shown = time.monotonic()
            say(text)

    def clear(self) -> None:
        """Clear the line on the terminal for the next output."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
