# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Snapshots of a machine. A snapshot contains memory, devices, and the disk, and is stored in the machine's disk file."""

from __future__ import annotations

import re

from . import boot, monitor, qemu, ssh
from .progress import TwinError, say
from .run import run
from .state import Machine


def check_tag(tag: str) -> str:
    """Return the tag. Raises TwinError if the tag is not a valid name."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", tag):
        raise TwinError(f"'{tag}' is not a valid snapshot name (expected: a letter, followed by letters, digits, '_', '.', or '-').")
    return tag


def tags(machine: Machine) -> list[str]:
    """Return the snapshots on the disk. The list is empty while another command is still creating the disk."""
    if not machine.disk.exists():
        return []
    listing = run(["qemu-img", "snapshot", "-U", "-l", str(machine.disk)])
    return [parts[1] for parts in (line.split() for line in listing.splitlines()) if parts and parts[0].isdigit()]


def save(machine: Machine, tag: str) -> None:
    """Save the complete state of the running machine. A snapshot with the same name is replaced."""
    answer = monitor.command(machine, f"savevm {check_tag(tag)}")
    if answer:
        raise TwinError(f"The snapshot of '{machine.name}' failed: {answer}")
    say(f"{machine.name}: snapshot {tag}")


def restore(machine: Machine, tag: str) -> None:
    """Restore a snapshot. A stopped machine is started in this state."""
    if machine.pid():
        answer = monitor.command(machine, f"loadvm {check_tag(tag)}")
        if answer:
            raise TwinError(f"'{machine.name}' was not restored to {tag}: {answer}")
        ssh.forget_connections(machine)
    else:
        have = tags(machine)
        if check_tag(tag) not in have:
            raise TwinError(f"'{machine.name}' has no snapshot {tag} (existing snapshots: {', '.join(have) or 'none'}).")
        qemu.start(machine, tag)
    boot.wait(machine)
