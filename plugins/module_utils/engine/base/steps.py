# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the steps of a plan, which check mode lists and a real run performs."""

from __future__ import annotations

import errno
import itertools
import operator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence

from .errors import EngineError, Refusal


class Step:
    """One change on the host.

    The *kind* attribute selects the executor's action, and *args* contains the action's parameters. A step is printed as "device: text". *lane* is
    the GPU address or VM name that the step belongs to, or None for the host. If a step fails, steps in other lanes still run. execute() sets
    *position*, the index of the step in the plan.
    """

    def __init__(self, kind: str, lane: str | None, device: str | None, text: str, **args: Any) -> None:
        self.kind, self.lane, self.device, self.text, self.args = kind, lane, device, text, args
        self.position = 0

    def __str__(self) -> str:
        return "%s: %s" % (self.device, self.text) if self.device else self.text


@dataclass(eq=False, repr=False)
class Unresponsive:
    """A GPU that fell off the bus and is omitted from the plan. *text* describes the omitted work."""

    address: str
    text: str
    problem: Refusal

    def __str__(self) -> str:
        return "%s: %s" % (self.address, self.text)


_position = operator.attrgetter("position")


class ApplyError(EngineError):
    """The exception for failed steps. All lists of steps are in plan order, regardless of which step failed first.

    The *unresponsive* attribute lists the GPUs that fell off the bus, whose steps were omitted.
    """

    def __init__(
        self, errors: Sequence[Refusal], done: Sequence[Step], not_done: Sequence[Step], unresponsive: Sequence[Unresponsive] = ()
    ) -> None:
        self.done = sorted(done, key=_position)
        self.not_done = sorted(not_done, key=_position)
        self.unresponsive = list(unresponsive)
        super().__init__(sorted(errors, key=_position))

    @property
    def left(self) -> list[Step | Unresponsive]:
        """All unperformed steps, and the GPUs whose steps were omitted."""
        return [*self.not_done, *self.unresponsive]

    def __str__(self) -> str:
        done = "; ".join(map(str, self.done)) or "nothing"
        left = "; ".join(map(str, self.left))
        return "%s\nDone: %s.\nNot done: %s.\nFix the cause, then rerun. Completed steps stay in place." % (super().__str__(), done, left)


@dataclass(eq=False, repr=False)
class _Outcome:
    """The outcome of all steps, shared by the threads of all lanes.

    ApplyError lists the steps in plan order, regardless of the order in which lanes finish.
    """

    perform: Callable[[Step], None]
    done: list[Step] = field(default_factory=list)
    not_done: list[Step] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)
    failed: set[str | None] = field(default_factory=set)  # lanes with a failed step; None stands for the host

    def do(self, steps: Iterable[Step]) -> None:
        """Performs the steps in order, and skips a step after a failure in the same lane or on the host."""
        for step in steps:
            if step.lane in self.failed or None in self.failed:
                self.not_done.append(step)
                continue
            try:
                self.perform(step)
                self.done.append(step)
            except (EngineError, OSError) as exc:
                found = exc.errors if isinstance(exc, EngineError) else [_system_error(exc)]
                self.errors.extend(_whole(step, one) for one in found)
                self.failed.add(step.lane)
                self.not_done.append(step)


def execute(steps: Iterable[Step], perform: Callable[[Step], None], side_by_side: bool = False, begin: int = 0) -> list[Step]:
    """Calls perform(step) for each step in order, and returns the steps. Raises ApplyError if a step fails.

    After a failed step, the remaining steps in the same lane are skipped. After a failed host step, all remaining steps are skipped. *begin* is the
    position of the first step, for callers that have already performed other steps. With *side_by_side*, the lanes between two host steps run in
    parallel, each in its own thread. Use *side_by_side* for work that the kernel performs on several GPUs in parallel, with a *perform* function that
    shares no data between lanes.
    """
    outcome = _Outcome(perform)
    steps = list(steps)
    for position, step in enumerate(steps, begin):
        step.position = position
    if not side_by_side:
        outcome.do(steps)
    else:
        for dummy, group in itertools.groupby(steps, lambda step: step.lane is None):
            _in_threads(group, outcome)
    if outcome.not_done:
        raise ApplyError(outcome.errors, outcome.done, outcome.not_done)
    return steps


def _in_threads(steps: Iterable[Step], outcome: _Outcome) -> None:
    """Runs each lane in a separate thread. A single lane, such as the host's, runs without a thread."""
    lanes: dict[str | None, list[Step]] = {}
    for step in steps:
        lanes.setdefault(step.lane, []).append(step)
    if len(lanes) == 1:
        outcome.do(next(iter(lanes.values())))
        return
    with ThreadPoolExecutor(len(lanes)) as pool:
        for one in [pool.submit(outcome.do, lane) for lane in lanes.values()]:
            one.result()  # re-raises an unexpected exception from the lane, which indicates a bug in the engine


def _whole(step: Step, error: Refusal) -> Refusal:
    """Returns the error with all four parts. The step supplies a missing device and expectation, and a missing remedy becomes a general remedy."""
    error.device = error.device or step.device or "this host"
    error.expected = error.expected or "to %s" % step.text
    error.remedy = error.remedy or "Find the cause in the output of 'dmesg', fix the cause, then rerun."
    error.position = step.position
    return error


def _system_error(exc: OSError) -> Refusal:
    """Returns the error for a step that failed with an OSError. A bare OSError would not report the completed steps."""
    remedy = "Free the resource that the error names (disk space, processes, or memory), then rerun."
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = ("Rerun as root ('become: true'). If the failed run already ran as root, find read-only file systems with 'findmnt -O ro', "
                  "and denials by a security module in the output of 'dmesg'.")
    where = " (%s)" % exc.filename if exc.filename else ""
    return Refusal("the operating system reported an error: %s%s" % (exc.strerror or exc, where), remedy=remedy, code="system_refused")
