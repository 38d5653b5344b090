# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vgpuctl doctor: what is wrong with this host, what was expected, and what to do about it."""

from __future__ import annotations

import argparse
import textwrap

from ..system.context import Context
from . import snapshot
from .screen import Screen


def run(ctx: Context, out: Screen, args: argparse.Namespace) -> int:
    """Prints it. Exit status 0: all is well, or warnings only; 1: something does not work."""
    seen = snapshot.read(ctx)
    errors = [one for one in seen.found if one.severity == "error"]
    if args.json:
        out.json({"healthy": not errors, "problems": [one.as_dict() for one in seen.found]})
        return 1 if errors else 0
    for problem in errors + [one for one in seen.found if one.severity != "error"]:
        error = problem.error
        out("%s  %s  [%s]" % (problem.severity.upper(), error.device or "this host", error.code), problem.severity)
        for word, text in (("found", error.found), ("expected", error.expected), ("do", error.remedy)):
            if text:
                out(textwrap.fill(text, 110, initial_indent="  %-8s  " % word, subsequent_indent=" " * 12))
        out("")
    gpus, vgpus = len(seen.inventory.gpus), sum(len(gpu.vgpus) for gpu in seen.inventory.gpus)
    stored, warnings = sum(len(one.vgpus) for one in seen.stored.values()), len(seen.found) - len(errors)
    text = "%d GPUs, %d vGPUs, %d of them stored for the next boot: %d errors, %d warnings."
    out(text % (gpus, vgpus, stored, len(errors), warnings), "error" if errors else "good")
    return 1 if errors else 0
