# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot files as they were before their first edit by us, kept so that a teardown can put them back.

A file that somebody changed after our edit is theirs: it is not put back, and at our next edit its text counts as the original.
"""

from __future__ import annotations

import hashlib
import json

from ..state.paths import STATE
from ..system import files
from .boot_files import FileEdit

PATH = STATE + "/originals.json"
VERSION = 1


def _digest(text):
    """None for a file that is not there."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read(root):
    """{path: {"before": text or None, "after": digest or None}}; empty where there is no record, or none that can be read."""
    try:
        told = json.loads(files.read_text(root, PATH) or "null")
        if told is None or told["version"] != VERSION:
            return {}
        return {path: {"before": one["before"], "after": one["after"]} for path, one in told["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _write(root, record):
    if record:
        files.write_atomic(root, PATH, json.dumps({"version": VERSION, "files": record}, indent=1, sort_keys=True) + "\n", 0o600)
    else:
        files.remove(root, PATH)


def keep(root, path, after):
    """Notes a file's text before an edit. after: its text then, None if it goes."""
    record, now = read(root), files.read_text(root, path)
    known = record.get(path)
    if known and _digest(now) == known["after"]:
        before = known["before"]  # a second edit of ours
    else:
        before = now
    if before is not None and before == after:
        record.pop(path, None)
    else:
        record[path] = {"before": before, "after": _digest(after)}
    _write(root, record)


def forget(root, path):
    """A file that was put back needs no record."""
    record = read(root)
    if record.pop(path, None) is not None:
        _write(root, record)


def back(root):
    """(edits that put the files back, sentences about those that somebody changed since)."""
    edits, warnings = [], []
    for path, one in sorted(read(root).items()):
        now = files.read_text(root, path)
        if now == one["before"]:
            continue
        if _digest(now) != one["after"]:
            warnings.append("%s: it was changed after this collection edited it, so it is not put back" % path)
            continue
        edits.append(FileEdit(path, now, one["before"], ["put it back as it was before the first edit"]))
    return edits, warnings
