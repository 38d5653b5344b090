# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds vGPUs of other programs that mdevctl starts at each boot on a GPU of the layout.

Such vGPUs may occupy VFs and framebuffer before the restore runs.
"""

from __future__ import annotations

from typing import Collection, Mapping

from ..base.errors import Refusal
from ..system.mdevctl import Definition


def foreign(definitions: Mapping[str, Definition], parents: Collection[str], ours: Collection[str | None]) -> list[Refusal]:
    """Returns warnings about definitions with autostart on one of the parents. ``ours`` holds the UUIDs of the layout's vGPUs."""
    return [
        Refusal(
            "mdevctl starts %s (%s) here at each boot before the restore, so vGPUs of the layout may not fit" % (one.uuid, one.mdev_type),
            one.parent, "start: manual in definitions of other programs",
            "Disable this start ('mdevctl modify -u %s -p %s --manual'), or undefine it ('mdevctl undefine')." % (one.uuid, one.parent),
            "mdevctl_autostart",
        )
        for dummy, found in sorted(definitions.items()) for one in found.all
        if one.start == "auto" and one.parent in parents and one.uuid not in ours
    ]
