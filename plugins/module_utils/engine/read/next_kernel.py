# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel the next boot starts, with which flags, and whether NVIDIA's module is there for it: a kernel update alone takes the driver away.

GRUB's default is worked out where it is the usual one: the newest kernel (Debian, Ubuntu: ``GRUB_DEFAULT=0``; Red Hat: the saved entry, which
a kernel's installation sets). Anything else is not guessed at.
"""

from __future__ import annotations

import os
import re

from ..system import files

_GRUB = "/etc/default/grub"
_ENTRIES = "/boot/loader/entries"
_CONFIGS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_LINUX = re.compile(r"^[ \t]+linux(?:16|efi)?[ \t]+\S*?vmlinuz-(\S+)[ \t]*(.*)$", re.MULTILINE)
_ENVIRONMENTS = ("/boot/grub2/grubenv", "/boot/grub/grubenv")


class NextKernel:
    """release: as uname -r will tell, None where it is not known; driver: version of its module nvidia, None if it has none.

    cmdline: its flags, None where they are not known.
    """

    def __init__(self, release=None, driver=None, cmdline=None):
        self.release = release
        self.driver = driver
        self.cmdline = cmdline

    def as_dict(self):
        """For a module's result."""
        return {"release": self.release, "driver": self.driver, "cmdline": self.cmdline}


def read(ctx, running, on_disk, timeout=30):
    """Reads it. running, on_disk: the running kernel's release, and the version of its module."""
    if files.names(ctx.root, _ENTRIES, ".conf"):
        release, cmdline = _entry(ctx.root)
    else:
        release = _newest(ctx.root)
        cmdline = _flags(ctx.root, release) if release else None
    if release is None or release == running:
        return NextKernel(release, on_disk if release else None, cmdline)
    answer = ctx.command(["modinfo", "-k", release, "-F", "version", "nvidia"], timeout)
    return NextKernel(release, answer.out.strip() or None if answer.rc == 0 else None, cmdline)


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


def _flags(root, release):
    """Flags of the first entry of GRUB's configuration that starts this kernel."""
    for path in _CONFIGS:
        for found, flags in _LINUX.findall(files.read_text(root, path) or ""):
            if found == release:
                return flags.split()
    return None


def _entry(root):
    """Kernel and flags of the saved entry of Red Hat's family; of the newest one, where none is saved."""
    versions, texts = {}, {}
    for path in files.names(root, _ENTRIES, ".conf"):
        text = files.read_text(root, path) or ""
        match = re.search(r"^version\s+(\S+)", text, re.MULTILINE)
        if match and "rescue" not in match.group(1):
            name = os.path.basename(path)[: -len(".conf")]
            versions[name], texts[name] = match.group(1), text
    name = _saved(root) or max(versions, key=lambda one: order(versions[one]), default=None)
    if name not in versions:
        return None, None
    match = re.search(r"^options[ \t]+(.*)$", texts[name], re.MULTILINE)
    # What GRUB puts in for a variable is not worked out.
    return versions[name], match.group(1).split() if match and "$" not in match.group(1) else None


def _saved(root):
    """The name of the saved entry, or None."""
    for path in _ENVIRONMENTS:
        match = re.search(r"^saved_entry=(.*)$", files.read_text(root, path) or "", re.MULTILINE)
        if match and match.group(1).strip():
            return match.group(1).strip()
    return None
