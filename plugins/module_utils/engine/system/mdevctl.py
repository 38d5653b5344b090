# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes mdevctl definitions. With these definitions, mdevctl and libvirt show the vGPUs that the collection creates.

Definitions are ``manual``, because mdevctl's own autostart runs as soon as VFs appear, and does not run at all on Debian 12.
A definition is a JSON file, /etc/mdevctl.d/<parent>/<uuid>. The engine reads and writes these files directly, because mdevctl needs a process
for each definition (a tenth of a second under emulation) and does not sync its writes to disk. Afterwards, one call of mdevctl verifies
all definitions.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Iterable, Sequence

from ..base.errors import Refusal
from . import files
from .context import Context

DIRECTORY = "/etc/mdevctl.d"
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_PATHS = ("/usr/sbin/mdevctl", "/usr/bin/mdevctl", "/sbin/mdevctl")


def binary(ctx: Context) -> str | None:
    """Returns the path of mdevctl, or None. mdevctl is in /usr/bin on Debian 12 and in /usr/sbin on other distributions."""
    return ctx.executable(*_PATHS)


@dataclass(eq=False, repr=False)
class Definition:
    """A definition of a mediated device.

    ``start`` is auto or manual. ``mdev_type`` is None if the file is damaged, and mdevctl ignores the file.
    ``attrs`` holds the attributes that mdevctl writes to the device at its start. ``others`` holds definitions of the same UUID with other parents.
    """

    uuid: str
    parent: str
    mdev_type: str | None
    start: str | None
    attrs: Sequence[object] = ()
    others: list[Definition] = field(default_factory=list)

    @property
    def all(self) -> list[Definition]:
        """Returns all definitions with this UUID."""
        return [self, *self.others]


def definitions(root: str) -> dict[str, Definition]:
    """Returns all definitions by UUID.

    A file that mdevctl rejects (such as an empty file after a power failure) is returned as a definition without a type.
    """
    found: dict[str, Definition] = {}
    for directory in files.names(root, DIRECTORY):
        for path in files.names(root, directory):
            name, parent = os.path.basename(path), os.path.basename(directory)
            if not _UUID.match(name):
                continue  # scripts.d, for example, has directories of call-out scripts
            text = files.read_bytes(root, path)
            if text is None:
                continue  # the path is a directory, or the file was removed in the meantime
            one, other = _parsed(name, parent, text), found.get(name)
            if other and one.mdev_type and not other.mdev_type:
                one.others, other = other.all, None
            if other:
                other.others.append(one)
            else:
                found[name] = one
    return found


def _parsed(uuid: str, parent: str, text: bytes) -> Definition:
    try:
        content = json.loads(text)
        kind, start, attrs = content["mdev_type"], content["start"], content.get("attrs")
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = start = attrs = None
    if not isinstance(kind, str) or not isinstance(start, str):
        return Definition(uuid, parent, None, None)
    return Definition(uuid, parent, kind, start, attrs if isinstance(attrs, list) else [])


def define(ctx: Context, uuid: str, parent: str, mdev_type: str | None, attrs: Sequence[object] = ()) -> None:
    """Writes a manual definition in mdevctl's format. The caller syncs all definitions with sync()."""
    content: dict[str, object] = {"mdev_type": mdev_type, "start": "manual", "attrs": list(attrs)}
    files.write_atomic(ctx.root, _path(parent, uuid), json.dumps(content, indent=2) + "\n", lasting=False)


def sync(ctx: Context) -> None:
    """Syncs the written definitions. If a power failure empties a file before the sync, the next run rewrites the file."""
    files.sync_to_disk(ctx, [DIRECTORY], DIRECTORY)


def undefine(ctx: Context, uuid: str, parent: str) -> None:
    """Removes a definition, and its directory if the directory is empty. The running device stays."""
    path = _path(parent, uuid)
    files.remove(ctx.root, path)
    files.remove_empty(ctx.root, os.path.dirname(path))


def _path(parent: str, uuid: str) -> str:
    return "%s/%s/%s" % (DIRECTORY, parent, uuid)


def unseen(ctx: Context, written: Iterable[tuple[str, str]], timeout: float = 30) -> dict[str, Refusal]:
    """Returns the errors, by UUID, of the written (uuid, parent) pairs that mdevctl does not show as written.

    If a damaged file makes 'mdevctl list' fail, the engine checks the definitions that it reads itself.
    """
    answer = ctx.command([binary(ctx) or "mdevctl", "list", "--defined", "--dumpjson"], timeout)
    read = {(one.parent, one.uuid): one for found in definitions(ctx.root).values() for one in found.all}
    seen = _shown(answer.out) if not answer.rc else {key: (one.mdev_type, one.start) for key, one in read.items()}
    errors = {}
    for uuid, parent in written:
        mine = read.get((parent, uuid))
        if mine is None or mine.mdev_type is None or seen.get((parent, uuid)) != (mine.mdev_type, mine.start):
            remedy = "Check 'mdevctl list -d', or set mdevctl: false to use no definitions."
            expected = "a definition in %s" % _path(parent, uuid)
            errors[uuid] = Refusal("mdevctl does not show its definition", uuid, expected, remedy, "mdevctl_failed")
    return errors


def _shown(text: str) -> dict[tuple[str, str], tuple[object, object]]:
    """Parses mdevctl's JSON into (mdev_type, start) by (parent, uuid). Lines before the JSON are warnings: "[2026-11-27T20:46:06Z WARN ..."."""
    start = re.search(r"^\[(?=\s*[{\]])", text, re.MULTILINE)
    try:
        blocks = json.JSONDecoder().raw_decode(text, start.start())[0] if start else []
    except (ValueError, RecursionError):
        return {}
    found: dict[tuple[str, str], tuple[object, object]] = {}
    for block in blocks:
        for parent, devices in block.items() if isinstance(block, dict) else ():
            for device in devices if isinstance(devices, list) else ():
                for uuid, values in device.items() if isinstance(device, dict) else ():
                    if isinstance(values, dict):
                        found[(parent, uuid)] = (values.get("mdev_type"), values.get("start"))
    return found
