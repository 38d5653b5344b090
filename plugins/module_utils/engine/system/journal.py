# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of systemd's journal, bounded in time and number. Nothing is written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Sequence

from .context import Context

HOURS = 24  # older lines are of another story
KERNEL = "kernel"
_FIELDS = "MESSAGE,_TRANSPORT,_SYSTEMD_UNIT,_PID"  # __REALTIME_TIMESTAMP comes with each line
_LONGEST = 1000  # characters of one line that are read
_CUT = re.compile(r"[\w+./=-]*\Z")  # a word that is cut: a part of a token is not known as one


@dataclass(eq=False, repr=False)
class Line:
    """A line of a log. log: "kernel", a unit's name without its ending, or a VM's; when: seconds since 1970; pid: of its writer; unknown ones are empty."""

    log: str
    text: str
    when: float | None = None
    pid: str = ""


def read(ctx: Context, matches: Sequence[str], most: int, timeout: float = 30) -> tuple[list[Line], str | None]:
    """(the last lines of this boot, oldest first, why there is no answer or None). matches: as journalctl takes them. Without systemd: none."""
    argv = ["journalctl", "--quiet", "--no-pager", "--boot", "--output=json", "--output-fields=" + _FIELDS]
    answer = ctx.command([*argv, "--since=-%dh" % HOURS, "--lines=%d" % most, *matches], timeout)
    if answer.rc == 127:
        return [], None
    if answer.rc:
        return [], "it gave no answer within %d s" % timeout if answer.timed_out else answer.tail(1) or "rc %d" % answer.rc
    return [line for line in map(_line, answer.out.splitlines()) if line], None


def _line(text: str) -> Line | None:
    """A line of journalctl's output; None for what is none, such as a hint."""
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
    """A message is a text, a list of bytes where it is none, or null where it is too long."""
    if isinstance(value, list):
        value = bytes(one for one in value if isinstance(one, int) and 0 <= one < 256).decode("utf-8", "replace")
    return bounded(value) if isinstance(value, str) else ""


def bounded(text: str) -> str:
    """As much of a line as is read: a pattern may take the square of a line's length, and others decide about that."""
    return text if len(text) <= _LONGEST else _CUT.sub("", text[:_LONGEST])
