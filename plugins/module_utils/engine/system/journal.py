# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads systemd journal lines, limited by age and number."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Sequence

from .context import Context

HOURS = 24  # the maximum age of journal lines, because older lines concern other events
KERNEL = "kernel"
_FIELDS = "MESSAGE,_TRANSPORT,_SYSTEMD_UNIT,_PID"  # each line also has __REALTIME_TIMESTAMP
_LONGEST = 1000  # the maximum number of characters in one line
_CUT = re.compile(r"[\w+./=-]*\Z")  # a truncated word at the end, because a partial token cannot be recognized


@dataclass(eq=False, repr=False)
class Line:
    """A log line. Unknown values are empty.

    ``log`` is "kernel", a unit name without the suffix, or a VM log name. ``when`` is in seconds since 1970.
    ``pid`` is the PID of the program that wrote the log line.
    """

    log: str
    text: str
    when: float | None = None
    pid: str = ""


def read(ctx: Context, matches: Sequence[str], most: int, timeout: float = 30) -> tuple[list[Line], str | None]:
    """Returns (the last lines from the current boot, oldest first; the reason why journalctl did not respond, or None).

    ``matches`` are journalctl arguments. Without systemd, the result is empty.
    """
    argv = ["journalctl", "--quiet", "--no-pager", "--boot", "--output=json", "--output-fields=" + _FIELDS]
    answer = ctx.command([*argv, "--since=-%dh" % HOURS, "--lines=%d" % most, *matches], timeout)
    if answer.rc == 127:
        return [], None
    if answer.rc:
        return [], "journalctl did not respond within %d s" % timeout if answer.timed_out else answer.tail(1) or "rc %d" % answer.rc
    return [line for line in map(_line, answer.out.splitlines()) if line], None


def _line(text: str) -> Line | None:
    """Parses one line of journalctl output. Returns None for other text, such as a hint."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        return None
    message = _message(found.get("MESSAGE")) if isinstance(found, dict) else ""
    if not message:
        return None
    unit = str(found.get("_SYSTEMD_UNIT") or "")
    log = KERNEL if found.get("_TRANSPORT") == KERNEL else unit[: -len(".service")] if unit.endswith(".service") else unit
    micros = str(found.get("__REALTIME_TIMESTAMP") or "")
    return Line(log, message, int(micros) / 1e6 if micros.isdecimal() and len(micros) < 20 else None, str(found.get("_PID") or ""))


def _message(value: Any) -> str:
    """Returns the message text. journalctl prints binary messages as byte lists, and messages that are too long as null."""
    if isinstance(value, list):
        value = bytes(one for one in value if isinstance(one, int) and 0 <= one < 256).decode("utf-8", "replace")
    return bounded(value) if isinstance(value, str) else ""


def bounded(text: str) -> str:
    """Returns a line truncated to a maximum length, because pattern matching time can grow with the square of the length."""
    return text if len(text) <= _LONGEST else _CUT.sub("", text[:_LONGEST])
