# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Progress lines for people, on stderr, so that stdout stays a command's answer."""

from __future__ import annotations

import sys
import time

_START = time.monotonic()


class TwinError(Exception):
    """Something that the user can act on; the text is all that is shown."""


def say(text: str) -> None:
    """Print a line with the seconds since the command started."""
    print(f"[{time.monotonic() - _START:4.0f} s] {text}", file=sys.stderr, flush=True)
