# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records which kernel flags the collection added to each file, and during which boot the collection requested a reboot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ..state import migration
from ..state.paths import GRUB, KERNEL_CMDLINE, STATE
from ..system import files
from .loader import ENTRIES, Added

PATH = STATE + "/kernel-cmdline.json"
VERSION = 1
# On the Red Hat family, an earlier release wrote this record file, which contains only flags.
_EARLIER = STATE + "/iommu-flags"


@dataclass(eq=False, repr=False)
class Record:
    """The contents of the record file.

    The *added* attribute has the type loader.Added. *boot* is the ID of the boot during which the collection set flags that the running
    kernel lacked. *line* is the kernel command line that the collection expected for the next boot.
    """

    added: Added = field(default_factory=dict)
    boot: str | None = None
    line: str | None = None


def read(root: str) -> Record:
    """Returns the record, which is empty if the record file is missing or cannot be parsed."""
    earlier = (files.read_text(root, migration.current(root, _EARLIER)) or "").split()
    if earlier and files.read_text(root, migration.current(root, PATH)) is None:
        return Record({place: list(earlier) for place in (GRUB, KERNEL_CMDLINE, ENTRIES)})
    try:
        content = json.loads(files.read_text(root, migration.current(root, PATH)) or "{}")
        if content.get("version") != VERSION:
            return Record()
        added = {str(path): [str(flag) for flag in flags] for path, flags in content["added"].items()}
        return Record(added, content["boot"], content["line"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Record()


def write(root: str, record: Record) -> None:
    """Writes the record to its file, or removes the file if the record is empty."""
    path = migration.current(root, PATH)
    if not record.added and record.boot is None:
        files.remove(root, path)
        _drop_earlier(root)
        return
    content = {"version": VERSION, "added": record.added, "boot": record.boot, "line": record.line}
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    if text != files.read_text(root, path):
        files.write_atomic(root, path, text)
    _drop_earlier(root)


def _drop_earlier(root: str) -> None:
    path = migration.current(root, _EARLIER)
    if files.read_text(root, path) is not None:
        files.remove(root, path)


def merged(record: Record, added: Added) -> Record:
    """Returns the record with the given flags added."""
    whole = {path: list(flags) for path, flags in record.added.items()}
    for path, flags in added.items():
        whole[path] = whole.get(path, []) + [flag for flag in flags if flag not in whole.get(path, [])]
    return Record(whole, record.boot, record.line)
