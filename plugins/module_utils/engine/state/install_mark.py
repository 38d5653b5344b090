# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mark that an installer is at work: it leaves many files, and a power cut may take the content of any. (Boot files: binding/rebuilds.py.)"""

from __future__ import annotations

import os

from ..system import files
from ..system.context import Context
from .paths import STATE

DRIVER = STATE + "/driver-installation"
# Where installers write; each may be a file system of its own.
_PATHS = ("/lib/modules", "/usr", "/etc", "/var/lib", "/boot")


def begin(root: str, mark: str) -> None:
    """Writes the mark before the work begins; it survives a power cut."""
    files.write_atomic(root, mark, "Written by vgpu.kvm.\n")


def end(ctx: Context, mark: str, timeout: float = 300) -> None:
    """Syncs what was written, then removes the mark."""
    files.sync_to_disk(ctx, [path for path in _PATHS if os.path.isdir(ctx.root + path)], mark, timeout)
    files.remove(ctx.root, mark)


def is_open(root: str, mark: str) -> bool:
    """Whether the work was begun and not ended."""
    return os.path.exists(root + mark)
