# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates and checks GRUB's configuration with update-grub, grub2-mkconfig, and grub-script-check."""

from __future__ import annotations

import os
from typing import Sequence

from ..base.errors import error
from . import files
from .context import Context

UPDATE_GRUB = ["update-grub"]
MKCONFIG = ["grub2-mkconfig", "-o"]
_CHECKS = ("/usr/bin/grub-script-check", "/usr/bin/grub2-script-check", "/usr/sbin/grub2-script-check")


def has(ctx: Context, name: str) -> bool:
    """Returns whether a program with the given name is installed."""
    return ctx.executable("/usr/sbin/" + name, "/usr/bin/" + name, "/sbin/" + name) is not None


def make(ctx: Context, argv: Sequence[str], config: str, timeout: float) -> None:
    """Generates grub.cfg with one of the programs, and checks and syncs the file. If a step fails, the old file is restored."""
    before = files.read_text(ctx.root, config)
    answer = ctx.command(argv, timeout, keeps_lock=True)
    wrong = "%s failed" % os.path.basename(argv[0]) if answer.rc else ""
    said = answer.tail() or "rc %d" % answer.rc
    if not wrong:
        check = ctx.executable(*_CHECKS)
        checked = ctx.command([check, ctx.root + config], 60) if check else None
        after = files.read_text(ctx.root, config) or ""
        if checked and checked.rc:
            wrong, said = "grub-script-check rejected the file that %s wrote" % argv[0], checked.tail() or "rc %d" % checked.rc
        elif "linux" not in after and "linux" in (before or ""):
            wrong = "%s wrote a configuration that starts no kernel" % argv[0]
    if wrong:
        if before is not None and files.read_text(ctx.root, config) != before:
            files.write_atomic(ctx.root, config, before)
        found = "%s, so the next boot uses the old configuration (output: %s)" % (wrong, said)
        remedy = "Fix the reported error (for example, a full /boot or an unknown root device), then rerun to repeat the step."
        raise error(found, config, "a configuration with the new settings", remedy, "bootloader_rebuild_failed")
    files.sync_to_disk(ctx, [os.path.dirname(config)], config)
