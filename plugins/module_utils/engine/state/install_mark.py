# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks that an installer is running, because a power failure can damage any file that an installer writes.

binding/rebuilds.py handles boot files. The mark contains a digest of the driver files before installation. If the files still have this digest,
the previous driver is undamaged, because the installer refused to run or exited before the first change.
"""

from __future__ import annotations

import glob
import hashlib
import os

from ..system import files
from ..system.context import Context
from . import migration
from .paths import STATE

DRIVER = STATE + "/driver-installation"
# The directories to which installers write. Each directory may be a separate file system.
_PATHS = ("/lib/modules", "/usr", "/etc", "/var/lib", "/boot")


# Files that NVIDIA's installers write or remove.
_DRIVER = (
    *("/lib/modules/*/modules.*", "/lib/modules/*/**/nvidia*", "/usr/src/nvidia*/**", "/var/lib/dkms/nvidia*/**"),
    *("/usr/bin/nvidia*", "/usr/sbin/nvidia*", "/usr/lib/nvidia/**", "/usr/share/nvidia/**"),
    *("/lib/firmware/nvidia/**", "/etc/systemd/system/nvidia*", "/lib/systemd/system/nvidia*"),
    *("/usr/lib*/lib*nvidia*", "/usr/lib*/lib*cuda*", "/usr/lib/*/lib*nvidia*", "/usr/lib/*/lib*cuda*"),
)


def begin(root: str, mark: str) -> None:
    """Writes the installation mark and syncs it to disk before the installation. A mark from an earlier unfinished installation is kept."""
    if not is_open(root, mark):
        files.write_atomic(root, migration.current(root, mark), _text(root))


def end(ctx: Context, mark: str, timeout: float = 300) -> None:
    """Syncs the installed files, and then removes the installation mark."""
    files.sync_to_disk(ctx, [path for path in _PATHS if os.path.isdir(ctx.root + path)], mark, timeout)
    files.remove(ctx.root, migration.current(ctx.root, mark))


def is_open(root: str, mark: str) -> bool:
    """Returns whether an installation is unfinished and has changed a file."""
    text = files.read_text(root, migration.current(root, mark))
    return text is not None and text != _text(root)


def drop_untouched(root: str) -> None:
    """Removes the mark of an installer that made no changes, before another program (such as depmod for a new kernel) changes driver files."""
    mark = migration.current(root, DRIVER)
    if os.path.exists(root + mark) and not is_open(root, DRIVER):
        files.remove(root, mark)


def _text(root: str) -> str:
    """Returns the mark for the current driver files. The digest uses ctime, which increases with every change and which no program can reset."""
    digest = hashlib.sha256()
    found = {path for pattern in _DRIVER for path in glob.glob(glob.escape(root.rstrip("/")) + pattern, recursive=True)}
    for path in sorted(path for path in found if os.path.lexists(path)):  # for **, glob also returns nonexistent paths
        state = os.lstat(path)
        digest.update(b"%s %d %d\n" % (os.fsencode(path), state.st_ctime_ns, state.st_size))
    return "Written by vgpu.kvm. The driver's files before the installation: sha256:%s\n" % digest.hexdigest()
