# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel the next boot starts, and whether NVIDIA's module is there for it: a kernel update alone takes the driver away.

GRUB's default is worked out where it is the usual one: the newest kernel (Debian, Ubuntu: ``GRUB_DEFAULT=0``; Red Hat: the saved entry, which
a kernel's installation sets). Anything else is not guessed at.
"""

from __future__ import annotations

import os
import re

from . import files

_GRUB = "/etc/default/grub"
_ENTRIES = "/boot/loader/entries"
_ENVIRONMENTS = ("/boot/grub2/grubenv", "/boot/grub/grubenv")


class NextKernel:
    """release: as uname -r will tell, None where it is not known; driver: version of its module nvidia, None if it has none."""

    def __init__(self, release=None, driver=None):
        self.release = release
        self.driver = driver

    def as_dict(self):
        """For a module's result."""
        return {"release": self.release, "driver": self.driver}


def read(ctx, running, on_disk, timeout=30):
    """Reads it. running, on_disk: the running kernel's release, and the version of its module."""
    release = _entry(ctx.root) if os.path.isdir(ctx.root + _ENTRIES) and files.names(ctx.root, _ENTRIES, ".conf") else _newest(ctx.root)
    if release is None or release == running:
        return NextKernel(release, on_disk if release else None)
    answer = ctx.command(["modinfo", "-k", release, "-F", "version", "nvidia"], timeout)
    return NextKernel(release, answer.out.strip() or None if answer.rc == 0 else None)


def order(release):
    """A key that sorts releases as GRUB does: numbers by their value."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", release) if part]


def _bootable(root):
    """Releases that have a kernel and modules."""
    found = [os.path.basename(path)[len("vmlinuz-"):] for path in files.names(root, "/boot") if os.path.basename(path).startswith("vmlinuz-")]
    return [release for release in found if os.path.isdir("%s/lib/modules/%s" % (root, release)) and "rescue" not in release]


def _newest(root):
    """The newest kernel, where GRUB takes that."""
    match = re.search(r"^\s*GRUB_DEFAULT=[\"']?([^\"'\n]*?)[\"']?\s*$", files.read_text(root, _GRUB) or "", re.MULTILINE)
    if match and match.group(1) not in ("0", ""):
        return None
    return max(_bootable(root), key=order, default=None)


def _entry(root):
    """The kernel of the saved entry of Red Hat's family; of the newest one, where none is saved."""
    versions = {}
    for path in files.names(root, _ENTRIES, ".conf"):
        match = re.search(r"^version\s+(\S+)", files.read_text(root, path) or "", re.MULTILINE)
        if match and "rescue" not in match.group(1):
            versions[os.path.basename(path)[: -len(".conf")]] = match.group(1)
    for path in _ENVIRONMENTS:
        match = re.search(r"^saved_entry=(.*)$", files.read_text(root, path) or "", re.MULTILINE)
        if match and match.group(1).strip():
            return versions.get(match.group(1).strip())
    return max(versions.values(), key=order, default=None)
