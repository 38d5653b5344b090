# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mark that a package manager removes a driver's packages: its command.

They are found by the version of the driver's module. Killed when that was gone, a removal would leave the other packages to nobody.
"""

from __future__ import annotations

from typing import Sequence

from ..state import migration
from ..state.paths import STATE
from ..system import files

PATH = STATE + "/driver-removal"


def begin(root: str, command: Sequence[str]) -> None:
    """Writes the mark before the removal begins; it survives a power cut."""
    files.write_atomic(root, migration.current(root, PATH), "".join(word + "\n" for word in command))


def read(root: str) -> list[str]:
    """The command of a removal that has not ended; empty if there is none."""
    return (files.read_text(root, migration.current(root, PATH)) or "").split()


def end(root: str) -> None:
    """Removes the mark."""
    files.remove(root, migration.current(root, PATH))
