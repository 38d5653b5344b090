# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Running programs and looking at trees, for the tests of the bundle."""
from __future__ import annotations

import os
import subprocess

KERNEL = "6.1.0-99-amd64"


def run(*command, cwd=None, **env):
    """Run a program; returns the CompletedProcess with stdout and stderr in one."""
    return subprocess.run(
        [str(c) for c in command], check=False, text=True, cwd=cwd, timeout=60,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **{k: str(v) for k, v in env.items()}},
    )


def put(root, path, text=""):
    """Write a file below root, making its folders."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def tree(root):
    """{path: bytes or link} of everything below root, but for the log."""
    return {
        str(p.relative_to(root)): os.readlink(p) if p.is_symlink() else p.read_bytes()
        for p in sorted(root.rglob("*"))
        if (p.is_file() or p.is_symlink()) and p.name != "nvidia-installer.log"
    }
