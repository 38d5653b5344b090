# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records the original text of boot files before the first edit. A teardown restores the original text.

A file that was changed after the collection's edit is not restored. If the collection edits a changed file again, the text before the new edit
becomes the original.
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

# "before" is the file's original text, or None if the file did not exist.
# "after" is the digest of the text that the collection wrote.
Record = Dict[str, Dict[str, Any]]


def _digest(text: str | None) -> str | None:
    """Returns the SHA-256 digest of a text, or None for a missing file."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read(root: str) -> Record:
    """Returns the backup record, which is empty if the record file is missing or cannot be parsed."""
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
    """Records a file's text before an edit. *after* is the text after the edit, or None if the edit removes the file."""
    record, before = read(root), files.read_text(root, path)
    known = record.get(path)
    if known and _digest(before) == known["after"]:
        before = known["before"]  # the collection has already edited the file
    if before is not None and before == after:
        record.pop(path, None)
    else:
        record[path] = {"before": before, "after": _digest(after)}
    _write(root, record)


def follow(root: str, path: str) -> None:
    """Records the new text of a file that was rewritten by a program that the collection ran. A teardown can still restore the file."""
    record = read(root)
    if path in record:
        record[path]["after"] = _digest(files.read_text(root, path))
        _write(root, record)


def forget(root: str, path: str) -> None:
    """Drops the backup record of a restored file."""
    record = read(root)
    if record.pop(path, None) is not None:
        _write(root, record)


def settle(root: str) -> None:
    """Drops the backup records of restored files. A run that is killed right after restoring a file leaves the record behind."""
    record = read(root)
    left = {path: one for path, one in record.items() if files.read_text(root, path) != one["before"]}
    if left != record:
        _write(root, left)


def back(root: str) -> tuple[list[FileEdit], list[str]]:
    """Returns the edits that restore the original files, and warnings about files that were changed after the collection's edit."""
    edits, warnings = [], []
    for path, one in sorted(read(root).items()):
        now = files.read_text(root, path)
        if now == one["before"]:
            continue
        if _digest(now) == one["after"]:
            edits.append(FileEdit(path, now, one["before"], ["restore the file as it was before the first edit"]))
        else:
            warnings.append("%s: the file is not restored, because the file was changed after this collection's edit" % path)
    return edits, warnings
