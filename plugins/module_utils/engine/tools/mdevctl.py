# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""mdevctl: definitions, so that mdevctl and libvirt show the vGPUs that we make.

Definitions are ``manual``: mdevctl's own autostart fires as soon as VFs appear, and on Debian 12
not at all. Reading parses /etc/mdevctl.d (one look for all); writing is left to mdevctl.
"""

from __future__ import annotations

import json
import os
import re

from .. import files
from ..errors import trouble

FOLDER = "/etc/mdevctl.d"
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_PLACES = ("/usr/sbin/mdevctl", "/usr/bin/mdevctl", "/sbin/mdevctl")


def binary(ctx):
    """Where mdevctl is (Debian 12 has it in /usr/bin, others in /usr/sbin), or None."""
    for path in _PLACES:
        if os.access(ctx.root + path, os.X_OK):
            return path
    return None


class Definition:
    """A definition: start is auto or manual. mdev_type None: its file is damaged, and mdevctl passes over it."""

    def __init__(self, uuid, parent, mdev_type, start):
        self.uuid = uuid
        self.parent = parent
        self.mdev_type = mdev_type
        self.start = start


def definitions(root):
    """All definitions, by UUID. One in a file that mdevctl would reject has no type.

    mdevctl writes without a sync of its own: a power cut at that moment may leave an empty file.
    """
    found = {}
    for folder in files.names(root, FOLDER):
        for path in files.names(root, folder):
            if not os.path.isfile(root + path):
                continue  # scripts.d holds folders of call-out scripts
            name, parent = os.path.basename(path), os.path.basename(folder)
            if not _UUID.match(name):
                continue
            try:
                content = json.loads(files.read_text(root, path) or "")
                kind, start = content["mdev_type"], content["start"]
            except (ValueError, KeyError, TypeError, RecursionError):
                kind = start = None
            if isinstance(kind, str) and isinstance(start, str):
                found[name] = Definition(name, parent, kind, start)
            else:
                found.setdefault(name, Definition(name, parent, None, None))
    return found


def define(ctx, uuid, parent, mdev_type, timeout=30):
    """Writes a manual definition, to the disk."""
    _call(ctx, ["define", "-u", uuid, "-p", parent, "-t", mdev_type], uuid, timeout)
    _sync(ctx, parent, uuid)


def undefine(ctx, uuid, parent, timeout=30):
    """Removes a definition; the running device stays. A damaged one is a file that mdevctl does not see."""
    found = definitions(ctx.root).get(uuid)
    if found and found.mdev_type is None:
        files.remove(ctx.root, "%s/%s/%s" % (FOLDER, found.parent, uuid))
        return
    _call(ctx, ["undefine", "-u", uuid, "-p", parent], uuid, timeout)
    _sync(ctx, parent, uuid)


def _sync(ctx, parent, uuid):
    """mdevctl leaves it to the system when its writes reach the disk: a power cut some seconds later would lose the definition."""
    path = "%s/%s/%s" % (FOLDER, parent, uuid)
    try:
        files.sync(ctx.root, path)
    except OSError as exc:
        raise trouble(
            "the definition can't be brought to the disk: %s" % exc.strerror, device=path, remedy="Look at the disk, then run again.", code="not_synced"
        ) from exc


def _call(ctx, arguments, uuid, timeout):
    answer = ctx.command([binary(ctx)] + arguments, timeout)
    if answer.rc:
        raise trouble(
            "mdevctl %s failed: %s" % (arguments[0], answer.tail() or "rc %d" % answer.rc),
            device=uuid,
            remedy="Look with 'mdevctl list -d', or set mdevctl: false to do without definitions.",
            code="mdevctl_failed",
        )
