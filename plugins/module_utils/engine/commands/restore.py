# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-vgpu restore: what the unit runs at boot, and people after a mishap."""

from __future__ import annotations

from .. import last_restore, leftovers, restore
from ..lock import HostLock


def run(ctx, say, timeout, settle):
    """Brings back what is stored. Exit status 0, or 1 if something failed."""
    with HostLock(ctx, timeout, name="nvidia-vgpu restore"):
        leftovers.clean(ctx.root)
        begun = ctx.clock.now()
        report = restore.restore(ctx, timeout, settle, say)
        took = ctx.clock.now() - begun
        last_restore.write(ctx.root, last_restore.Record(int(ctx.clock.wall()), took, len(report.done), len(report.troubles)))
    say("nvidia-vgpu: %d steps done, %d failed, in %.1f s" % (len(report.done), len(report.troubles), took))
    return 1 if report.troubles else 0
