# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that keep mdevctl's definitions as the vGPUs are: this parent, this type, started by us alone. Pure."""

from __future__ import annotations

from ..base.steps import Step


def undefine(gpu, definition):
    """The step that removes a definition; the running device stays."""
    return Step(
        "undefine",
        gpu,
        definition.parent,
        "undefine %s in mdevctl" % definition.uuid,
        uuid=definition.uuid,
    )


def define(gpu, uuid, parent, type_id, definition):
    """Steps to a manual definition; none when it is so already. definition: the present one, or None."""
    if definition:
        same = (
            definition.parent == parent
            and definition.start == "manual"
            and definition.mdev_type.rsplit("-", 1)[-1] == type_id
        )
        if same:
            return []
    steps = [undefine(gpu, definition)] if definition else []
    return steps + [
        Step("define", gpu, parent, "define %s in mdevctl (manual)" % uuid, uuid=uuid)
    ]
