# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems as a person reads them: those of one kind together, the worst first, what follows from them as a number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Problem, Refusal

# Devices that one finding names.
MOST = 8


@dataclass(eq=False, repr=False)
class Finding:
    """Problems that have a severity, a code and a remedy in common. effects: codes of what follows from them, and how often."""

    severity: str
    errors: list[Refusal] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)

    @property
    def first(self) -> Refusal:
        """One of them; the others have the same code and remedy."""
        return self.errors[0]

    @property
    def consequences(self) -> str:
        """What follows, as words; empty if nothing does."""
        return ", ".join("%d %s" % (self.effects[code], code) for code in sorted(self.effects))


def grouped(found: Sequence[Problem]) -> list[Finding]:
    """Findings of judged problems. What follows from a problem is counted with the first finding that has its code."""
    groups: dict[tuple[str, str, str], Finding] = {}
    for one in found:
        if not one.follows:
            key = (one.severity, one.error.code, one.error.remedy or "")
            groups.setdefault(key, Finding(one.severity)).errors.append(one.error)
    for one in found:
        if one.follows:
            root = next(group for (dummy, code, dummy), group in groups.items() if code == one.follows)
            root.effects[one.error.code] += 1
    return sorted(groups.values(), key=lambda one: one.severity != "error")


def more(errors: Sequence[Refusal]) -> str:
    """Devices by name, as many as a line bears."""
    names = [one.device or "this host" for one in errors[:MOST]]
    return ", ".join(names) + (", and %d more" % (len(errors) - MOST) if len(errors) > MOST else "")
