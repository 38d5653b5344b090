# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl doctor subcommand, which prints the host's problems with the expected state and the remedy."""

from __future__ import annotations

import argparse

from ..base.errors import Refusal
from ..hardware import address
from ..system.context import Context
from . import snapshot
from .findings import MOST, Finding, grouped, more
from .screen import Screen, count


def run(ctx: Context, out: Screen, args: argparse.Namespace) -> int:
    """Prints the host's problems. The exit status is 1 if the host has errors. Warnings do not affect the exit status."""
    seen = snapshot.read(ctx)
    errors = [one for one in seen.found if one.severity == "error"]
    if args.json:
        out.json({"healthy": not errors, "problems": [one.as_dict() for one in seen.found]})
        return 1 if errors else 0
    for finding in grouped(seen.found):
        _show(finding, out)
    gpus, vgpus = len(seen.inventory.gpus), sum(len(gpu.vgpus) for gpu in seen.inventory.gpus)
    stored, warnings = sum(len(one.vgpus) for one in seen.stored.values()), len(seen.found) - len(errors)
    numbers = (count(gpus, "GPU"), count(vgpus, "vGPU"), stored, count(len(errors), "error"), count(warnings, "warning"))
    out("%s, %s, %d stored for the next boot: %s, %s." % numbers, "error" if errors else "good")
    return 1 if errors else 0


def _show(finding: Finding, out: Screen) -> None:
    """Prints a finding, with a single device in the heading or several devices on separate lines."""
    errors = finding.errors
    if len(errors) == 1:
        out("%s  %s  [%s]" % (finding.severity.upper(), errors[0].device or "this host", errors[0].code), finding.severity)
        out.labeled("found", errors[0].found)
    else:
        out("%s  [%s]  %s" % (finding.severity.upper(), errors[0].code, count(len(errors), _kind(errors))), finding.severity)
        for one in errors[:MOST]:
            out.labeled("found", "%s: %s" % (one.device or "this host", one.found))
        if len(errors) > MOST:
            out.labeled("found", "the same problem on %s" % more(errors[MOST:]))
    for text in dict.fromkeys(one.expected for one in errors if one.expected):
        out.labeled("expected", text)
    out.labeled("do", finding.first.remedy or "")
    out.labeled("effects", finding.consequences)
    out("")


def _kind(errors: list[Refusal]) -> str:
    """Returns "GPU" if all errors concern GPUs, or "device" otherwise."""
    return "GPU" if all(address.is_address(one.device or "") and (one.device or "").endswith(".0") for one in errors) else "device"
