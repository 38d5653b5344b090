# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and updates Proxmox VE's unmounted EFI boot partitions with proxmox-boot-tool."""

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

# The file lists boot partition UUIDs, one per line. If the file exists, the host boots only from the listed partitions.
PARTITIONS = "/etc/kernel/proxmox-boot-uuids"
_PATHS = ("/usr/sbin/proxmox-boot-tool", "/usr/bin/proxmox-boot-tool", "/sbin/proxmox-boot-tool")
_CODE = "bootloader_rebuild_failed"
_OURS = re.compile(r"/vgpu-boot-([0-9]+)-[^/]+\Z")  # a directory that read() created, with the process's PID


@dataclass(eq=False, repr=False)
class Partition:
    """The content of one boot partition. ``texts`` contains grub.cfg and the boot entries, keyed by path on the partition."""

    uuid: str
    texts: Dict[str, str] = field(default_factory=dict)


def has(ctx: Context) -> bool:
    """Returns whether this host boots with proxmox-boot-tool."""
    return ctx.executable(*_PATHS) is not None and bool(uuids(ctx))


def uuids(ctx: Context) -> list[str]:
    """Returns the UUIDs of the boot partitions."""
    return (files.read_text(ctx.root, PARTITIONS) or "").split()


def refresh(ctx: Context, timeout: float) -> None:
    """Writes kernels and configuration to all boot partitions. proxmox-boot-tool unmounts the partitions, which syncs the files."""
    answer = ctx.command(["proxmox-boot-tool", "refresh"], timeout, keeps_lock=True)
    if answer.rc:
        remedy = "Fix the reported error (for example, a full EFI partition), then rerun to repeat the step."
        found = "'proxmox-boot-tool refresh' failed: %s" % (answer.tail() or "rc %d" % answer.rc)
        raise error(found, PARTITIONS, "boot partitions with the new settings", remedy, _CODE)


def read(ctx: Context, timeout: float = 60) -> list[Partition]:
    """Returns the content of each boot partition. An unmounted partition is temporarily mounted read-only."""
    _unmount_left(ctx, timeout)
    found = []
    for uuid in uuids(ctx):
        device = "/dev/disk/by-uuid/" + uuid
        if not os.path.exists(ctx.root + device):
            continue  # the disk is missing, so the host cannot boot from this disk
        mounted = _mounted(ctx, os.path.realpath(ctx.root + device))
        if mounted:
            found.append(_partition(uuid, ctx.root + mounted))
            continue
        directory = tempfile.mkdtemp(prefix="vgpu-boot-%d-" % os.getpid())
        try:
            answer = ctx.command(["mount", "-o", "ro", device, directory], timeout)
            if answer.rc:
                remedy = "Nothing was changed. Find and repair the partition with 'proxmox-boot-tool status', then rerun."
                wrong = "the partition cannot be mounted: %s" % answer.tail()
                raise error(wrong, "boot partition " + uuid, "a partition with GRUB or systemd-boot", remedy, _CODE)
            try:
                found.append(_partition(uuid, directory))
            finally:
                ctx.command(["umount", directory], timeout)
        finally:
            with contextlib.suppress(OSError):  # the directory is still a mount point, which the next reboot unmounts
                os.rmdir(directory)
    return found


def _unmount_left(ctx: Context, timeout: float) -> None:
    """Unmounts partitions that a killed run left mounted read-only.

    proxmox-boot-tool cannot write to partitions that are mounted read-only.
    """
    for dummy, place in _mounts(ctx):
        match = _OURS.search(place)
        if match and not ctx.sysfs.exists("/proc/" + match.group(1)):
            ctx.command(["umount", place], timeout)
            with contextlib.suppress(OSError):
                os.rmdir(place)


def _mounts(ctx: Context) -> list[tuple[str, str]]:
    """Returns the mounted devices and their mount points."""
    lines = [line.split() for line in ctx.sysfs.read_or("/proc/mounts", "").splitlines()]
    return [(words[0], words[1]) for words in lines if len(words) > 1]


def _mounted(ctx: Context, device: str) -> str | None:
    """Returns the mount point of a device, or None."""
    return next((place for one, place in _mounts(ctx) if one == device), None)


def _partition(uuid: str, directory: str) -> Partition:
    """Returns the content of a boot partition that is mounted at a mount point."""
    paths = [*files.names("", directory + "/loader/entries", ".conf"), directory + "/grub/grub.cfg"]
    texts = {path[len(directory):]: files.read_text("", path) for path in paths}
    return Partition(uuid, {path: text for path, text in texts.items() if text is not None})
