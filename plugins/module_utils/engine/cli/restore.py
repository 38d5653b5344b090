# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-vgpu restore: what the unit runs at boot, and people after a mishap."""

from __future__ import annotations

import json
from typing import Any, Callable

from ..boot import restore
from ..state import restore_record
from ..state.lock import HostLock, clean_leftovers
from ..system.context import Context


def run(ctx: Context, say: Callable[[str], None], timeout: float, settle: float, as_json: bool = False) -> int:
    """Restores what is stored. Exit status 0, or 1 if something failed. as_json: all is printed at the end, for machines."""
    with HostLock(ctx, timeout, name="nvidia-vgpu restore"):
        clean_leftovers(ctx.root)
        begun = ctx.clock.now()
        report = restore.restore(ctx, timeout, settle, _silent if as_json else say)
        took = ctx.clock.now() - begun
        when, steps, failures = int(ctx.clock.wall()), len(report.done), len(report.troubles)
        record = restore_record.Record(when, took, steps, failures, vgpus=report.vgpus, after=report.after)
        restore_record.write(ctx.root, record)
    if as_json:
        result: dict[str, Any] = {"actions": report.done, "troubles": [one.as_dict() for one in report.troubles], "seconds": round(took, 3)}
        result.update(vgpus=report.vgpus, vgpus_after=round(report.after, 3))
        say(json.dumps(result, indent=1))
        return 1 if report.troubles else 0
    say("nvidia-vgpu: %d of the stored vGPUs there, %.1f s after the driver was ready" % (report.vgpus, report.after))
    say("nvidia-vgpu: %d steps done, %d failed, in %.1f s" % (len(report.done), len(report.troubles), took))
    return 1 if report.troubles else 0


def _silent(text: str) -> None:
    """Prints nothing while it happens."""
