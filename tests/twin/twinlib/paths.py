# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Where things lie: sources in this folder, builds in the cache, machines in the checkout's .build/."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
KERNEL = HERE / "kernel"
KERNEL_GUEST = HERE / "kernel_guest"
IMAGE = HERE / "image"
BUNDLE = HERE / "bundle"
REPO = HERE.parent.parent


def cache() -> Path:
    """Folder of everything that can be built again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vgpu-kvm" / "twin"


def machines() -> Path:
    """Folder of the machines of this checkout, one sub-folder each."""
    return REPO / ".build" / "twin"
