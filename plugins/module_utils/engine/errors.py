# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors for people: which device, what was found, what was wanted, what to do."""

from __future__ import annotations


class Trouble:
    """One thing that is wrong.

    device: address, path or UUID that it is about (None for the whole host).
    found: what is there, as a clause. wanted: what should be there.
    remedy: what the operator can do, as a sentence.
    code: short machine-readable name.
    """

    def __init__(self, found, device=None, wanted=None, remedy=None, code="error"):
        self.device = device
        self.found = found
        self.wanted = wanted
        self.remedy = remedy
        self.code = code
        self.position = 0  # of its step in the plan

    def __str__(self):
        text = "%s: %s" % (self.device, self.found) if self.device else self.found
        if self.wanted:
            text += " (wanted: %s)" % self.wanted
        text += "."
        if self.remedy:
            text += " " + self.remedy
            if not text.endswith((".", "?", "!")):
                text += "."
        return text

    def __repr__(self):
        return "Trouble(%s)" % self

    def as_dict(self):
        """The trouble for a module's result."""
        return {
            "code": self.code,
            "device": self.device,
            "found": self.found,
            "wanted": self.wanted,
            "remedy": self.remedy,
        }


class EngineError(Exception):
    """One or more troubles; nothing else ever leaves the engine on purpose."""

    def __init__(self, troubles):
        if isinstance(troubles, Trouble):
            troubles = [troubles]
        self.troubles = list(troubles)
        super().__init__(str(self))

    def __str__(self):
        if len(self.troubles) == 1:
            return str(self.troubles[0])
        lines = ["%d problems:" % len(self.troubles)]
        lines += ["%d. %s" % (n, t) for n, t in enumerate(self.troubles, 1)]
        return "\n".join(lines)


def shown(value, most=60):
    """A value as people recognise it in a message: no longer than a line."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


def trouble(found, device=None, wanted=None, remedy=None, code="error"):
    """An EngineError with one trouble, to be raised."""
    return EngineError(Trouble(found, device, wanted, remedy, code))


def raise_if_any(troubles):
    """Raises all troubles at once, without repeating one that several checks found."""
    seen = []
    for one in troubles:
        if str(one) not in [str(s) for s in seen]:
            seen.append(one)
    if seen:
        raise EngineError(seen)
