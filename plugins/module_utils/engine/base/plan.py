# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the plan that every planner returns: the steps, the errors that prevent the run, and the resulting state."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Callable, Generic, TypeVar

from . import refusals
from .errors import Refusal, raise_if_any
from .steps import ApplyError, Step, Unresponsive

# The policies for GPUs that fell off the bus. With "fail", the run completes its other steps, then fails and names the GPU.
# With "warn", a warning names the GPU, and the caller checks for unresponsive GPUs at the end of its own run.
UNRESPONSIVE_POLICIES = ("fail", "warn")

Target = TypeVar("Target")


@dataclass(eq=False, repr=False)
class Skipped:
    """A GPU that is omitted from a request for all GPUs, with the reason."""

    gpu: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Returns the GPU and the reason as a dictionary for a module result."""
        return dict(vars(self))


@dataclass(eq=False, repr=False)
class Plan(Generic[Target]):
    """An ordered list of steps, and the state after the last step."""

    target: Target  # the resulting state, as a dataclass of the planner's package
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)  # errors that prevent the run
    unresponsive: list[str] = field(default_factory=list)  # addresses of GPUs that fell off the bus and for which the plan has no steps
    failing: list[Unresponsive] = field(default_factory=list)  # unresponsive GPUs that make the run fail after its last step

    def skips(self, gpu: refusals.GpuFacts, doing: str, policy: str) -> bool:
        """Returns whether the plan must omit a GPU because the GPU fell off the bus. Omitted GPUs are recorded in the plan.

        The *doing* argument describes the omitted work. *policy* is one of UNRESPONSIVE_POLICIES.
        """
        if gpu.alive:
            return False
        problem = refusals.off_bus(gpu)
        problem.position = sys.maxsize  # sorts the errors of unresponsive GPUs after the errors of failed steps
        self.unresponsive.append(gpu.address)
        if policy == "fail":
            self.failing.append(Unresponsive(gpu.address, doing, problem))
        else:
            self.warnings.append(str(problem))
        return True

    def refuse(self) -> None:
        """Raises the plan's errors, if any, together with the errors for unresponsive GPUs, so a run reports all problems at once."""
        if self.errors:
            raise_if_any(self.errors + [one.problem for one in self.failing])

    def refuse_unresponsive(self) -> None:
        """Raises the errors for unresponsive GPUs in check mode. A real run raises the same errors after its last step."""
        if self.failing:
            raise ApplyError([one.problem for one in self.failing], [], self.steps, self.failing)

    def finish(self, work: Callable[[], list[Step]]) -> list[Step]:
        """Runs *work* and returns the completed steps.

        Afterwards, raises the errors for unresponsive GPUs, if any, together with the errors that *work* raised.
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
