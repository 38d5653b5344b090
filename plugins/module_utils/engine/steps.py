# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a plan: what check mode lists and real mode does."""

from __future__ import annotations

import errno

from .errors import EngineError, Trouble


# The kind of a step that can't be done because its GPU fell off the bus.
LOST = "lost"


class Step:
    """One write.

    kind: what the executor does. gpu: address of the GPU that it belongs to (None: the host);
    after a failure the other GPUs' steps still run. device and text make the sentence that
    people read. args: what the executor needs.
    """

    def __init__(self, kind, gpu, device, text, **args):
        self.kind = kind
        self.gpu = gpu
        self.device = device
        self.text = text
        self.args = args
        self.position = 0  # in the plan; execute sets it

    def __str__(self):
        return "%s: %s" % (self.device, self.text) if self.device else self.text

    def __repr__(self):
        return "Step(%s, %s)" % (self.kind, self)


class ApplyError(EngineError):
    """Steps failed. done and not_done tell how far it came. Everything is in the plan's order, whatever failed or was noticed first."""

    def __init__(self, troubles, done, not_done):
        self.done = sorted(done, key=_position)
        self.not_done = sorted(not_done, key=_position)
        super().__init__(sorted(troubles, key=_position))

    def __str__(self):
        text = super().__str__()
        text += "\nDone: %s." % ("; ".join(map(str, self.done)) or "nothing")
        text += "\nNot done: %s." % "; ".join(map(str, self.not_done))
        return text + "\nRun again when the cause is gone: what is done stays."


def _position(one):
    return one.position


class _Outcome:
    """How the steps went, each by its place in the plan; the places keep the plan's order, whoever came first."""

    def __init__(self):
        self.done = {}
        self.not_done = {}
        self.troubles = {}
        self.failed = set()  # GPUs; None for the host

    def do(self, place, step, perform):
        """Does one step, or leaves it out where one before it failed."""
        if step.gpu in self.failed or None in self.failed:
            self.not_done[place] = step
            return
        try:
            if step.kind == LOST:
                raise EngineError(step.args["trouble"])
            perform(step)
            self.done[place] = step
        except (EngineError, OSError) as exc:
            self.troubles[place] = [_whole(step, one) for one in (exc.troubles if isinstance(exc, EngineError) else [_system_trouble(step, exc)])]
            self.failed.add(step.gpu)
            self.not_done[place] = step


def execute(steps, perform, side_by_side=False):
    """Runs perform(step) in order. A GPU's failure stops that GPU only; the host's stops all.

    side_by_side: each GPU's steps run in a thread of their own, between steps of the host. For what the kernel
    does for GPUs at the same time, and for a perform that shares nothing between them.
    """
    outcome = _Outcome()
    numbered = list(enumerate(steps))
    for place, step in numbered:
        step.position = place
    if side_by_side:
        _in_threads(numbered, perform, outcome)
    else:
        for place, step in numbered:
            outcome.do(place, step, perform)
    done, not_done = ([found[place] for place in sorted(found)] for found in (outcome.done, outcome.not_done))
    if outcome.troubles:
        raise ApplyError([one for place in sorted(outcome.troubles) for one in outcome.troubles[place]], done, not_done)
    return done


def _in_threads(numbered, perform, outcome):
    """The host's steps where they stand, those of the GPUs between them in threads."""
    lanes = {}
    for place, step in numbered:
        if step.gpu is None:
            _run_lanes(lanes, perform, outcome)
            lanes = {}
            outcome.do(place, step, perform)
        else:
            lanes.setdefault(step.gpu, []).append((place, step))
    _run_lanes(lanes, perform, outcome)


def _run_lanes(lanes, perform, outcome):
    def run(lane):
        for place, step in lane:
            outcome.do(place, step, perform)

    if len(lanes) < 2:
        for lane in lanes.values():
            run(lane)
        return
    from concurrent.futures import ThreadPoolExecutor  # here: a run that changes nothing does without it

    with ThreadPoolExecutor(len(lanes)) as pool:
        for one in [pool.submit(run, lane) for lane in lanes.values()]:
            one.result()  # a fault of ours comes out here


def _whole(step, trouble):
    """A trouble with all of its four parts: what the place that met it did not know, the step tells."""
    trouble.device = trouble.device or step.device or "this host"
    trouble.wanted = trouble.wanted or "to %s" % step.text
    trouble.remedy = trouble.remedy or "Put that right (dmesg may say more), then run again."
    trouble.position = step.position
    return trouble


def _system_trouble(step, exc):
    """What the system refused midway: the steps before it were done, and must be told with it."""
    remedy = "Free space, processes or memory as the system says, then run again."
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "Run this as root (become: true); if it was, a read-only file system or a security module (dmesg) stands in the way."
    return Trouble(
        "the system refused it: %s%s" % (exc.strerror or exc, " (%s)" % exc.filename if exc.filename else ""),
        remedy=remedy,
        code="system_refused",
    )
