# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what is to be done, what refuses it, and what it results in. All planners make one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Callable, Generic, TypeVar

from . import refusals
from .errors import Refusal, raise_if_any
from .steps import ApplyError, Step, Unresponsive

# What becomes of GPUs that fell off the bus. fail: the run fails at its end and names them.
# warn: they are named in warnings, and somebody else checks at the end.
UNRESPONSIVE_POLICIES = ("fail", "warn")

Target = TypeVar("Target")


@dataclass(eq=False, repr=False)
class Skipped:
    """A GPU that a request for all GPUs does not mean, and why."""

    gpu: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """For a module's result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class Plan(Generic[Target]):
    """Steps in order, and what they result in."""

    target: Target  # a dataclass of the domain
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)  # what refuses the plan
    unresponsive: list[str] = field(default_factory=list)  # GPUs that fell off the bus, whose part of the plan is left out
    failing: list[Unresponsive] = field(default_factory=list)  # those of them that fail the run at its end

    def skips(self, gpu: refusals.GpuFacts, doing: str, policy: str) -> bool:
        """Whether a GPU fell off the bus and is left out. doing: what is not done to it; policy: see UNRESPONSIVE_POLICIES."""
        if gpu.alive:
            return False
        problem = refusals.off_bus(gpu)
        problem.position = sys.maxsize  # after everything that has a step
        self.unresponsive.append(gpu.address)
        if policy == "fail":
            self.failing.append(Unresponsive(gpu.address, doing, problem))
        else:
            self.warnings.append(str(problem))
        return True

    def refuse(self) -> None:
        """Raises all errors, if there is one; those of unresponsive GPUs with them, so that everything is reported at once."""
        if self.errors:
            raise_if_any(self.errors + [one.problem for one in self.failing])

    def refuse_unresponsive(self) -> None:
        """Raises what a run of this plan would raise at its end: in check mode nothing is done."""
        if self.failing:
            raise ApplyError([one.problem for one in self.failing], [], self.steps, self.failing)

    def finish(self, work: Callable[[], list[Step]]) -> list[Step]:
        """The steps that work returns. Fails afterwards if GPUs are unresponsive, with all that failed in work."""
        not_done: list[Step] = []
        errors: list[Refusal] = []
        try:
            done = work()
        except ApplyError as exc:
            if not self.failing:
                raise
            done, not_done, errors = exc.done, exc.not_done, exc.errors
        if not self.failing:
            return done
        raise ApplyError(errors + [one.problem for one in self.failing], done, not_done, self.failing)
