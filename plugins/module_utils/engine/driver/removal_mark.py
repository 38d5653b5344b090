# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks that a package manager is removing a driver's packages, with its command.

The packages are found by the version of the driver's module. A removal that was killed after removing the module could not be continued otherwise.
"""

from __future__ import annotations

from typing import Sequence

from ..state import migration
from ..state.paths import STATE
from ..system import files

PATH = STATE + "/driver-removal"


def begin(root: str, command: Sequence[str]) -> None:
    """Writes the mark before the removal begins. The mark is synced to disk, and survives a power failure."""
    files.write_atomic(root, migration.current(root, PATH), "".join(word + "\n" for word in command))


def read(root: str) -> list[str]:
    """The command of an unfinished removal; empty if there is none."""
    return (files.read_text(root, migration.current(root, PATH)) or "").split()


def end(root: str) -> None:
    """Removes the mark."""
    files.remove(root, migration.current(root, PATH))
