# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, users and counts as people read them."""

from __future__ import annotations

import re

from . import reading


def size(mib):
    """MiB as a short text: 512 MiB, 24 GiB, 1.5 TiB."""
    for unit, step in (("TiB", 1024 * 1024), ("GiB", 1024)):
        if mib >= step:
            rounded = "%.1f" % (mib / step)
            return "%s %s" % (rounded[:-2] if rounded.endswith(".0") else rounded, unit)
    return "%d MiB" % mib


def count(amount, what, many=None):
    """1 GPU, 2 GPUs, no GPUs."""
    return "%s %s" % (amount or "no", what if amount == 1 else many or what + "s")


def users(holders):
    """Who has a device open: VM web1, pid 4711 (python3). Empty: nobody."""
    found = []
    for one in reading.mappings(holders):
        vm, pid, command = (reading.text(one.get(key)) for key in ("vm", "pid", "command"))
        word = "VM %s" % vm if vm else "pid %s (%s)" % (pid, command) if pid else "a VM (%s)" % command if command else "a process"
        if word not in found:
            found.append(word)
    return ", ".join(found)


def natural(name):
    """A sort key under which gpu-2 comes before gpu-10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name.lower()) if part]


def shortened(text, most=800):
    """A message of others, without the noise around it and not without end."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    plain = re.sub(r"^Task failed: ", "", "\n".join(lines))
    return plain if len(plain) <= most else plain[:most].rstrip() + " …"
