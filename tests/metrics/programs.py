# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Finds programs of Debian packages, either installed or unpacked. The module installs no packages, because an installed server would start."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def program(name: str, package: str, folder: Path) -> str:
    """Return the path of a program. The function unpacks a missing package into *folder*."""
    found = shutil.which(name)
    if found:
        return found
    tree = folder / package / "tree"
    if not tree.exists():
        tree.parent.mkdir(parents=True)
        subprocess.run(["apt-get", "-q", "download", package], cwd=tree.parent, check=True, stdout=subprocess.DEVNULL)
        (deb,) = tree.parent.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(deb), str(tree)], check=True)
    return str(tree / "usr" / "bin" / name)
