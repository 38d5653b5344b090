# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a plan: what check mode lists and real mode does."""

from __future__ import annotations

import errno
import itertools
import operator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence

from .errors import EngineError, Refusal


class Step:
    """One write.

    kind: what the executor does. lane: what the step belongs to (a GPU's address, a VM's name, or None for the host);
    after a failure the steps of other lanes still run. device and text make the sentence that people read.
    args: what the executor needs. position: in the plan; execute sets it.
    """

    def __init__(self, kind: str, lane: str | None, device: str | None, text: str, **args: Any) -> None:
        self.kind, self.lane, self.device, self.text, self.args = kind, lane, device, text, args
        self.position = 0

    def __str__(self) -> str:
        return "%s: %s" % (self.device, self.text) if self.device else self.text


@dataclass(eq=False, repr=False)
class Unresponsive:
    """A GPU that fell off the bus, so that its plan is left out. text: what is not done to it."""

    address: str
    text: str
    problem: Refusal

    def __str__(self) -> str:
        return "%s: %s" % (self.address, self.text)


_position = operator.attrgetter("position")


class ApplyError(EngineError):
    """Steps failed. All lists are in the plan's order, whatever failed first. unresponsive: the GPUs whose plan was left out."""

    def __init__(
        self, errors: Sequence[Refusal], done: Sequence[Step], not_done: Sequence[Step], unresponsive: Sequence[Unresponsive] = ()
    ) -> None:
        self.done = sorted(done, key=_position)
        self.not_done = sorted(not_done, key=_position)
        self.unresponsive = list(unresponsive)
        super().__init__(sorted(errors, key=_position))

    @property
    def left(self) -> list[Step | Unresponsive]:
        """All that was not done."""
        return [*self.not_done, *self.unresponsive]

    def __str__(self) -> str:
        done = "; ".join(map(str, self.done)) or "nothing"
        left = "; ".join(map(str, self.left))
        return "%s\nDone: %s.\nNot done: %s.\nRun again when the cause is gone: what is done stays." % (super().__str__(), done, left)


@dataclass(eq=False, repr=False)
class _Outcome:
    """How the steps went. Lanes in threads share it; ApplyError has the plan's order, whichever lane was faster."""

    perform: Callable[[Step], None]
    done: list[Step] = field(default_factory=list)
    not_done: list[Step] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)
    failed: set[str | None] = field(default_factory=set)  # lanes; None for the host

    def do(self, steps: Iterable[Step]) -> None:
        """Does the steps in order, and leaves out those of a lane that failed before."""
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
    """Runs perform(step) in order; returns the steps. A failure stops its lane only, the host's stops all; then ApplyError.

    begin: the first step's position, where others were done before. side_by_side: each lane's steps run in a thread of their own, between steps of the
    host. For what the kernel does for GPUs at the same time, and for a perform that shares nothing between them.
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
    """Does each lane's steps in a thread of its own; a single lane, such as the host's, needs none."""
    lanes: dict[str | None, list[Step]] = {}
    for step in steps:
        lanes.setdefault(step.lane, []).append(step)
    if len(lanes) == 1:
        outcome.do(next(iter(lanes.values())))
        return
    with ThreadPoolExecutor(len(lanes)) as pool:
        for one in [pool.submit(outcome.do, lane) for lane in lanes.values()]:
            one.result()  # a fault of ours comes out here


def _whole(step: Step, error: Refusal) -> Refusal:
    """An error with all of its four parts: what its source did not know, the step adds."""
    error.device = error.device or step.device or "this host"
    error.expected = error.expected or "to %s" % step.text
    error.remedy = error.remedy or "Put that right (dmesg may show more), then run again."
    error.position = step.position
    return error


def _system_error(exc: OSError) -> Refusal:
    """What the system refused midway: the steps before it were done, and must be reported with it."""
    remedy = "Free space, processes or memory, as the error shows, then run again."
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "Run this as root (become: true); if it was, a read-only file system or a security module (dmesg) stands in the way."
    where = " (%s)" % exc.filename if exc.filename else ""
    return Refusal("the system refused it: %s%s" % (exc.strerror or exc, where), remedy=remedy, code="system_refused")
