# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores a mark on disk, with the command of the package manager, while the packages of a driver are removed.

The driver's packages are found by the version of the driver's module. Without the mark, a removal that was killed after the module was removed could
not be continued.
"""

from __future__ import annotations

from typing import Sequence

from ..state import migration
from ..state.paths import STATE
from ..system import files

PATH = STATE + "/driver-removal"


def begin(root: str, command: Sequence[str]) -> None:
    """Writes the mark before the removal of the packages begins. The mark is synced to disk, so it survives a power failure."""
    files.write_atomic(root, migration.current(root, PATH), "".join(word + "\n" for word in command))


def read(root: str) -> list[str]:
    """Returns the command of an unfinished removal as a list of words, or an empty list if no removal is unfinished."""
    return (files.read_text(root, migration.current(root, PATH)) or "").split()


def end(root: str) -> None:
    """Removes the mark after all packages of the driver are removed."""
    files.remove(root, migration.current(root, PATH))
