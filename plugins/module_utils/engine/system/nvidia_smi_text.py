# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses nvidia-smi's text output about GPUs, in which a header line and rows with keys and values follow for each GPU."""

from __future__ import annotations

import re
from typing import Iterator

from ..base.numbers import number
from ..hardware import address
from ..hardware.fabric import GpuFabric


def head(line: str) -> str | None:
    """Returns the address in the header line of a GPU's output, or None for other lines."""
    match = re.match(r"^GPU\s+(\S+)\s*$", line)
    return address.parse(match.group(1)) if match and address.is_address(match.group(1)) else None


def rows(text: str) -> Iterator[tuple[str | None, str, str]]:
    """Yields (GPU address, key in lower case, value) for each row with a colon."""
    gpu = None
    for line in text.splitlines():
        found = head(line)
        key, colon, value = line.partition(":")
        if found:
            gpu = found
        elif colon:
            yield gpu, " ".join(key.split()).lower(), value.strip()


def sections(text: str) -> Iterator[tuple[str, list[str], str, str]]:
    """Yields (GPU address, section headings above the row, key, value) for each row with a colon.

    Rows in different sections may have the same name, and only the indentation distinguishes sections.
    """
    gpu = ""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        found, name = head(line), line.strip()
        if found:
            gpu, path = found, []
        elif gpu and name:
            depth = len(line.expandtabs()) - len(line.expandtabs().lstrip())
            path = [one for one in path if one[0] < depth]
            key, colon, value = name.partition(":")
            if colon and key and not value[:1].strip():
                name = key.rstrip()
                yield gpu, [one for dummy, one in path], name, value.strip()
            path.append((depth, name))


def heads(text: str) -> list[str]:
    """Returns the addresses of the GPUs in nvidia-smi's text output."""
    return [found for found in map(head, text.splitlines()) if found]


def fabric(text: str) -> dict[str, GpuFabric]:
    """Returns each GPU's fabric values and NVSwitch module ID, keyed by GPU address. Older drivers print the module ID next to the part numbers."""
    found = {pf: GpuFabric() for pf in heads(text)}
    for pf, path, key, value in sections(text):
        shown = None if value in ("", "N/A", "[N/A]") else value
        if key.lower() == "module id":
            found[pf].module = number(shown)
        elif path and path[-1] == "Fabric" and key in ("State", "Status"):
            setattr(found[pf], key.lower(), shown)
    return found
