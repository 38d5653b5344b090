# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of changes to Fabric Manager: the VFs for activated partitions, the original mode, and the installed packages.

Later runs and the teardown use the record, because Fabric Manager reports which partitions are active, but not for which VFs.
The recorded partitions are only valid for one boot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..system import files
from ..system.context import Context
from . import migration
from .paths import STATE

PATH = STATE + "/fabric.json"
_BOOT = "/proc/sys/kernel/random/boot_id"


@dataclass(eq=False, repr=False)
class Record:
    """The record of changes to Fabric Manager.

    ``partitions`` maps partition IDs to VFs. ``mode_before`` is the original FABRIC_MODE.
    ``packages`` contains the packages that the collection installed.
    """

    partitions: dict[int, list[str]] = field(default_factory=dict)
    mode_before: str | None = None
    packages: list[str] = field(default_factory=list)


def read(ctx: Context) -> Record:
    """Returns the record of changes to Fabric Manager, or an empty record if the file is missing or unreadable."""
    try:
        content = json.loads(files.read_text(ctx.root, migration.current(ctx.root, PATH)) or "{}")
        same = content.get("boot") == ctx.sysfs.read_or(_BOOT)
        found = {int(number): [str(vf) for vf in vfs] for number, vfs in content.get("partitions", {}).items()} if same else {}
        before = content.get("mode_before")
        return Record(found, None if before is None else str(before), [str(name) for name in content.get("packages", [])])
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Record()


def write(ctx: Context, record: Record) -> None:
    """Writes the record of changes to Fabric Manager, or removes the file if the record is empty."""
    path = migration.current(ctx.root, PATH)
    if not (record.partitions or record.mode_before is not None or record.packages):
        files.remove(ctx.root, path)
        return
    content: dict[str, Any] = {"partitions": {str(number): vfs for number, vfs in sorted(record.partitions.items())}}
    content.update(boot=ctx.sysfs.read_or(_BOOT), mode_before=record.mode_before, packages=sorted(record.packages))
    files.write_atomic(ctx.root, path, json.dumps(content, indent=1) + "\n")
