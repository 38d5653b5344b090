# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes boot entries on the Red Hat family with grubby."""

from __future__ import annotations

from typing import Sequence

from ..base.errors import error
from . import files
from .context import Context

DIRECTORIES = ("/boot/loader/entries", "/boot/grub2", "/etc/default", "/etc/kernel")  # the directories to which grubby may write
_PATHS = ("/usr/sbin/grubby", "/usr/bin/grubby", "/sbin/grubby")


def has(ctx: Context) -> bool:
    """Returns whether grubby is installed."""
    return ctx.executable(*_PATHS) is not None


def update(ctx: Context, add: Sequence[str], remove: Sequence[str], timeout: float) -> None:
    """Adds and removes kernel arguments in all boot entries."""
    words = ["--remove-args=%s" % " ".join(remove)] if remove else []
    words += ["--args=%s" % " ".join(add)] if add else []
    answer = ctx.command(["grubby", "--update-kernel=ALL", *words], timeout, keeps_lock=True)
    if answer.rc:
        remedy = "Fix the reported error, then rerun to repeat the step."
        found = "grubby failed: %s" % (answer.tail() or "rc %d" % answer.rc)
        raise error(found, "boot entries", "boot entries with the new settings", remedy, "bootloader_rebuild_failed")
    files.sync_to_disk(ctx, [path for path in DIRECTORIES if files.names(ctx.root, path)] or ["/boot"], "boot entries")
