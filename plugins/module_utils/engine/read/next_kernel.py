# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Determines the next boot's kernel and kernel flags, and whether the NVIDIA module exists for this kernel. Without DKMS, a new kernel has no module.

In common configurations, GRUB starts the newest kernel on Debian and Ubuntu (``GRUB_DEFAULT=0``). On Red Hat, GRUB starts the saved entry, which a
kernel installation sets. For other configurations and unsupported boot loaders, the next kernel is unknown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Sequence

from ..state.paths import GRUB, GRUB_DIRECTORY, LOADERS
from ..system import files, modinfo, proxmox_boot_tool
from ..system.context import Context
from . import boot_entries
from .boot_entries import BLS, Entry
from .boot_loader import REFIND, SYSTEMD_BOOT, ZFSBOOTMENU


@dataclass(eq=False, repr=False)
class NextKernel:
    """The kernel for the next boot. Unknown values are None.

    ``release`` is in 'uname -r' format. ``driver`` is the version of the nvidia module for the kernel, or None. ``cmdline`` contains the kernel
    flags.
    """

    release: str | None = None
    driver: str | None = None
    cmdline: list[str] | None = None


@dataclass(eq=False, repr=False)
class Running:
    """The running kernel's release, the nvidia module version, and the boot loader that started the kernel."""

    release: str | None
    driver: str | None
    loader: str


def read(ctx: Context, running: Running, timeout: float = 30) -> NextKernel:
    """Returns the kernel for the next boot, with the driver version and kernel flags."""
    entry = _entry(ctx, running.loader)
    if entry is None or not entry.release:
        return NextKernel()
    # Proxmox stores boot entries on unmounted partitions, so the kernel flags are unknown.
    cmdline = None if proxmox_boot_tool.uuids(ctx) else entry.cmdline
    if entry.release == running.release:
        return NextKernel(entry.release, running.driver, cmdline)
    return NextKernel(entry.release, modinfo.field(ctx, "version", timeout, entry.release) or None, cmdline)


def _entry(ctx: Context, loader: str) -> Entry | None:
    """Returns the boot entry for the next boot, or None if unknown."""
    root = ctx.root
    if loader in (REFIND, ZFSBOOTMENU):
        return None
    if loader == SYSTEMD_BOOT:
        entries = [one for place in LOADERS for one in boot_entries.read_bls(root, place + "/entries", {})]
        return newest(boot_entries.systemd_boot_default(ctx, entries))
    if files.names(root, BLS, ".conf"):
        return newest(default_of_bls(root, boot_entries.read_bls(root, BLS, boot_entries.environment(root))))
    release = _newest(root)
    if release is None:
        return None
    known = [one for one in of_grub(root) if one.release == release]
    return known[0] if known else Entry(release, "", 0, release, None)


def newest(entries: Sequence[Entry]) -> Entry | None:
    """Returns the boot entry with the newest kernel, or None if no entries exist."""
    return max(entries, key=lambda one: order(one.release)) if entries else None


def order(release: str) -> list[tuple[int, int, str]]:
    """Returns a sort key for kernel releases that compares numbers by value, like GRUB."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", release) if part]


def of_grub(root: str) -> list[Entry]:
    """Returns the entries in GRUB's configuration."""
    return [entry for path in boot_entries.CONFIGS for entry in boot_entries.of_grub(path, files.read_text(root, path) or "")]


def default_of_grub(ctx: Context) -> list[Entry]:
    """Returns the entries in GRUB's configuration that might boot next.

    With the common default, the result is one entry. Otherwise, the result contains all of this system's entries.
    """
    release = _newest(ctx.root)
    entries = of_grub(ctx.root)
    return [one for one in entries if one.release == release][:1] or boot_entries.of_this_system(ctx, entries)


def default_of_bls(root: str, entries: Sequence[Entry]) -> list[Entry]:
    """Returns the saved boot entry on the Red Hat family, or the newest entry if no entry is saved.

    The result is empty if the saved entry does not exist.
    """
    normal = [one for one in entries if "rescue" not in one.release]
    variables = boot_entries.environment(root)
    saved = variables.get("next_entry") or variables.get("saved_entry")
    if saved:
        return [one for one in normal if one.name == saved]
    last = newest(normal)
    return [last] if last else []


def _newest(root: str) -> str | None:
    """Returns the newest kernel that has modules, or None if GRUB's default might be another kernel."""
    # Drop-in files also count, because Proxmox uses a drop-in file to pin a kernel.
    texts = "\n".join(files.read_text(root, path) or "" for path in [GRUB, *files.names(root, GRUB_DIRECTORY, ".cfg")])
    defaults = re.findall(r"^\s*GRUB_(?:DEFAULT|TOP_LEVEL)=[\"']?([^\"'\n]*?)[\"']?\s*$", texts, re.MULTILINE)
    if set(defaults) - {"0", ""} or boot_entries.environment(root).get("next_entry"):
        return None
    kernels = [path[len("/boot/vmlinuz-"):] for path in files.names(root, "/boot") if path.startswith("/boot/vmlinuz-")]
    bootable = [release for release in kernels if os.path.isdir("%s/lib/modules/%s" % (root, release)) and "rescue" not in release]
    return max(bootable, key=order) if bootable else None
