# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the state of the services that vGPUs require, in one systemctl call."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from .context import Context

# Maps unit names to unit properties.
Units = Dict[str, Dict[str, Any]]

UNITS = ("nvidia-vgpud", "nvidia-vgpu-mgr", "vgpu-restore")
_PROPERTIES = {"LoadState": "load", "ActiveState": "active", "Result": "result", "UnitFileState": "enabled"}
_STARTED = "InactiveExitTimestampMonotonic"  # distinguishes a finished one-shot unit from a unit that never ran


def read(ctx: Context, timeout: float = 30, units: Sequence[str] = UNITS) -> Units:
    """Returns each unit's properties, or an empty dictionary on a host without systemd.

    The properties are load (not-found if the unit does not exist), active, result, enabled, and started (in the current boot).
    """
    properties = ",".join(["Id", *_PROPERTIES, _STARTED])
    answer = ctx.command(["systemctl", "show", "--no-pager", "--property=" + properties] + [unit + ".service" for unit in units], timeout)
    found: Units = {}
    for block in answer.out.split("\n\n") if answer.rc == 0 else ():
        shown = {key: value for key, mark, value in (line.partition("=") for line in block.splitlines()) if mark}
        name = shown.get("Id", "")
        if name.endswith(".service"):
            words = {ours: shown.get(theirs, "") for theirs, ours in _PROPERTIES.items()}
            found[name[: -len(".service")]] = dict(words, started=shown.get(_STARTED, "0") not in ("", "0"))
    return found
