# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Progress lines for people, on stderr, so that stdout stays a command's answer."""

from __future__ import annotations

import shutil
import sys
import time

_START = time.monotonic()
EVERY = 30.0  # seconds between two lines of a `Status` without a terminal


class TwinError(Exception):
    """Something that the user can act on; the text is all that is shown."""


def say(text: str) -> None:
    """Print a line with the seconds since the command started."""
    print(f"{_stamp()} {text}", file=sys.stderr, flush=True)


def _stamp() -> str:
    return f"[{time.monotonic() - _START:4.0f} s]"


class Status:
    """One line that is updated in place on a terminal; elsewhere a line every half minute."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()

    def update(self, text: str) -> None:
        """Show what happens now."""
        if self._terminal:
            line = f"{_stamp()} {text}"[: shutil.get_terminal_size().columns - 1]  # a longer one would wrap and could not be replaced
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown >= EVERY:
            self._shown = time.monotonic()
            say(text)

    def clear(self) -> None:
        """Leave the terminal's line empty for what comes next."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
