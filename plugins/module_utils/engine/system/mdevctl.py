# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes mdevctl definitions, which make the collection's vGPUs visible in mdevctl and libvirt.

Definitions are ``manual``, because mdevctl's autostart runs as soon as VFs appear, and never runs on Debian 12. A definition is a JSON file,
/etc/mdevctl.d/<parent>/<uuid>. The engine reads and writes definition files directly, because mdevctl needs one process per definition (0.1 s under
emulation) and does not sync files to disk. Afterwards, one mdevctl call verifies all definitions.
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
    """Returns the path to mdevctl (/usr/bin on Debian 12, /usr/sbin on other distributions), or None."""
    return ctx.executable(*_PATHS)


@dataclass(eq=False, repr=False)
class Definition:
    """An mdevctl definition of a mediated device.

    ``start`` is auto or manual. ``mdev_type`` is None if the file is damaged and therefore ignored by mdevctl.
    ``attrs`` contains the attributes that mdevctl writes when it starts the device. ``others`` contains definitions with the same UUID and other
    parents.
    """

    uuid: str
    parent: str
    mdev_type: str | None
    start: str | None
    attrs: Sequence[object] = ()
    others: list[Definition] = field(default_factory=list)

    @property
    def all(self) -> list[Definition]:
        """Returns all mdevctl definitions with the same UUID."""
        return [self, *self.others]


def definitions(root: str) -> dict[str, Definition]:
    """Returns all mdevctl definitions, keyed by UUID.

    For files that mdevctl rejects (such as an empty file after a power failure), the result contains a definition without a type.
    """
    found: dict[str, Definition] = {}
    for directory in files.names(root, DIRECTORY):
        for path in files.names(root, directory):
            name, parent = os.path.basename(path), os.path.basename(directory)
            if not _UUID.match(name):
                continue  # scripts.d, for example, contains directories with call-out scripts
            text = files.read_bytes(root, path)
            if text is None:
                continue  # the path is a directory, or the file has been removed
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
    """Writes a manual definition in mdevctl's format. The caller must sync all definitions with sync()."""
    content: dict[str, object] = {"mdev_type": mdev_type, "start": "manual", "attrs": list(attrs)}
    files.write_atomic(ctx.root, _path(parent, uuid), json.dumps(content, indent=2) + "\n", lasting=False)


def sync(ctx: Context) -> None:
    """Syncs the written definitions. If a power failure truncates a file before the sync, the next run rewrites the file."""
    files.sync_to_disk(ctx, [DIRECTORY], DIRECTORY)


def undefine(ctx: Context, uuid: str, parent: str) -> None:
    """Removes a definition, and the directory if empty. The running device remains."""
    path = _path(parent, uuid)
    files.remove(ctx.root, path)
    files.remove_empty(ctx.root, os.path.dirname(path))


def _path(parent: str, uuid: str) -> str:
    return "%s/%s/%s" % (DIRECTORY, parent, uuid)


def unseen(ctx: Context, written: Iterable[tuple[str, str]], timeout: float = 30) -> dict[str, Refusal]:
    """Returns errors, keyed by UUID, for written (uuid, parent) pairs that mdevctl does not list as written.

    If a damaged file causes 'mdevctl list' to fail, the engine checks the definition files directly.
    """
    answer = ctx.command([binary(ctx) or "mdevctl", "list", "--defined", "--dumpjson"], timeout)
    read = {(one.parent, one.uuid): one for found in definitions(ctx.root).values() for one in found.all}
    seen = _shown(answer.out) if not answer.rc else {key: (one.mdev_type, one.start) for key, one in read.items()}
    errors = {}
    for uuid, parent in written:
        mine = read.get((parent, uuid))
        if mine is None or mine.mdev_type is None or seen.get((parent, uuid)) != (mine.mdev_type, mine.start):
            remedy = "Run 'mdevctl list -d', and fix the reported error. To create vGPUs without definitions, set vgpu_mdevctl to 'false'."
            expected = "a definition in %s" % _path(parent, uuid)
            errors[uuid] = Refusal("mdevctl does not list the vGPU's definition", uuid, expected, remedy, "mdevctl_failed")
    return errors


def _shown(text: str) -> dict[tuple[str, str], tuple[object, object]]:
    """Parses mdevctl's JSON into (mdev_type, start), keyed by (parent, uuid). Warnings may precede the JSON: "[2026-11-27T20:46:06Z WARN ..."."""
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
