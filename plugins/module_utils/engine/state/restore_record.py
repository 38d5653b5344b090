# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the last restore went, kept until the next one, for metrics."""

from __future__ import annotations

import json

from ..base.errors import EngineError
from ..system import files
from .paths import STATE

PATH = STATE + "/last-restore.json"


class Record:
    """when: its end, seconds since 1970; seconds: how long it took; steps and failures: how many.

    vgpus: how many of the stored vGPUs were there in the end; after: seconds from the driver being ready to the last of them.
    Both are None in a record of an older release.
    """

    def __init__(self, when, seconds, steps, failures, vgpus=None, after=None):
        self.when = when
        self.seconds = seconds
        self.steps = steps
        self.failures = failures
        self.vgpus = vgpus
        self.after = after


def write(root, record):
    """Keeps it. What can't be written is no failure of the restore."""
    content = {"when": record.when, "seconds": round(record.seconds, 3), "steps": record.steps, "failures": record.failures}
    if record.after is not None:
        content.update(vgpus=record.vgpus, after=round(record.after, 3))
    try:
        files.write_atomic(root, PATH, json.dumps(content) + "\n")
    except EngineError:
        return


def read(root):
    """The record; None where there is none, or none that can be read."""
    try:
        told = json.loads(files.read_text(root, PATH) or "null")
        if not told:
            return None
        record = Record(int(told["when"]), float(told["seconds"]), int(told["steps"]), int(told["failures"]))
        if "after" in told:
            record.vgpus, record.after = int(told["vgpus"]), float(told["after"])
        return record
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, EngineError):
        return None
