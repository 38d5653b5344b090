# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that vGPUs live on, as systemd has them. One question for all of them."""

from __future__ import annotations

UNITS = ("nvidia-vgpud", "nvidia-vgpu-mgr", "nvidia-vgpu-restore")
_PROPERTIES = {"LoadState": "load", "ActiveState": "active", "Result": "result", "UnitFileState": "enabled"}
_STARTED = "InactiveExitTimestampMonotonic"


def read(ctx, timeout=30):
    """Properties of each unit by its name: load, active, result and enabled, in systemd's own words.

    started: whether it was started since the boot, which tells a one-shot that has ended from one that never ran.
    A unit that is not there has load ``not-found``. Without a running systemd the answer is empty.
    """
    answer = ctx.command(
        ["systemctl", "show", "--no-pager", "--property=Id," + ",".join([*_PROPERTIES, _STARTED])] + [unit + ".service" for unit in UNITS], timeout
    )
    return parse(answer.out) if answer.rc == 0 else {}


def parse(text):
    """What systemctl show prints: blocks of KEY=VALUE with an empty line between them."""
    found = {}
    for block in text.split("\n\n"):
        told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        name = told.get("Id", "")
        if name.endswith(".service"):
            words = {ours: told.get(theirs, "") for theirs, ours in _PROPERTIES.items()}
            found[name[: -len(".service")]] = dict(words, started=told.get(_STARTED, "0") not in ("", "0"))
    return found
