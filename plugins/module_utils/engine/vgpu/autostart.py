# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs of others that mdevctl starts at each boot where the layout has its own: it does so before the restore, which then lacks VF or size. Pure."""

from __future__ import annotations

from typing import Collection, Mapping

from ..base.errors import Refusal
from ..system.mdevctl import Definition


def foreign(definitions: Mapping[str, Definition], parents: Collection[str], ours: Collection[str | None]) -> list[Refusal]:
    """Definitions that start by themselves on one of the parents. ours: UUIDs of the layout's vGPUs."""
    return [
        Refusal(
            "mdevctl starts %s (%s) here at each boot, before the restore; then vGPUs of the layout may find no room" % (one.uuid, one.mdev_type),
            one.parent, "definitions of others with start: manual",
            "Keep mdevctl from starting it ('mdevctl modify -u %s -p %s --manual'), or undefine it ('mdevctl undefine')." % (one.uuid, one.parent),
            "mdevctl_autostart",
        )
        for dummy, found in sorted(definitions.items()) for one in found.all
        if one.start == "auto" and one.parent in parents and one.uuid not in ours
    ]
