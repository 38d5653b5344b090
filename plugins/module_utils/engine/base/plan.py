# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: the steps, the errors that refuse the plan, and the resulting state. Every planner returns one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Callable, Generic, TypeVar

from . import refusals
from .errors import Refusal, raise_if_any
from .steps import ApplyError, Step, Unresponsive

# How GPUs that fell off the bus are treated. fail: the run fails at its end and names them.
# warn: warnings name them, and the caller checks at the end.
UNRESPONSIVE_POLICIES = ("fail", "warn")

Target = TypeVar("Target")


@dataclass(eq=False, repr=False)
class Skipped:
    """A GPU that a request for all GPUs leaves out, and the reason."""

    gpu: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """The values for a module's result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class Plan(Generic[Target]):
    """The steps in order, and the state that they result in."""

    target: Target  # a dataclass of the domain
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)  # the reasons for which the plan is refused
    unresponsive: list[str] = field(default_factory=list)  # GPUs that fell off the bus; the plan has no steps for them
    failing: list[Unresponsive] = field(default_factory=list)  # those GPUs that make the run fail at its end

    def skips(self, gpu: refusals.GpuFacts, doing: str, policy: str) -> bool:
        """Whether a GPU fell off the bus and is left out. doing: the omitted work; policy: see UNRESPONSIVE_POLICIES."""
        if gpu.alive:
            return False
        problem = refusals.off_bus(gpu)
        problem.position = sys.maxsize  # after all errors that belong to a step
        self.unresponsive.append(gpu.address)
        if policy == "fail":
            self.failing.append(Unresponsive(gpu.address, doing, problem))
        else:
            self.warnings.append(str(problem))
        return True

    def refuse(self) -> None:
        """Raises all errors, if there are any, together with those of unresponsive GPUs: all problems are reported at once."""
        if self.errors:
            raise_if_any(self.errors + [one.problem for one in self.failing])

    def refuse_unresponsive(self) -> None:
        """Raises the errors that a run of this plan would raise at its end. Check mode calls this, as it does no steps."""
        if self.failing:
            raise ApplyError([one.problem for one in self.failing], [], self.steps, self.failing)

    def finish(self, work: Callable[[], list[Step]]) -> list[Step]:
        """Returns the steps that work returns. Raises afterwards if GPUs are unresponsive, together with the failures of work."""
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
