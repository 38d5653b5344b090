# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""modinfo: what the kernel module nvidia on disk has in its fields."""

from __future__ import annotations

import re

from . import files
from .context import Context

NVIDIA = "nvidia"
_SETTINGS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
_INSTALL = re.compile(r"^[ \t]*install[ \t]+nvidia[ \t].*?\bmodprobe\b(?:[ \t]+-\S+)*[ \t]+(nvidia[\w-]*)", re.MULTILINE)
# What stands before the answer where the loader of programs (of a stale /etc/ld.so.preload) or modinfo itself complains.
_COMPLAINT = re.compile(r"^(?:ERROR: ld\.so: |modinfo: |libkmod: ).*\n?", re.MULTILINE)


def module(ctx: Context, timeout: float = 30, kernel: str | None = None) -> str:
    """The name of the file that 'modprobe nvidia' loads: Debian's packages name theirs nvidia-current, and have a line that loads it instead."""
    paths = [path for directory in _SETTINGS for path in files.names(ctx.root, directory, ".conf")]
    for path in paths:
        for name in _INSTALL.findall(files.read_text(ctx.root, path) or ""):
            if name != NVIDIA and _ask(ctx, "version", timeout, kernel, name) is not None:
                return str(name)
    return NVIDIA


def field(ctx: Context, name: str, timeout: float = 30, kernel: str | None = None) -> str | None:
    """One field of the module for the running kernel, or for another one; None where there is no module, empty where it lacks the field."""
    return _ask(ctx, name, timeout, kernel, module(ctx, timeout, kernel))


def exists(ctx: Context, name: str, timeout: float = 30) -> bool:
    """Whether there is a module of that name for the running kernel."""
    return _ask(ctx, "version", timeout, None, name) is not None


def _ask(ctx: Context, name: str, timeout: float, kernel: str | None, which: str) -> str | None:
    of_kernel = ["-k", kernel] if kernel else []
    answer = ctx.command(["modinfo", *of_kernel, "-F", name, which], timeout)
    return _COMPLAINT.sub("", answer.out).strip() if answer.rc == 0 else None
