# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats sizes, users, and counts as text."""

from __future__ import annotations

import re

from . import reading


def size(mib):
    """Returns a short text for a size in MiB, such as 512 MiB, 24 GiB, or 1.5 TiB."""
    for unit, step in (("TiB", 1024 * 1024), ("GiB", 1024)):
        if mib >= step:
            return f"{mib / step:.1f}".replace(".0", "") + " " + unit
    return f"{mib} MiB"


def count(amount, what):
    """Returns an amount with its noun, such as 1 GPU, 2 GPUs, or no GPUs."""
    return f"{amount or 'no'} {what}{'' if amount == 1 else 's'}"


def users(holders):
    """Returns a text with a device's users, such as VM web1 or pid 4711 (python3), or an empty string if the device is not in use."""
    found = []
    for one in reading.mappings(holders):
        vm, pid, command = (reading.line(one.get(key)) for key in ("vm", "pid", "command"))
        if vm:
            found.append(f"VM {vm}")
        elif pid:
            found.append(f"pid {pid} ({command})")
        else:
            found.append(f"a VM ({command})" if command else "a process")
    return ", ".join(dict.fromkeys(found))


def natural(name):
    """Returns a sort key that sorts gpu-2 before gpu-10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name.lower()) if part]


def shortened(text, most=800):
    """Returns another program's message, shortened and without blank lines or Ansible's prefix."""
    plain = re.sub(r"^Task failed: ", "", "\n".join(filter(None, map(str.strip, text.splitlines()))))
    return plain if len(plain) <= most else plain[:most].rstrip() + " …"
