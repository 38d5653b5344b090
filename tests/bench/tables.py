# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Formats the results of a bench as Markdown."""

from __future__ import annotations

from rows import NOT_HELD, Ratio, Row, Section, Verdict, by_key, judge, verdicts


def number(value: float, unit: str) -> str:
    """Return a value with its unit, rounded to the significant digits."""
    if unit == "s":
        return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"
    if unit == "bytes":
        return f"{value / 1024:.0f} KiB" if value >= 10240 else f"{value:.0f} bytes"
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:g}" + (f" {unit}" if unit else "")


def spread(row: Row) -> str:
    """Return the range of a row's values, or an empty text for a single value."""
    if len(row.values) < 2:
        return ""
    return f"{number(min(row.values), row.unit)} … {number(max(row.values), row.unit)}"


def times(value: float) -> str:
    """Return a ratio as text, such as 1.50×."""
    return f"{value:.0f}×" if value >= 20 else f"{value:.1f}×" if value >= 2 else f"{value:.2f}×"


def write_table(head: list[str], lines: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    cells = [head, ["---"] * len(head), *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]


def rows_table(section: Section) -> list[str]:
    """Return a table of the medians of a section's rows."""
    lines = []
    for row in section.rows:
        lines.append([row.what + (f" ({row.note})" if row.note else ""), number(row.median, row.unit), spread(row), str(len(row.values))])
    return write_table(["measured", "median", "from … to", "runs"], lines)


def found(came: Verdict, rows: dict[str, Row]) -> str:
    """Return a ratio's value as text."""
    if came.value is None:
        return "—"
    return times(came.value) if came.ratio.below else number(came.value, rows[came.ratio.above].unit)


def ratios_table(sections: list[Section], section: Section) -> list[str]:
    """Return a table of a section's ratios. Their rows may be in other sections."""
    rows = by_key(sections)
    lines = []
    for ratio in section.ratios:
        came = judge(ratio, rows)
        verdict = came.verdict if ratio.limit or came.value is None else ""
        lines.append([ratio.what, found(came, rows), ratio.limit, f"**{verdict}**" if verdict == NOT_HELD else verdict])
    return write_table(["compared", "found", "limit", ""], lines)


def judged_table(sections: list[Section]) -> list[str]:
    """Return a table of all sections' ratios that have a limit and were measured. Values over a limit are bold."""
    rows = by_key(sections)
    lines = []
    for came in verdicts(sections):
        if came.ratio.limit and came.value is not None:
            value = found(came, rows)
            least = judge(Ratio("", came.ratio.least, came.ratio.below), rows)
            shown = f"**{value}**" if came.verdict == NOT_HELD else value
            lines.append([came.ratio.what, shown, came.ratio.limit, found(least, rows) if came.ratio.least else ""])
    return write_table(["compared", "found", "limit", "least possible"], lines)


def profile_table(lines: list[list]) -> list[str]:
    """Return a table of a profile, which has lines of (what, number, unit)."""
    return write_table(["where", "time or number"], [[str(what), number(value, unit)] for what, value, unit in lines])


def conditions_list(conditions: dict) -> list[str]:
    """Return the conditions of the bench's run as a Markdown list."""
    return [f"* {key}: {value}" for key, value in conditions.items()]


def section_text(sections: list[Section], section: Section, level: int = 2) -> list[str]:
    """Return one section without its profiles."""
    text = ["#" * level + " " + section.title, ""]
    if section.about:
        text += [section.about, ""]
    if section.rows:
        text += [*rows_table(section), ""]
    if section.ratios:
        text += [*ratios_table(sections, section), ""]
    return text


def profiles_text(section: Section, level: int = 3) -> list[str]:
    """Return a section's profiles."""
    text = []
    for title, lines in section.profiles.items():
        text += ["#" * level + " " + title, "", *profile_table(lines), ""]
    return text


def report(conditions: dict, sections: list[Section]) -> str:
    """Return the whole report of the bench."""
    text = [*conditions_list(conditions), ""]
    for section in sections:
        text += section_text(sections, section)
        text += profiles_text(section)
    return "\n".join(text)
