# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that boot file edits require a rebuild of the initramfs or the boot loader configuration.

A marker file is written before the first edit. The rebuild is pending until the rebuilt file is newer than the marker file, regardless of which
program rebuilds the file. A rebuild that failed or never started is requested again. A rebuild that the collection started stays pending until the
rebuild succeeds, because a killed rebuild leaves newer files as well, such as an incomplete grub.cfg or partly updated boot entries.
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
    """Records a pending rebuild. Call this function before the edit that requires the rebuild."""
    files.write_atomic(root, _mark(root, kind), "Written by vgpu.kvm: the %s must be rebuilt, unless the rebuilt files are newer than this file.\n" % kind)


def begin(root: str, kind: str) -> None:
    """Records the start of a rebuild. Call this function before starting the rebuild program."""
    files.write_atomic(root, _mark(root, kind), _BEGUN % kind)


def done(root: str, kind: str) -> None:
    """Removes the marker file after a successful rebuild. File times are not sufficient, because rebuilt files can have unknown paths."""
    if os.path.exists(root + _mark(root, kind)):
        files.remove(root, _mark(root, kind))


def read(root: str) -> set[str]:
    """Returns the kinds of pending rebuilds."""
    return {kind for kind in (INITRAMFS, BOOTLOADER) if _is_pending(root, kind)}


def _is_pending(root: str, kind: str) -> bool:
    marked = _times(root, [_mark(root, kind)])
    if not marked:
        return False
    if files.read_text(root, _mark(root, kind)) == _BEGUN % kind:
        return True
    made = _times(root, _images(root) if kind == INITRAMFS else _LOADER_FILES + files.names(root, "/boot/loader/entries", ".conf"))
    if not made:
        return False  # without known boot files, the collection does not manage the host's boot process
    return (min(made) if kind == INITRAMFS else max(made)) <= marked[0]


def _images(root: str) -> list[str]:
    """Returns the initramfs path for each kernel that has a module directory. Rescue images, which are never rebuilt, are omitted."""
    images = [(path, _IMAGE.match(os.path.basename(path))) for path in files.names(root, "/boot")]
    return [path for path, match in images if match and os.path.isdir("%s/lib/modules/%s" % (root, match["debian"] or match["redhat"]))]


def _times(root: str, paths: list[str]) -> list[int]:
    """Returns the modification times of the existing files in nanoseconds."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(root + path).st_mtime_ns)
        except OSError:
            pass  # the file is missing or not accessible
    return found
