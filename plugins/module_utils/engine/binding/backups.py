# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot files as they were before our first edit, kept for a teardown that restores them.

A file that somebody changed after our edit is theirs: it is not restored, and at our next edit its text counts as the original.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict

from ..state import migration
from ..state.paths import STATE
from ..system import files
from .boot_files import FileEdit

PATH = STATE + "/originals.json"
VERSION = 1

# Of each file, by path: "before" is its text (None: there was none), "after" the digest of our text.
Record = Dict[str, Dict[str, Any]]


def _digest(text: str | None) -> str | None:
    """None for a file that is not there."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read(root: str) -> Record:
    """The record; empty where there is no record, or none that can be read."""
    try:
        content = json.loads(files.read_text(root, migration.current(root, PATH)) or "{}")
        entries = content["files"] if content["version"] == VERSION else {}
        return {path: {"before": one["before"], "after": one["after"]} for path, one in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _write(root: str, record: Record) -> None:
    path = migration.current(root, PATH)
    if record:
        files.write_atomic(root, path, json.dumps({"version": VERSION, "files": record}, indent=1, sort_keys=True) + "\n", 0o600)
    else:
        files.remove(root, path)


def keep(root: str, path: str, after: str | None) -> None:
    """Notes a file's text before an edit. after: its text then, None if it is removed."""
    record, before = read(root), files.read_text(root, path)
    known = record.get(path)
    if known and _digest(before) == known["after"]:
        before = known["before"]  # a second edit of ours
    if before is not None and before == after:
        record.pop(path, None)
    else:
        record[path] = {"before": before, "after": _digest(after)}
    _write(root, record)


def follow(root: str, path: str) -> None:
    """Notes what a program that we ran left of a file after our edit, so that it still counts as ours."""
    record = read(root)
    if path in record:
        record[path]["after"] = _digest(files.read_text(root, path))
        _write(root, record)


def forget(root: str, path: str) -> None:
    """Drops the record of a file that was restored."""
    record = read(root)
    if record.pop(path, None) is not None:
        _write(root, record)


def settle(root: str) -> None:
    """Drops the records of files that are as they were, which a run that was killed after it restored them left."""
    record = read(root)
    left = {path: one for path, one in record.items() if files.read_text(root, path) != one["before"]}
    if left != record:
        _write(root, left)


def back(root: str) -> tuple[list[FileEdit], list[str]]:
    """(edits that restore the files, sentences about those that somebody changed since)."""
    edits, warnings = [], []
    for path, one in sorted(read(root).items()):
        now = files.read_text(root, path)
        if now == one["before"]:
            continue
        if _digest(now) == one["after"]:
            edits.append(FileEdit(path, now, one["before"], ["put it back as it was before the first edit"]))
        else:
            warnings.append("%s: it was changed after this collection edited it, so it is not put back" % path)
    return edits, warnings
