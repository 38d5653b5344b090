# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""proxmox-boot-tool: the EFI partitions that Proxmox VE boots from, which are not mounted."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass, field
from typing import Dict

from ..base.errors import error
from . import files
from .context import Context

# The partitions, one UUID a line. Where this file is, the boot goes by those partitions alone.
PARTITIONS = "/etc/kernel/proxmox-boot-uuids"
_PATHS = ("/usr/sbin/proxmox-boot-tool", "/usr/bin/proxmox-boot-tool", "/sbin/proxmox-boot-tool")
_CODE = "bootloader_rebuild_failed"
_OURS = re.compile(r"/vgpu-boot-([0-9]+)-[^/]+\Z")  # a directory of read(), with the pid of who made it


@dataclass(eq=False, repr=False)
class Partition:
    """What is on one of the partitions. texts: of grub.cfg and of entries, by their path there."""

    uuid: str
    texts: Dict[str, str] = field(default_factory=dict)


def has(ctx: Context) -> bool:
    """Whether this host boots by it."""
    return ctx.executable(*_PATHS) is not None and bool(uuids(ctx))


def uuids(ctx: Context) -> list[str]:
    """The partitions' UUIDs."""
    return (files.read_text(ctx.root, PARTITIONS) or "").split()


def refresh(ctx: Context, timeout: float) -> None:
    """Writes kernels and configuration to all partitions; it mounts and unmounts them, which syncs."""
    answer = ctx.command(["proxmox-boot-tool", "refresh"], timeout, keeps_lock=True)
    if answer.rc:
        remedy = "Fix what it reports (space on the EFI partitions), then run this again: it is repeated."
        found = "'proxmox-boot-tool refresh' failed: %s" % (answer.tail() or "rc %d" % answer.rc)
        raise error(found, PARTITIONS, "boot partitions with the settings that were written", remedy, _CODE)


def read(ctx: Context, timeout: float = 60) -> list[Partition]:
    """What is on each partition; one that is not mounted is mounted read-only for this."""
    _unmount_left(ctx, timeout)
    found = []
    for uuid in uuids(ctx):
        device = "/dev/disk/by-uuid/" + uuid
        if not os.path.exists(ctx.root + device):
            continue  # of a disk that is gone: nothing boots from it
        mounted = _mounted(ctx, os.path.realpath(ctx.root + device))
        if mounted:
            found.append(_partition(uuid, ctx.root + mounted))
            continue
        directory = tempfile.mkdtemp(prefix="vgpu-boot-%d-" % os.getpid())
        try:
            answer = ctx.command(["mount", "-o", "ro", device, directory], timeout)
            if answer.rc:
                remedy = "Check 'proxmox-boot-tool status'. Nothing was changed."
                raise error("it can't be mounted: %s" % answer.tail(), "boot partition " + uuid, "a partition with GRUB or systemd-boot", remedy, _CODE)
            try:
                found.append(_partition(uuid, directory))
            finally:
                ctx.command(["umount", directory], timeout)
        finally:
            with contextlib.suppress(OSError):  # still mounted: a reboot ends that
                os.rmdir(directory)
    return found


def _unmount_left(ctx: Context, timeout: float) -> None:
    """Unmounts what a killed run of ours left mounted read-only: the kernel mounts it for nobody's writing then, so no refresh would reach it."""
    for dummy, place in _mounts(ctx):
        match = _OURS.search(place)
        if match and not ctx.sysfs.exists("/proc/" + match.group(1)):
            ctx.command(["umount", place], timeout)
            with contextlib.suppress(OSError):
                os.rmdir(place)


def _mounts(ctx: Context) -> list[tuple[str, str]]:
    """Devices, and where they are mounted."""
    lines = [line.split() for line in ctx.sysfs.read_or("/proc/mounts", "").splitlines()]
    return [(words[0], words[1]) for words in lines if len(words) > 1]


def _mounted(ctx: Context, device: str) -> str | None:
    """Where a device is mounted, or None."""
    return next((place for one, place in _mounts(ctx) if one == device), None)


def _partition(uuid: str, directory: str) -> Partition:
    """What lies below a mount point."""
    paths = [*files.names("", directory + "/loader/entries", ".conf"), directory + "/grub/grub.cfg"]
    texts = {path[len(directory):]: files.read_text("", path) for path in paths}
    return Partition(uuid, {path: text for path, text in texts.items() if text is not None})
