# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last restore, which metrics use until the next restore."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from ..base.errors import EngineError
from ..system import files
from . import migration
from .paths import STATE

PATH = STATE + "/last-restore.json"
_KINDS = {"when": int, "seconds": float, "steps": int, "failures": int, "vgpus": int, "after": float}


@dataclass(eq=False, repr=False)
class Record:
    """The outcome of a restore. Values that an older release did not record are None.

    ``when`` is the end of the restore, in seconds since 1970. ``after`` is the time from driver readiness to the last vGPU, in seconds.
    """

    when: int
    seconds: float
    steps: int
    failures: int
    vgpus: int | None = None  # the number of stored vGPUs that existed after the restore
    after: float | None = None


def write(root: str, record: Record) -> None:
    """Writes the record of the last restore. Write errors are ignored, because the restore itself did not fail."""
    content = {key: round(value, 3) for key, value in vars(record).items() if value is not None}
    with contextlib.suppress(EngineError):
        files.write_atomic(root, migration.current(root, PATH), json.dumps(content) + "\n")


def read(root: str) -> Record | None:
    """Returns the record of the last restore, or None if the file is missing or unreadable."""
    try:
        found = json.loads(files.read_text(root, migration.current(root, PATH)) or "{}")
        return Record(**{name: kind(found[name]) for name, kind in _KINDS.items() if name in found})
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, EngineError):
        return None
