# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl plan and vgpuctl apply subcommands, which read a layout from a file.

Both subcommands use the planner, guards, lock, and layout store of the nvidia_vgpu module.
"""

from __future__ import annotations

import argparse

from ..base.plan import UNRESPONSIVE_POLICIES
from ..runs import vgpus
from ..state.lock import HostLock, clean_leftovers
from ..system import mdevctl
from ..system.context import Context
from ..vgpu.target import Options
from . import layout_input
from .command import Option, seconds, whole_seconds
from .screen import Screen

PLAN_OPTIONS = (
    Option("layout", metavar="FILE", text='JSON or YAML file that contains the layout or the vgpu_layout variable ("-" reads standard input)'),
    Option("--force-remove", metavar="VGPU", action="append", default=[], text="UUID or VF of a vGPU to remove even if the vGPU is in use (can be repeated)"),
    Option("--no-persist", action="store_true", text="do not store the layout for the restore at boot"),
    Option("--unresponsive", choices=UNRESPONSIVE_POLICIES, default="fail", text="whether a GPU that fell off the bus causes an error or only a warning"),
)
APPLY_OPTIONS = (
    *PLAN_OPTIONS,
    Option("--timeout", metavar="SECONDS", type=whole_seconds, default=60, text="time limit in seconds for each wait, such as the wait for a new vGPU"),
    Option("--settle", metavar="SECONDS", type=seconds, default=2, text="seconds for which new vGPUs are monitored"),
    Option("--lock-timeout", metavar="SECONDS", type=whole_seconds, default=60, text="seconds to wait while another program changes this host's vGPUs"),
)


def plan(ctx: Context, screen: Screen, args: argparse.Namespace) -> int:
    """Prints the steps that vgpuctl apply would perform. The exit status is 0 even if steps are pending."""
    return _show(screen, args, vgpus.run(ctx, _request(ctx, args)), "to do")


def apply(ctx: Context, screen: Screen, args: argparse.Namespace) -> int:
    """Applies the layout and prints the completed steps. Raises ApplyError if a step fails."""
    request = _request(ctx, args)
    request.dry, request.timeout, request.settle = False, args.timeout, args.settle
    with HostLock(ctx, args.lock_timeout, name="vgpuctl apply"):
        clean_leftovers(ctx.root)
        outcome = vgpus.run(ctx, request)
    return _show(screen, args, outcome, "done")


def _request(ctx: Context, args: argparse.Namespace) -> vgpus.Request:
    layout = layout_input.read(args.layout)
    options = Options(args.force_remove, mdevctl.binary(ctx) is not None, not args.no_persist, unresponsive=args.unresponsive)
    return vgpus.Request(layout, options, dry=True)


def _show(screen: Screen, args: argparse.Namespace, outcome: vgpus.Outcome, word: str) -> int:
    steps, warnings = list(map(str, outcome.plan.steps)), [*outcome.plan.warnings, *outcome.more_warnings]
    if args.json:
        screen.json({"changed": bool(steps), "actions": steps, "warnings": warnings, "vgpus": outcome.vgpus()})
        return 0
    for text in warnings:
        screen("WARNING: %s" % text, "warning")
    for text in steps:
        screen(text)
    screen("vgpuctl: %d step%s %s" % (len(steps), "" if len(steps) == 1 else "s", word) if steps else "vgpuctl: the host matches the layout", "good")
    return 0
