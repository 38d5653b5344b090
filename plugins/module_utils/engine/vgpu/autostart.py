# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs of others that mdevctl starts at each boot where the layout has its own: it does so before the restore, which then lacks VF or size. Pure."""

from __future__ import annotations

from typing import Collection, Mapping

from ..base.errors import Refusal
from ..system.mdevctl import Definition

CODE = "mdevctl_autostart"


def foreign(definitions: Mapping[str, Definition], parents: Collection[str], ours: Collection[str | None]) -> list[Refusal]:
    """Definitions that start by themselves on one of the parents. ours: UUIDs of the layout's vGPUs."""
    return [
        Refusal(
            "mdevctl starts %s (%s) here at each boot, which is no vGPU of the layout: the layout's own may then find no room" % (one.uuid, one.mdev_type),
            one.parent, "definitions with start: manual", manual(one.uuid, one.parent) + " Or undefine it ('mdevctl undefine').", CODE,
        )
        for dummy, found in sorted(definitions.items()) for one in found.all
        if one.start == "auto" and one.parent in parents and one.uuid not in ours
    ]


def manual(uuid: str | None, parent: str) -> str:
    """How to keep mdevctl from starting a device."""
    return "To have it started by hand alone: 'mdevctl modify -u %s -p %s --manual'." % (uuid, parent)
