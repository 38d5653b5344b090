# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that the initramfs or the boot loader's configuration must be rebuilt after an edit of boot files.

A mark is written before the first edit. The rebuild is pending until the rebuilt file is newer than the mark, regardless of which program rebuilds
the file. A rebuild that failed or never began is requested again. A rebuild that the collection began stays pending until it succeeds. A killed
program also leaves new files, but grub.cfg is then incomplete, or some of grubby's entries are old.
"""

from __future__ import annotations

import os
import re

from ..state import migration
from ..state.paths import STATE
from ..system import files

INITRAMFS = "initramfs"
BOOTLOADER = "bootloader"
_LOADER_FILES = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"]
_BEGUN = "Written by vgpu.kvm: the %s is being rebuilt. Until that has ended well, its files don't count.\n"
_IMAGE = re.compile(r"^(?:initrd\.img-(?P<debian>.+)|initramfs-(?P<redhat>.+)\.img)$")


def _mark(root: str, kind: str) -> str:
    return migration.current(root, "%s/%s-due" % (STATE, kind))


def mark(root: str, kind: str) -> None:
    """Records that a rebuild is pending. Callers use this function before the edit that requires the rebuild."""
    files.write_atomic(root, _mark(root, kind), "Written by vgpu.kvm: the %s must be rebuilt. If it is newer than this file, it has been.\n" % kind)


def begin(root: str, kind: str) -> None:
    """Records that a rebuild begins. Callers use this function before they start the program that rebuilds the files."""
    files.write_atomic(root, _mark(root, kind), _BEGUN % kind)


def done(root: str, kind: str) -> None:
    """Drops the mark after a successful rebuild. The files' times are not sufficient, because the rebuilt files may have unknown paths."""
    if os.path.exists(root + _mark(root, kind)):
        files.remove(root, _mark(root, kind))


def read(root: str) -> set[str]:
    """Returns the kinds of rebuilds that are pending."""
    return {kind for kind in (INITRAMFS, BOOTLOADER) if _is_pending(root, kind)}


def _is_pending(root: str, kind: str) -> bool:
    marked = _times(root, [_mark(root, kind)])
    if not marked:
        return False
    if files.read_text(root, _mark(root, kind)) == _BEGUN % kind:
        return True
    made = _times(root, _images(root) if kind == INITRAMFS else _LOADER_FILES + files.names(root, "/boot/loader/entries", ".conf"))
    if not made:
        return False  # the host has no known file, so it boots in a way that this collection does not manage
    return (min(made) if kind == INITRAMFS else max(made)) <= marked[0]


def _images(root: str) -> list[str]:
    """Returns the path of each initramfs whose kernel has modules. Rescue images are omitted, because they are never rebuilt."""
    images = [(path, _IMAGE.match(os.path.basename(path))) for path in files.names(root, "/boot")]
    return [path for path, match in images if match and os.path.isdir("%s/lib/modules/%s" % (root, match["debian"] or match["redhat"]))]


def _times(root: str, paths: list[str]) -> list[int]:
    """Returns the modification times of the files in nanoseconds. Missing files are omitted."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(root + path).st_mtime_ns)
        except OSError:
            pass  # the file is missing or not accessible
    return found
