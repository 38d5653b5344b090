# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds other programs' vGPUs that mdevctl starts at each boot on a GPU in the layout.

Autostarted vGPUs can occupy VFs and framebuffer before the restore runs.
"""

from __future__ import annotations

from typing import Collection, Mapping

from ..base.errors import Refusal
from ..system.mdevctl import Definition


def foreign(definitions: Mapping[str, Definition], parents: Collection[str], ours: Collection[str | None]) -> list[Refusal]:
    """Returns warnings about autostart definitions on the given parents. ``ours`` contains the layout's vGPU UUIDs."""
    return [
        Refusal(
            "mdevctl starts the vGPU %s (%s) on this device at each boot before the restore, so vGPUs of the layout might not fit" % (one.uuid, one.mdev_type),
            one.parent, "start: manual in the mdevctl definitions of other programs",
            "Disable the autostart with 'mdevctl modify -u %s -p %s --manual', or remove the definition with 'mdevctl undefine'." % (one.uuid, one.parent),
            "mdevctl_autostart",
        )
        for dummy, found in sorted(definitions.items()) for one in found.all
        if one.start == "auto" and one.parent in parents and one.uuid not in ours
    ]
