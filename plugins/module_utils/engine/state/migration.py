# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrates a host from an earlier release, which used other names for the command, the unit, and directories.

If a run is killed at any point, the next boot still restores the vGPUs:
* The engine uses an old directory as long as it exists, so no file ever has two versions. When the old unit, which needs the directory, is removed, a
  single rename moves the directory to the new path. The new command and the new unit work with both paths.
* The engine removes the old unit when it enables the new unit. If the host boots before the removal, both units run in order, and the second unit makes no
  changes.

Delete this module and its imports when no host with an earlier release remains.
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
# The earlier release's metrics service, which calls the old command until the metrics role replaces the service.
OLD_METRICS = "/etc/systemd/system/nvidia-vgpu-metrics.service"
# The host_driver role's files. Other programs may also store files in the same directory.
OLD_CACHE = "/var/cache/nvidia-vgpu"
_OURS = OLD_CACHE + "/vgpu-driver"
# Old and new directories in the order of renaming: operators' drop-ins for the unit, the layout, and the state.
DIRECTORIES = (
    (OLD_UNIT + ".d", UNIT + ".d"),
    ("/etc/nvidia-vgpu", "/etc/vgpuctl"),
    ("/var/lib/nvidia-vgpu", "/var/lib/vgpuctl"),
)
_OLD_NAME, _NAME = "nvidia-vgpu-restore", "vgpu-restore"


def current(root: str, path: str) -> str:
    """Returns the current path of a collection file or directory on this host. ``path`` is the new path."""
    for old, new in DIRECTORIES:
        if (path + "/").startswith(new + "/") and _is_there(root, old, new):
            return old + path[len(new):]
    return path


def _is_there(root: str, old: str, new: str) -> bool:
    """Returns whether an old directory exists. A link to the new directory is ignored, because an operator created the link."""
    return os.path.isdir(root + old) and os.path.realpath(root + old) != os.path.realpath(root + new)


def services(ctx: Context, timeout: float = 30) -> systemd.Units:
    """Returns the services that vGPUs require, as reported by systemd.read, with the old unit until the new unit is enabled."""
    units = systemd.read(ctx, timeout, (*systemd.UNITS, _OLD_NAME))
    old = units.pop(_OLD_NAME, {})
    if old.get("enabled") == "enabled" and units.get(_NAME, {}).get("enabled") != "enabled":
        units[_NAME] = old
    return units


def plan(root: str, present: bool) -> list[Step]:
    """Returns the steps that move existing files and directories to the new paths.

    The caller must first write the new command and unit or, if ``present`` is False, remove both.
    """
    raise_if_any(
        Refusal(
            "both this directory and %s exist, because an earlier release of this collection ran on this host after a later release" % new, old,
            "only one of the directories",
            "Compare the directories, remove the outdated directory, and update the collection on each controller. Then rerun.", "two_directories",
        )
        for old, new in DIRECTORIES
        if _is_there(root, old, new) and files.names(root, new)
    )
    return list(_steps(root, present))


def _steps(root: str, present: bool) -> Iterator[Step]:
    enabled = os.path.lexists(root + OLD_UNIT_LINK)
    if present and enabled and not os.path.lexists(root + UNIT_LINK):
        yield Step("enable", None, UNIT, "enable the unit, because %s was enabled" % os.path.basename(OLD_UNIT))
    if enabled or os.path.lexists(root + OLD_UNIT):
        yield Step("retire", None, OLD_UNIT, "disable and remove the old unit")
    if present and os.path.lexists(root + OLD_METRICS):
        if not os.path.islink(root + OLD_COMMAND):
            text = "replace the old command with a link to %s until the metrics role replaces the old timer"
            yield Step("link", None, OLD_COMMAND, text % os.path.basename(COMMAND))
    elif os.path.lexists(root + OLD_COMMAND):
        yield Step("delete", None, OLD_COMMAND, "remove the old command")
    for old, new in DIRECTORIES:
        if _is_there(root, old, new):
            yield Step("rename", None, old, "rename the directory to %s" % new, to=new)
    if present and os.path.basename(OLD_UNIT).encode() in (files.read_bytes(root, current(root, STORE)) or b""):
        yield Step("reword", None, STORE, "update the unit name in the comment to %s" % os.path.basename(UNIT))
    if os.path.isdir(root + _OURS) or os.path.isdir(root + OLD_CACHE) and not files.names(root, OLD_CACHE):
        yield Step("cache", None, OLD_CACHE, "remove the old cache")


def stop(ctx: Context, steps: list[Step]) -> None:
    """Stops the unit that the steps remove, because systemd keeps active units in memory. vGPUs remain, because the unit is one-shot."""
    if any(step.kind == "retire" for step in steps):
        ctx.command(["systemctl", "stop", os.path.basename(OLD_UNIT)], 30)


def perform(root: str, step: Step) -> None:
    """Performs one migration step."""
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
