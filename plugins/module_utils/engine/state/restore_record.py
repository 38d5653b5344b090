# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last restore, kept until the next one for metrics."""

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
    """The outcome of a restore. when: its end, seconds since 1970; after: seconds from the ready driver to the last vGPU. None: older release."""

    when: int
    seconds: float
    steps: int
    failures: int
    vgpus: int | None = None  # the number of stored vGPUs that existed at the end
    after: float | None = None


def write(root: str, record: Record) -> None:
    """Writes the record. An error is ignored: it is no failure of the restore."""
    content = {key: round(value, 3) for key, value in vars(record).items() if value is not None}
    with contextlib.suppress(EngineError):
        files.write_atomic(root, migration.current(root, PATH), json.dumps(content) + "\n")


def read(root: str) -> Record | None:
    """The record; None if the file is missing or can't be read."""
    try:
        found = json.loads(files.read_text(root, migration.current(root, PATH)) or "{}")
        return Record(**{name: kind(found[name]) for name, kind in _KINDS.items() if name in found})
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, EngineError):
        return None
