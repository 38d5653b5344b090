# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that every planner returns: the steps, the errors for which the plan is refused, and the resulting state."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Callable, Generic, TypeVar

from . import refusals
from .errors import Refusal, raise_if_any
from .steps import ApplyError, Step, Unresponsive

# What a run does if a GPU fell off the bus. With "fail", the run fails after its other steps and names the GPU.
# With "warn", a warning names the GPU, and the caller checks for such GPUs at the end of its own run.
UNRESPONSIVE_POLICIES = ("fail", "warn")

Target = TypeVar("Target")


@dataclass(eq=False, repr=False)
class Skipped:
    """A GPU that a request for all GPUs omits, and the reason for the omission."""

    gpu: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Returns the GPU and the reason as values for a module's result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class Plan(Generic[Target]):
    """The steps of a plan in order, and the state that results from these steps."""

    target: Target  # the resulting state, as a dataclass of the planner's package
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)  # the errors for which the plan is refused
    unresponsive: list[str] = field(default_factory=list)  # addresses of GPUs that fell off the bus, for which the plan has no steps
    failing: list[Unresponsive] = field(default_factory=list)  # unresponsive GPUs that make the run fail after its last step

    def skips(self, gpu: refusals.GpuFacts, doing: str, policy: str) -> bool:
        """Returns whether the plan omits this GPU because it fell off the bus, and records such a GPU.

        *doing* describes the omitted work. *policy* is one of UNRESPONSIVE_POLICIES.
        """
        if gpu.alive:
            return False
        problem = refusals.off_bus(gpu)
        problem.position = sys.maxsize  # sorts this error after the errors of steps
        self.unresponsive.append(gpu.address)
        if policy == "fail":
            self.failing.append(Unresponsive(gpu.address, doing, problem))
        else:
            self.warnings.append(str(problem))
        return True

    def refuse(self) -> None:
        """Raises the errors of the plan, if any, together with the errors of unresponsive GPUs. A run thus reports all problems at once."""
        if self.errors:
            raise_if_any(self.errors + [one.problem for one in self.failing])

    def refuse_unresponsive(self) -> None:
        """Raises the errors that a run of this plan would raise at its end. Check mode, which performs no steps, calls this method."""
        if self.failing:
            raise ApplyError([one.problem for one in self.failing], [], self.steps, self.failing)

    def finish(self, work: Callable[[], list[Step]]) -> list[Step]:
        """Returns the steps that *work* performed.

        If GPUs are unresponsive, raises the errors of these GPUs afterwards, together with the failures of *work*.
        """
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
