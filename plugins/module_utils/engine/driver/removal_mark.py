# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores the package manager's removal command on disk while driver packages are being removed.

Driver packages are identified by the driver module's version. Without the stored command, a removal that was killed after the module was deleted
could not be continued.
"""

from __future__ import annotations

from typing import Sequence

from ..state import migration
from ..state.paths import STATE
from ..system import files

PATH = STATE + "/driver-removal"


def begin(root: str, command: Sequence[str]) -> None:
    """Stores the removal command before package removal begins. The file is synced to disk and thus survives a power failure."""
    files.write_atomic(root, migration.current(root, PATH), "".join(word + "\n" for word in command))


def read(root: str) -> list[str]:
    """Returns the command of an unfinished removal as a list of words. The list is empty if no removal is unfinished."""
    return (files.read_text(root, migration.current(root, PATH)) or "").split()


def end(root: str) -> None:
    """Deletes the stored command after all driver packages are removed."""
    files.remove(root, migration.current(root, PATH))
