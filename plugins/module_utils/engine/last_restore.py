# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the last restore went, kept until the next one, for metrics."""

from __future__ import annotations

import json

from . import files
from .errors import EngineError

PATH = "/var/lib/nvidia-vgpu/last-restore.json"


class Record:
    """when: its end, seconds since 1970; seconds: how long it took; steps and failures: how many."""

    def __init__(self, when, seconds, steps, failures):
        self.when = when
        self.seconds = seconds
        self.steps = steps
        self.failures = failures


def write(root, record):
    """Keeps it. What can't be written is no failure of the restore."""
    content = {"when": record.when, "seconds": round(record.seconds, 3), "steps": record.steps, "failures": record.failures}
    try:
        files.write_atomic(root, PATH, json.dumps(content) + "\n")
    except EngineError:
        return


def read(root):
    """The record; None where there is none, or none that can be read."""
    try:
        told = json.loads(files.read_text(root, PATH) or "null")
        return Record(int(told["when"]), float(told["seconds"]), int(told["steps"]), int(told["failures"])) if told else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, EngineError):
        return None
