# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors for people: which device, what was found, what was expected, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable


@dataclass(eq=False)
class Trouble:
    """One thing that is wrong."""

    found: str  # what is there, as a clause
    device: str | None = None  # address, path or UUID that it is about; None for the whole host
    wanted: str | None = None  # what should be there
    remedy: str | None = None  # what the operator can do, as a sentence
    code: str = "error"  # short machine-readable name
    position: int = 0  # of its step in the plan

    def __str__(self) -> str:
        text = "%s: %s" % (self.device, self.found) if self.device else self.found
        text += " (wanted: %s)." % self.wanted if self.wanted else "."
        if self.remedy:
            text += " " + self.remedy + ("" if self.remedy.endswith((".", "?", "!")) else ".")
        return text

    def as_dict(self) -> dict[str, str | None]:
        """For a module's result."""
        return {name: getattr(self, name) for name in ("code", "device", "found", "wanted", "remedy")}


@dataclass(eq=False)
class Problem:
    """A trouble with a severity: error (vGPUs can't work) or warning (they will not for long)."""

    trouble: Trouble
    severity: str = "error"

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return dict(self.trouble.as_dict(), severity=self.severity)


class EngineError(Exception):
    """One or more troubles; nothing else ever leaves the engine on purpose."""

    def __init__(self, troubles: Trouble | Iterable[Trouble]) -> None:
        self.troubles = [troubles] if isinstance(troubles, Trouble) else list(troubles)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.troubles) == 1:
            return str(self.troubles[0])
        return "\n".join(["%d problems:" % len(self.troubles)] + ["%d. %s" % one for one in enumerate(self.troubles, 1)])


def shown(value: object, most: int = 60) -> str:
    """A value as people recognize it in a message: no longer than a line."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


def trouble(found: str, device: str | None = None, wanted: str | None = None, remedy: str | None = None, code: str = "error") -> EngineError:
    """An EngineError with one trouble, to be raised."""
    return EngineError(Trouble(found, device, wanted, remedy, code))


def raise_if_any(troubles: Iterable[Trouble]) -> None:
    """Raises all troubles at once, without repeating one that several checks found."""
    unique: dict[str, Trouble] = {}
    for one in troubles:
        unique.setdefault(str(one), one)
    if unique:
        raise EngineError(unique.values())
