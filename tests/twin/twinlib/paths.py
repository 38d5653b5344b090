# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Where things lie: sources in this directory, builds in the cache, machines in the directory that TWIN_STATE names."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
KERNEL = HERE / "kernel"
KERNEL_GUEST = HERE / "kernel_guest"
IMAGE = HERE / "image"
BUNDLE = HERE / "bundle"
FABRIC = HERE / "fabric"
REPO = HERE.parent.parent


def cache() -> Path:
    """Directory of everything that can be built again; in the checkout where this user's cache directory is not writable."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not _writable(base):
        base = REPO / ".build" / "cache"
    return base / "vgpu-twin"


def _writable(folder: Path) -> bool:
    """Whether files can be made in the directory, or it in the nearest one above that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def machines() -> Path:
    """Directory of the machines, one subdirectory each: TWIN_STATE, or .build/twin of this checkout."""
    named = os.environ.get("TWIN_STATE")
    return Path(named).absolute() if named else REPO / ".build" / "twin"
