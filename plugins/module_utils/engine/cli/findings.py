# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups similar problems for output, with the most severe problems first. The output counts consequences, but does not list each consequence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Problem, Refusal

# The maximum number of devices that a finding names.
MOST = 8


@dataclass(eq=False, repr=False)
class Finding:
    """Problems with the same severity, code, and remedy. *effects* counts the consequences of the problems by code."""

    severity: str
    errors: list[Refusal] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)

    @property
    def first(self) -> Refusal:
        """The first problem of the finding. All problems of a finding have the same code and remedy."""
        return self.errors[0]

    @property
    def consequences(self) -> str:
        """The consequences as text, or an empty string if the finding has no consequences."""
        return ", ".join("%d %s" % (self.effects[code], code) for code in sorted(self.effects))


def grouped(found: Sequence[Problem]) -> list[Finding]:
    """Returns the findings for problems from health.judged(). Each consequence is counted in the first finding with the code of its root cause."""
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
    """Returns the names of up to MOST devices on one line, and the number of remaining devices."""
    names = [one.device or "this host" for one in errors[:MOST]]
    return ", ".join(names) + (", and %d more" % (len(errors) - MOST) if len(errors) > MOST else "")
