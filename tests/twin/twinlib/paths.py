# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Paths of sources (this directory), built files (the cache), and machines (the directory that TWIN_STATE names)."""

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
    """Return the directory of built files. If the user's cache directory is not writable, the directory is in the checkout."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not _writable(base):
        base = REPO / ".build" / "cache"
    return base / "vgpu-twin"


def _writable(folder: Path) -> bool:
    """Return whether the user can create files in the directory, or create the directory if it does not exist."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def machines() -> Path:
    """Return the directory with one subdirectory per machine: TWIN_STATE, or .build/twin in this checkout."""
    named = os.environ.get("TWIN_STATE")
    return Path(named).absolute() if named else REPO / ".build" / "twin"
