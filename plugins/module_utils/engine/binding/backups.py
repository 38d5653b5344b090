# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The original boot files from before the collection's first edit. A teardown restores them.

A file that another program or person changed after our edit is not restored. At our next edit, its text counts as the original.
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

# For each path: "before" is the file's text (None: there was no file), "after" the digest of our text.
Record = Dict[str, Dict[str, Any]]


def _digest(text: str | None) -> str | None:
    """The digest of the text; None for a missing file."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read(root: str) -> Record:
    """The record; empty if the record is missing or can't be read."""
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
    """Records a file's text before an edit. after: its text after the edit, None if the edit removes the file."""
    record, before = read(root), files.read_text(root, path)
    known = record.get(path)
    if known and _digest(before) == known["after"]:
        before = known["before"]  # this is our second edit
    if before is not None and before == after:
        record.pop(path, None)
    else:
        record[path] = {"before": before, "after": _digest(after)}
    _write(root, record)


def follow(root: str, path: str) -> None:
    """Records the text that a program started by us left after our edit: the file still counts as ours."""
    record = read(root)
    if path in record:
        record[path]["after"] = _digest(files.read_text(root, path))
        _write(root, record)


def forget(root: str, path: str) -> None:
    """Drops the record of a restored file."""
    record = read(root)
    if record.pop(path, None) is not None:
        _write(root, record)


def settle(root: str) -> None:
    """Drops the records of files that have their original text: a run that was killed after restoring them leaves such records."""
    record = read(root)
    left = {path: one for path, one in record.items() if files.read_text(root, path) != one["before"]}
    if left != record:
        _write(root, left)


def back(root: str) -> tuple[list[FileEdit], list[str]]:
    """Returns (edits that restore the files, warnings about files that were changed after our edit)."""
    edits, warnings = [], []
    for path, one in sorted(read(root).items()):
        now = files.read_text(root, path)
        if now == one["before"]:
            continue
        if _digest(now) == one["after"]:
            edits.append(FileEdit(path, now, one["before"], ["restore the file as it was before the first edit"]))
        else:
            warnings.append("%s: the file was changed after this collection edited it, so it is not restored" % path)
    return edits, warnings
