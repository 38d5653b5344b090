# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel the next boot starts, with which flags, and whether NVIDIA's module is there for it: without DKMS, a kernel update leaves none.

GRUB's default is determined where it is the usual one: the newest kernel (Debian, Ubuntu: ``GRUB_DEFAULT=0``; Red Hat: the saved entry, which
a kernel's installation sets). Anything else stays unknown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ..state.paths import GRUB
from ..system import files, modinfo
from ..system.context import Context

_ENTRIES = "/boot/loader/entries"
_CONFIGS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_LINUX = re.compile(r"^[ \t]+linux(?:16|efi)?[ \t]+\S*?vmlinuz-(\S+)[ \t]*(.*)$", re.MULTILINE)
_ENVIRONMENTS = ("/boot/grub2/grubenv", "/boot/grub/grubenv")


@dataclass(eq=False, repr=False)
class NextKernel:
    """release: as uname -r will print it; driver: version of its module nvidia, None if it has none; cmdline: its flags. None where not known."""

    release: str | None = None
    driver: str | None = None
    cmdline: list[str] | None = None


def read(ctx: Context, running: str | None, on_disk: str | None, timeout: float = 30) -> NextKernel:
    """Reads it. running, on_disk: the running kernel's release, and the version of its module."""
    if files.names(ctx.root, _ENTRIES, ".conf"):
        release, cmdline = _entry(ctx.root)
    else:
        release = _newest(ctx.root)
        cmdline = _flags(ctx.root, release) if release else None
    if release is None or release == running:
        return NextKernel(release, on_disk if release else None, cmdline)
    return NextKernel(release, modinfo.field(ctx, "version", timeout, release) or None, cmdline)


def order(release: str) -> list[tuple[int, int, str]]:
    """A key that sorts releases as GRUB does: numbers by their value."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", release) if part]


def _newest(root: str) -> str | None:
    """The newest kernel that has modules, where GRUB takes that."""
    match = re.search(r"^\s*GRUB_DEFAULT=[\"']?([^\"'\n]*?)[\"']?\s*$", files.read_text(root, GRUB) or "", re.MULTILINE)
    if match and match.group(1) not in ("0", ""):
        return None
    kernels = [path[len("/boot/vmlinuz-"):] for path in files.names(root, "/boot") if path.startswith("/boot/vmlinuz-")]
    bootable = [release for release in kernels if os.path.isdir("%s/lib/modules/%s" % (root, release)) and "rescue" not in release]
    return max(bootable, key=order) if bootable else None


def _flags(root: str, release: str) -> list[str] | None:
    """Flags of the first entry of GRUB's configuration that starts this kernel."""
    for path in _CONFIGS:
        for match in _LINUX.finditer(files.read_text(root, path) or ""):
            if match.group(1) == release:
                return match.group(2).split()
    return None


def _entry(root: str) -> tuple[str | None, list[str] | None]:
    """Kernel and flags of the saved entry of Red Hat's family; of the newest one, where none is saved."""
    entries: dict[str, tuple[str, str]] = {}  # release and text
    for path in files.names(root, _ENTRIES, ".conf"):
        text = files.read_text(root, path) or ""
        match = re.search(r"^version\s+(\S+)", text, re.MULTILINE)
        if match and "rescue" not in match.group(1):
            entries[os.path.basename(path)[: -len(".conf")]] = match.group(1), text
    newest = max(entries, key=lambda one: order(entries[one][0]), default="")
    name = _saved(root) or newest
    if name not in entries:
        return None, None
    release, text = entries[name]
    match = re.search(r"^options[ \t]+(.*)$", text, re.MULTILINE)
    # What GRUB puts in for a variable stays unknown.
    return release, match.group(1).split() if match and "$" not in match.group(1) else None


def _saved(root: str) -> str | None:
    """The name of the saved entry, or None."""
    for path in _ENVIRONMENTS:
        match = re.search(r"^saved_entry=(.*)$", files.read_text(root, path) or "", re.MULTILINE)
        if match and match.group(1).strip():
            return match.group(1).strip()
    return None
