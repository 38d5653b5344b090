# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits the contents of /etc/nvidia/gridd.conf. The editor changes only the managed keys and preserves all other bytes."""

from __future__ import annotations

import re
from typing import Mapping

PATH = "/etc/nvidia/gridd.conf"
TEMPLATE = "/etc/nvidia/gridd.conf.template"
TOKENS = "/etc/nvidia/ClientConfigToken"
# The FeatureType values in gridd.conf, keyed by this collection's names for the license features.
FEATURES = {"unlicensed": "0", "vgpu": "1", "vws": "2", "compute": "4"}
_SET = re.compile(r"^[ \t]*([A-Za-z][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*?)[ \t\r]*$")
_COMMENTED = re.compile(r"^[ \t]*#[ \t]*([A-Za-z][A-Za-z0-9_]*)[ \t]*=")


def values(text: str) -> dict[str, str]:
    """Returns the values of all keys in the contents of gridd.conf. If a key is set more than once, the last value takes precedence."""
    return {match.group(1): match.group(2) for match in map(_SET.match, text.split("\n")) if match}


def render(text: str, desired: Mapping[str, str | None]) -> str:
    """Returns the contents of gridd.conf with the desired values. A key whose value is None is removed.

    If a key already has the desired value, the key's line remains unchanged.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # splitlines() would also split lines at characters other than \n
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    for key, value in desired.items():
        lines = _with(lines, key, value, end)
    return "".join(lines)


def _with(lines: list[str], key: str, value: str | None, end: str) -> list[str]:
    set_at = [number for number, line in enumerate(lines) if key in values(line.rstrip("\r\n"))]
    if value is None:
        return [line for number, line in enumerate(lines) if number not in set_at]
    if len(set_at) == 1 and values(lines[set_at[0]].rstrip("\r\n")) == {key: value}:
        return lines
    new = "%s=%s%s" % (key, value, end)
    if set_at:
        return [new if number == set_at[0] else line for number, line in enumerate(lines) if number not in set_at[1:]]
    # A new key is added after the commented line for this key in the template, or at the end of the file.
    matches = [_COMMENTED.match(line) for line in lines]
    number = next((number for number, match in enumerate(matches) if match and match.group(1) == key), len(lines) - 1)
    before = lines[: number + 1]
    if before and not before[-1].endswith("\n"):
        before[-1] += end
    return before + [new] + lines[number + 1:]
