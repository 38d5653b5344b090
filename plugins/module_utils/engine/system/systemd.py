# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that vGPUs live on, as systemd reports them. One call for all of them."""

from __future__ import annotations

from typing import Any, Dict

from .context import Context

# Properties of units by their names.
Units = Dict[str, Dict[str, Any]]

UNITS = ("nvidia-vgpud", "nvidia-vgpu-mgr", "nvidia-vgpu-restore")
_PROPERTIES = {"LoadState": "load", "ActiveState": "active", "Result": "result", "UnitFileState": "enabled"}
_STARTED = "InactiveExitTimestampMonotonic"


def read(ctx: Context, timeout: float = 30) -> Units:
    """Properties of each unit by its name: load, active, result and enabled, in systemd's own words.

    started: whether it was started since the boot, which distinguishes a one-shot that has ended from one that never ran.
    A unit that is not there has load ``not-found``. Without a running systemd the answer is empty.
    """
    properties = ",".join(["Id", *_PROPERTIES, _STARTED])
    answer = ctx.command(["systemctl", "show", "--no-pager", "--property=" + properties] + [unit + ".service" for unit in UNITS], timeout)
    return parse(answer.out) if answer.rc == 0 else {}


def parse(text: str) -> Units:
    """What systemctl show prints: blocks of KEY=VALUE with an empty line between them."""
    found: Units = {}
    for block in text.split("\n\n"):
        shown = {key: value for key, mark, value in (line.partition("=") for line in block.splitlines()) if mark}
        name = shown.get("Id", "")
        if name.endswith(".service"):
            words = {ours: shown.get(theirs, "") for theirs, ours in _PROPERTIES.items()}
            found[name[: -len(".service")]] = dict(words, started=shown.get(_STARTED, "0") not in ("", "0"))
    return found
