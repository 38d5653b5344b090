# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl restore subcommand, which the systemd unit runs at boot and operators run after a failure."""

from __future__ import annotations

import argparse
from typing import Any

from ..boot import restore
from ..state import restore_record
from ..state.lock import HostLock, clean_leftovers
from ..system.context import Context
from .screen import Screen


def run(ctx: Context, out: Screen, args: argparse.Namespace) -> int:
    """Restores the stored layout. The exit status is 1 if a step fails or a stored vGPU is missing. With --json, all output is printed at the end."""
    asked = ctx.clock.now()
    with HostLock(ctx, args.timeout, name="vgpuctl restore"):
        clean_leftovers(ctx.root)
        begun = ctx.clock.now()
        left = max(args.timeout - (begun - asked), min(args.timeout, restore.LEAST))
        report = restore.restore(ctx, left, args.settle, (lambda text: None) if args.json else out)
        took, done, failed = ctx.clock.now() - begun, len(report.done), len(report.errors)
        record = restore_record.Record(int(ctx.clock.wall()), took, done, failed, vgpus=report.vgpus, after=report.after)
        restore_record.write(ctx.root, record)
    if args.json:
        result: dict[str, Any] = {"actions": report.done, "errors": [one.as_dict() for one in report.errors], "seconds": round(took, 3)}
        missing = [one.as_dict() for one in report.missing]
        out.json(dict(result, vgpus=report.vgpus, vgpus_after=round(report.after, 3), missing=missing))
    else:
        stored = report.vgpus + len(report.missing)
        out("vgpuctl: %d of the %d stored vGPUs exist, %.1f s after the driver was ready" % (report.vgpus, stored, report.after))
        for one in report.missing:
            out("vgpuctl: a stored vGPU is missing: %s on %s%s" % (one.type, one.parent, " (%s)" % one.uuid if one.uuid else ""))
        out("vgpuctl: %d steps done, %d failed, in %.1f s" % (done, failed, took))
    return 1 if failed or report.missing else 0
