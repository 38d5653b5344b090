# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrates a host from an earlier release, which used other names for the command, the unit and directories.

The next boot restores the vGPUs, even if a run was killed at any point:
* An old directory is used as long as it exists, so no file ever has two versions. When the old unit, which needs the directory, is removed,
  a single rename moves the directory to the new path. The new command and the new unit work with both paths.
* The old unit is removed when the new unit is enabled. A boot in between runs both units in order, and the second unit changes nothing.

This module and its imports can be deleted when no such host is left.
"""

from __future__ import annotations

import os
from typing import Iterator

from ..base.errors import Refusal, raise_if_any
from ..base.steps import Step
from ..system import files, systemd
from ..system.context import Context
from .paths import COMMAND, STORE, UNIT, UNIT_LINK

OLD_STORE = "/etc/nvidia-vgpu/layout.json"
OLD_COMMAND = "/usr/local/sbin/nvidia-vgpu"
OLD_UNIT = "/etc/systemd/system/nvidia-vgpu-restore.service"
OLD_UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/nvidia-vgpu-restore.service"
# The metrics service of the earlier release. The service calls the old command until the role metrics replaces it.
OLD_METRICS = "/etc/systemd/system/nvidia-vgpu-metrics.service"
# The files of the role host_driver. Their directory may also contain files of other programs.
OLD_CACHE = "/var/cache/nvidia-vgpu"
_OURS = OLD_CACHE + "/vgpu-driver"
# Old and new directories in the order of renaming: drop-ins that operators wrote for the unit, the layout, and the state.
DIRECTORIES = (
    (OLD_UNIT + ".d", UNIT + ".d"),
    ("/etc/nvidia-vgpu", "/etc/vgpuctl"),
    ("/var/lib/nvidia-vgpu", "/var/lib/vgpuctl"),
)
_OLD_NAME, _NAME = "nvidia-vgpu-restore", "vgpu-restore"


def current(root: str, path: str) -> str:
    """Returns the current path of one of the collection's files or directories on this host. ``path`` is the new path."""
    for old, new in DIRECTORIES:
        if (path + "/").startswith(new + "/") and _is_there(root, old, new):
            return old + path[len(new):]
    return path


def _is_there(root: str, old: str, new: str) -> bool:
    """Returns whether an old directory exists. A link to the new directory does not count, because an operator created the link."""
    return os.path.isdir(root + old) and os.path.realpath(root + old) != os.path.realpath(root + new)


def services(ctx: Context, timeout: float = 30) -> systemd.Units:
    """Returns the services that vGPUs require, from systemd.read. Until the new unit is enabled, the old unit represents it."""
    units = systemd.read(ctx, timeout, (*systemd.UNITS, _OLD_NAME))
    old = units.pop(_OLD_NAME, {})
    if old.get("enabled") == "enabled" and units.get(_NAME, {}).get("enabled") != "enabled":
        units[_NAME] = old
    return units


def plan(root: str, present: bool) -> list[Step]:
    """Returns the steps that rename existing paths.

    The new command and unit must have been written before or, if ``present`` is False, removed.
    """
    raise_if_any(
        Refusal(
            "both this directory and %s exist" % new, old, "one of them: an earlier release of this collection ran on this host after a newer one",
            "Compare both directories, remove the outdated one, and update the collection on each controller. Then run again.", "two_directories",
        )
        for old, new in DIRECTORIES
        if _is_there(root, old, new) and files.names(root, new)
    )
    return list(_steps(root, present))


def _steps(root: str, present: bool) -> Iterator[Step]:
    enabled = os.path.lexists(root + OLD_UNIT_LINK)
    if present and enabled and not os.path.lexists(root + UNIT_LINK):
        yield Step("enable", None, UNIT, "enable it, as %s was" % os.path.basename(OLD_UNIT))
    if enabled or os.path.lexists(root + OLD_UNIT):
        yield Step("retire", None, OLD_UNIT, "disable and remove the old unit")
    if present and os.path.lexists(root + OLD_METRICS):
        if not os.path.islink(root + OLD_COMMAND):
            text = "replace the old command with a link to %s until the role metrics replaces its old timer"
            yield Step("link", None, OLD_COMMAND, text % os.path.basename(COMMAND))
    elif os.path.lexists(root + OLD_COMMAND):
        yield Step("delete", None, OLD_COMMAND, "remove it")
    for old, new in DIRECTORIES:
        if _is_there(root, old, new):
            yield Step("rename", None, old, "rename it to %s" % new, to=new)
    if present and os.path.basename(OLD_UNIT).encode() in (files.read_bytes(root, current(root, STORE)) or b""):
        yield Step("reword", None, STORE, "update its comment, which names the unit %s" % os.path.basename(UNIT))
    if os.path.isdir(root + _OURS) or os.path.isdir(root + OLD_CACHE) and not files.names(root, OLD_CACHE):
        yield Step("cache", None, OLD_CACHE, "remove it")


def stop(ctx: Context, steps: list[Step]) -> None:
    """Stops the unit that the steps remove, because systemd keeps active units in memory. The vGPUs stay, because the unit is a one-shot unit."""
    if any(step.kind == "retire" for step in steps):
        ctx.command(["systemctl", "stop", os.path.basename(OLD_UNIT)], 30)


def perform(root: str, step: Step) -> None:
    """Performs one step of the migration."""
    if step.kind == "enable":
        files.link(root, UNIT_LINK, UNIT)
    elif step.kind == "retire":
        files.remove(root, OLD_UNIT_LINK)
        files.remove(root, OLD_UNIT)
    elif step.kind == "link":
        files.remove(root, OLD_COMMAND)
        files.link(root, OLD_COMMAND, os.path.basename(COMMAND))
    elif step.kind == "reword":
        text = files.read_text(root, STORE) or ""
        files.write_atomic(root, STORE, text.replace(os.path.basename(OLD_UNIT), os.path.basename(UNIT)))
    elif step.kind == "cache":
        files.remove_tree(root, _OURS)
        files.remove_empty(root, OLD_CACHE)
    else:
        files.rename(root, str(step.device), step.args["to"])
