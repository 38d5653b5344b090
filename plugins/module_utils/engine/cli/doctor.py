# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-vgpu doctor: what is wrong with this host, what was expected, and what to do about it."""

from __future__ import annotations

import json
import textwrap
from typing import Callable

from ..base.errors import Problem
from ..system.context import Context
from . import snapshot

_WIDTH = 110


def run(ctx: Context, say: Callable[[str], None], as_json: bool) -> int:
    """Prints it. Exit status 0: all is well, or warnings only; 1: something does not work."""
    seen = snapshot.read(ctx)
    errors = [one for one in seen.found if one.severity == "error"]
    if as_json:
        say(json.dumps({"healthy": not errors, "problems": [one.as_dict() for one in seen.found]}, indent=1))
        return 1 if errors else 0
    for problem in errors + [one for one in seen.found if one.severity != "error"]:
        _print(problem, say)
    vgpus = sum(len(gpu.vgpus) for gpu in seen.inventory.gpus)
    say(
        "%d GPUs, %d vGPUs, %d of them stored for the next boot: %d errors, %d warnings."
        % (len(seen.inventory.gpus), vgpus, sum(len(one.vgpus) for one in seen.stored.values()), len(errors), len(seen.found) - len(errors))
    )
    return 1 if errors else 0


def _print(problem: Problem, say: Callable[[str], None]) -> None:
    trouble = problem.trouble
    say("%s  %s  [%s]" % (problem.severity.upper(), trouble.device or "this host", trouble.code))
    for word, text in (("found ", trouble.found), ("wanted", trouble.wanted), ("do    ", trouble.remedy)):
        if text:
            say(textwrap.fill(text, _WIDTH, initial_indent="  %s  " % word, subsequent_indent=" " * 10))
    say("")
