# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Results of a bench: rows of measured values, ratios between their medians, and verdicts. This module only computes; it measures nothing."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

HELD = "held"
NOT_HELD = "not held"
NOT_MEASURED = "not measured"


@dataclass
class Row:
    """A measured quantity.

    key: unique name in the whole bench, which ratios refer to.
    what: description for readers.
    values: measured values, in order.
    unit: s, bytes, tasks or MiB.
    note: a remark for readers, for example that the value is calculated instead of measured.
    """

    key: str
    what: str
    values: list[float]
    unit: str = "s"
    note: str = ""

    @property
    def median(self) -> float:
        """Return the median of the row's values."""
        return statistics.median(self.values)


@dataclass
class Ratio:
    """A comparison of the medians of two rows: above / below. Without below, the median of the row above itself is judged.

    at_most and at_least are limits; a ratio without limits is only reported. least: the row of the same task without any work, the lower bound of `above`.
    """

    what: str
    above: str
    below: str = ""
    at_most: float | None = None
    at_least: float | None = None
    least: str = ""

    @property
    def limit(self) -> str:
        """Return the limit of the ratio as text."""
        sign = "×" if self.below else ""
        parts = [f"≤ {self.at_most:g}{sign}" if self.at_most is not None else "", f"≥ {self.at_least:g}{sign}" if self.at_least is not None else ""]
        return ", ".join(part for part in parts if part)


@dataclass
class Section:
    """A section of the report: rows on one subject.

    profiles: lines of (what, number, unit) by title, the largest number first.
    texts: longer texts by title.
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    profiles: dict[str, list[list]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    about: str = ""


@dataclass
class Verdict:
    """The result of a ratio. The value is None if a row was not measured."""

    ratio: Ratio
    value: float | None
    verdict: str


def judge(ratio: Ratio, rows: dict[str, Row]) -> Verdict:
    """Compare the medians of a ratio's rows with its limits."""
    above, below = rows.get(ratio.above), rows.get(ratio.below)
    if above is None or (ratio.below and below is None):
        return Verdict(ratio, None, NOT_MEASURED)
    if below is not None and not below.median:
        return Verdict(ratio, None, NOT_MEASURED)
    value = above.median / below.median if below is not None else above.median
    if not ratio.limit:
        return Verdict(ratio, value, "")
    held = (ratio.at_most is None or value <= ratio.at_most) and (ratio.at_least is None or value >= ratio.at_least)
    return Verdict(ratio, value, HELD if held else NOT_HELD)


def by_key(sections: list[Section]) -> dict[str, Row]:
    """Return all rows by key. Raises ValueError for two rows with the same key."""
    found: dict[str, Row] = {}
    for section in sections:
        for row in section.rows:
            if row.key in found:
                raise ValueError(f"two rows are called {row.key}")
            if not row.values:
                raise ValueError(f"the row {row.key} has no value")
            found[row.key] = row
    return found


def verdicts(sections: list[Section]) -> list[Verdict]:
    """Return the verdicts on all ratios."""
    rows = by_key(sections)
    return [judge(ratio, rows) for section in sections for ratio in section.ratios]


def broken(sections: list[Section]) -> list[Verdict]:
    """Return the verdicts on measured ratios that exceed a limit."""
    return [one for one in verdicts(sections) if one.verdict == NOT_HELD]


def as_data(sections: list[Section]) -> list[dict]:
    """Return the sections as data for results.json, with medians and verdicts added for its readers."""
    rows = by_key(sections)
    data = []
    for section in sections:
        told = asdict(section)
        for row, values in zip(section.rows, told["rows"]):
            values["median"] = row.median
        for ratio, values in zip(section.ratios, told["ratios"]):
            came = judge(ratio, rows)
            values.update(value=came.value, verdict=came.verdict)
        data.append(told)
    return data


def from_data(data: list[dict]) -> list[Section]:
    """Return the sections from the data that as_data returned."""
    sections = []
    for told in data:
        rows = [Row(**{key: one[key] for key in ("key", "what", "values", "unit", "note")}) for one in told["rows"]]
        ratios = [Ratio(**{key: one[key] for key in ("what", "above", "below", "at_most", "at_least", "least")}) for one in told["ratios"]]
        sections.append(Section(told["title"], rows, ratios, told["profiles"], told["texts"], told["about"]))
    return sections
