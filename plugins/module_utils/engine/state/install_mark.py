# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is more than one file's: marked before it begins, so that the next run knows when it was broken off.

An installer leaves many files, and a power cut may take the content of any of them. (What others make from
files that we edit, the initramfs and GRUB's configuration, is due.py's matter.)
"""

from __future__ import annotations

import os

from ..system import files
from .paths import STATE as FOLDER

DRIVER = FOLDER + "/driver-installation"

# Where installers write; each may be a file system of its own.
_PLACES = ("/lib/modules", "/usr", "/etc", "/var/lib", "/boot")


def begin(root, mark):
    """Says that the work begins; lasts over a power cut."""
    files.write_atomic(root, mark, "Written by vgpu.kvm.\n")


def end(ctx, mark, timeout=300):
    """Brings what was written to the disk, then says that it is done."""
    files.bring_to_disk(ctx, [place for place in _PLACES if os.path.isdir(ctx.root + place)], mark, timeout)
    files.remove(ctx.root, mark)


def is_open(root, mark):
    """Whether the work was begun and not ended."""
    return os.path.exists(root + mark)
