# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a plan: what check mode lists and real mode does."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence, Tuple

from .errors import EngineError, Trouble


@dataclass(init=False, eq=False, repr=False)
class Step:
    """One write.

    kind: what the executor does. lane: what the step belongs to (a GPU's address, a VM's name, or None for the host);
    after a failure the steps of other lanes still run. device and text make the sentence that people read.
    args: what the executor needs. position: in the plan; execute sets it.
    """

    kind: str
    lane: str | None
    device: str | None
    text: str
    args: dict[str, Any]
    position: int

    def __init__(self, kind: str, lane: str | None, device: str | None, text: str, **args: Any) -> None:
        self.kind = kind
        self.lane = lane
        self.device = device
        self.text = text
        self.args = args
        self.position = 0

    def __str__(self) -> str:
        return "%s: %s" % (self.device, self.text) if self.device else self.text

    def __repr__(self) -> str:
        return "Step(%s, %s)" % (self.kind, self)


@dataclass
class Unresponsive:
    """A GPU that fell off the bus, so that its plan is left out. text: what is not done to it."""

    address: str
    text: str
    problem: Trouble

    def __str__(self) -> str:
        return "%s: %s" % (self.address, self.text)


class ApplyError(EngineError):
    """Steps failed. done and not_done show how far the run came; unresponsive: the GPUs whose plan was left out.

    Everything is in the plan's order, whatever failed or was noticed first.
    """

    def __init__(self, troubles: Sequence[Trouble], done: Sequence[Step], not_done: Sequence[Step], unresponsive: Sequence[Unresponsive] = ()) -> None:
        self.done = sorted(done, key=_position)
        self.not_done = sorted(not_done, key=_position)
        self.unresponsive = list(unresponsive)
        super().__init__(sorted(troubles, key=_position))

    @property
    def left(self) -> list[Step | Unresponsive]:
        """All that was not done."""
        return [*self.not_done, *self.unresponsive]

    def __str__(self) -> str:
        text = super().__str__()
        text += "\nDone: %s." % ("; ".join(map(str, self.done)) or "nothing")
        text += "\nNot done: %s." % "; ".join(map(str, self.left))
        return text + "\nRun again when the cause is gone: what is done stays."


def _position(one: Step | Trouble) -> int:
    return one.position


Perform = Callable[[Step], None]
Numbered = Tuple[int, Step]


@dataclass
class _Outcome:
    """How the steps went, each by its number in the plan, so that results keep the plan's order, whichever lane was faster."""

    done: dict[int, Step] = field(default_factory=dict)
    not_done: dict[int, Step] = field(default_factory=dict)
    troubles: dict[int, list[Trouble]] = field(default_factory=dict)
    failed: set[str | None] = field(default_factory=set)  # lanes; None for the host

    def do(self, number: int, step: Step, perform: Perform) -> None:
        """Does one step, or leaves it out if one before it failed."""
        if step.lane in self.failed or None in self.failed:
            self.not_done[number] = step
            return
        try:
            perform(step)
            self.done[number] = step
        except (EngineError, OSError) as exc:
            found = exc.troubles if isinstance(exc, EngineError) else [_system_trouble(exc)]
            self.troubles[number] = [_whole(step, one) for one in found]
            self.failed.add(step.lane)
            self.not_done[number] = step


def execute(steps: Iterable[Step], perform: Perform, side_by_side: bool = False) -> list[Step]:
    """Runs perform(step) in order; returns the steps. A failure stops its lane only, the host's stops all; then ApplyError.

    side_by_side: each lane's steps run in a thread of their own, between steps of the host. For what the kernel
    does for GPUs at the same time, and for a perform that shares nothing between them.
    """
    outcome = _Outcome()
    numbered = list(enumerate(steps))
    for number, step in numbered:
        step.position = number
    if side_by_side:
        _in_threads(numbered, perform, outcome)
    else:
        for number, step in numbered:
            outcome.do(number, step, perform)
    done, not_done = ([found[number] for number in sorted(found)] for found in (outcome.done, outcome.not_done))
    if outcome.troubles:
        raise ApplyError([one for number in sorted(outcome.troubles) for one in outcome.troubles[number]], done, not_done)
    return done


def _in_threads(numbered: Sequence[Numbered], perform: Perform, outcome: _Outcome) -> None:
    """The host's steps in their order, the lanes between them in threads."""
    lanes: dict[str, list[Numbered]] = {}
    for number, step in numbered:
        if step.lane is None:
            _run_lanes(lanes, perform, outcome)
            lanes = {}
            outcome.do(number, step, perform)
        else:
            lanes.setdefault(step.lane, []).append((number, step))
    _run_lanes(lanes, perform, outcome)


def _run_lanes(lanes: dict[str, list[Numbered]], perform: Perform, outcome: _Outcome) -> None:
    def run(lane: Sequence[Numbered]) -> None:
        for number, step in lane:
            outcome.do(number, step, perform)

    if len(lanes) < 2:
        for lane in lanes.values():
            run(lane)
        return
    with ThreadPoolExecutor(len(lanes)) as pool:
        for one in [pool.submit(run, lane) for lane in lanes.values()]:
            one.result()  # a fault of ours comes out here


def _whole(step: Step, trouble: Trouble) -> Trouble:
    """A trouble with all of its four parts: what its source did not know, the step adds."""
    trouble.device = trouble.device or step.device or "this host"
    trouble.wanted = trouble.wanted or "to %s" % step.text
    trouble.remedy = trouble.remedy or "Put that right (dmesg may say more), then run again."
    trouble.position = step.position
    return trouble


def _system_trouble(exc: OSError) -> Trouble:
    """What the system refused midway: the steps before it were done, and must be reported with it."""
    remedy = "Free space, processes or memory as the system says, then run again."
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "Run this as root (become: true); if it was, a read-only file system or a security module (dmesg) stands in the way."
    return Trouble(
        "the system refused it: %s%s" % (exc.strerror or exc, " (%s)" % exc.filename if exc.filename else ""),
        remedy=remedy,
        code="system_refused",
    )
