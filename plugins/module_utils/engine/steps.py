# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a plan: what check mode lists and real mode does."""

from __future__ import annotations

from .errors import EngineError


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

    def __str__(self):
        return "%s: %s" % (self.device, self.text) if self.device else self.text

    def __repr__(self):
        return "Step(%s, %s)" % (self.kind, self)


class ApplyError(EngineError):
    """Steps failed. done and not_done tell how far it came."""

    def __init__(self, troubles, done, not_done):
        self.done = done
        self.not_done = not_done
        super().__init__(troubles)

    def __str__(self):
        text = super().__str__()
        text += "\nDone: %s." % ("; ".join(map(str, self.done)) or "nothing")
        text += "\nNot done: %s." % "; ".join(map(str, self.not_done))
        return text + "\nRun again when the cause is gone: what is done stays."


def execute(steps, perform):
    """Runs perform(step) in order. A GPU's failure stops that GPU only; the host's stops all."""
    done, not_done, troubles, failed = [], [], [], set()
    for step in steps:
        if step.gpu in failed or None in failed:
            not_done.append(step)
            continue
        try:
            perform(step)
            done.append(step)
        except EngineError as exc:
            troubles += exc.troubles
            failed.add(step.gpu)
            not_done.append(step)
    if troubles:
        raise ApplyError(troubles, done, not_done)
    return done
