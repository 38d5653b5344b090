# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""mdevctl: definitions, so that mdevctl and libvirt show the vGPUs that we make.

Definitions are ``manual``: mdevctl's own autostart fires as soon as VFs appear, and on Debian 12
not at all. Reading parses /etc/mdevctl.d (one look for all); writing is left to mdevctl.
"""

from __future__ import annotations

import json
import os

from .. import files
from ..errors import trouble

FOLDER = "/etc/mdevctl.d"
_PLACES = ("/usr/sbin/mdevctl", "/usr/bin/mdevctl", "/sbin/mdevctl")


def binary(ctx):
    """Where mdevctl is (Debian 12 has it in /usr/bin, others in /usr/sbin), or None."""
    for path in _PLACES:
        if os.access(ctx.root + path, os.X_OK):
            return path
    return None


class Definition:
    """A definition: start is auto or manual."""

    def __init__(self, uuid, parent, mdev_type, start):
        self.uuid = uuid
        self.parent = parent
        self.mdev_type = mdev_type
        self.start = start


def definitions(root):
    """All definitions, by UUID. A file that mdevctl itself would reject is passed over."""
    found = {}
    for folder in files.names(root, FOLDER):
        for path in files.names(root, folder):
            if not os.path.isfile(root + path):
                continue  # scripts.d holds folders of call-out scripts
            try:
                content = json.loads(files.read_text(root, path) or "")
                kind, start = content["mdev_type"], content["start"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if isinstance(kind, str) and isinstance(start, str):
                uuid = os.path.basename(path)
                found[uuid] = Definition(uuid, os.path.basename(folder), kind, start)
    return found


def define(ctx, uuid, parent, mdev_type, timeout=30):
    """Writes a manual definition."""
    _call(ctx, ["define", "-u", uuid, "-p", parent, "-t", mdev_type], uuid, timeout)


def undefine(ctx, uuid, parent, timeout=30):
    """Removes a definition; the running device stays."""
    _call(ctx, ["undefine", "-u", uuid, "-p", parent], uuid, timeout)


def _call(ctx, arguments, uuid, timeout):
    answer = ctx.command([binary(ctx)] + arguments, timeout)
    if answer.rc:
        raise trouble(
            "mdevctl %s failed: %s" % (arguments[0], answer.tail() or "rc %d" % answer.rc),
            device=uuid,
            remedy="Look with 'mdevctl list -d', or set mdevctl: false to do without definitions.",
            code="mdevctl_failed",
        )
