# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs that fell off the bus: the others' steps are done first, then the lost ones are told."""

from __future__ import annotations

from . import refusals
from .steps import LOST, Step

# fail: the run fails at its end and names them. warn: they are told in warnings, and somebody else looks at the end.
WORDS = ("fail", "warn")


def passed_over(result, gpu, doing, word):
    """Whether a GPU is lost and must be left out of a plan (which has steps and warnings); doing: what it will miss."""
    if gpu.alive:
        return False
    trouble = refusals.off_bus(gpu)
    result.lost.append(gpu.address)
    if word == "fail":
        result.steps.append(Step(LOST, gpu.address, gpu.address, doing, trouble=trouble))
    else:
        result.warnings.append(str(trouble))
    return True


def refusal(troubles, steps):
    """The troubles that refuse a plan, with those of lost GPUs, so that all is told at once; none where nothing refuses it."""
    return troubles + [step.args["trouble"] for step in steps if step.kind == LOST] if troubles else []
