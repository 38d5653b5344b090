# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads fields of the nvidia kernel module on disk with modinfo."""

from __future__ import annotations

import re

from . import files
from .context import Context

NVIDIA = "nvidia"
_SETTINGS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
_INSTALL = re.compile(r"^[ \t]*install[ \t]+nvidia[ \t].*?\bmodprobe\b(?:[ \t]+-\S+)*[ \t]+(nvidia[\w-]*)", re.MULTILINE)
# Error lines before the output, from the dynamic loader (a stale /etc/ld.so.preload) or modinfo.
_COMPLAINT = re.compile(r"^(?:ERROR: ld\.so: |modinfo: |libkmod: ).*\n?", re.MULTILINE)


def module(ctx: Context, timeout: float = 30, kernel: str | None = None) -> str:
    """Returns the name of the module that 'modprobe nvidia' loads, which Debian's packages redirect to nvidia-current."""
    paths = [path for directory in _SETTINGS for path in files.names(ctx.root, directory, ".conf")]
    for path in paths:
        for name in _INSTALL.findall(files.read_text(ctx.root, path) or ""):
            if name != NVIDIA and _ask(ctx, "version", timeout, kernel, name) is not None:
                return str(name)
    return NVIDIA


def field(ctx: Context, name: str, timeout: float = 30, kernel: str | None = None) -> str | None:
    """Returns one field of the nvidia module for the running kernel or another kernel.

    Returns None if the module does not exist, and an empty string if the module does not have the field.
    """
    return _ask(ctx, name, timeout, kernel, module(ctx, timeout, kernel))


def exists(ctx: Context, name: str, timeout: float = 30) -> bool:
    """Returns whether the running kernel has a module with the given name."""
    return _ask(ctx, "version", timeout, None, name) is not None


def _ask(ctx: Context, name: str, timeout: float, kernel: str | None, which: str) -> str | None:
    of_kernel = ["-k", kernel] if kernel else []
    answer = ctx.command(["modinfo", *of_kernel, "-F", name, which], timeout)
    return _COMPLAINT.sub("", answer.out).strip() if answer.rc == 0 else None
