# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""modinfo: what the kernel module nvidia on disk has in its fields."""

from __future__ import annotations

from .context import Context


def field(ctx: Context, name: str, timeout: float = 30, kernel: str | None = None) -> str | None:
    """One field of the module for the running kernel, or for another one; None where there is no module, empty where it lacks the field."""
    which = ["-k", kernel] if kernel else []
    answer = ctx.command(["modinfo", *which, "-F", name, "nvidia"], timeout)
    return answer.out.strip() if answer.rc == 0 else None
