# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures of the fault matrix: the machines, and the record of each row's result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

from machines import Machines  # noqa: E402  (the line above extends sys.path)
from table import ROWS  # noqa: E402

# Results of this run. page.py generates the page from the copy in the repository.
RECORD = HERE.parents[1] / ".build" / "faults" / "results.json"


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """Yield the machines of this run."""
    found = Machines()
    try:
        yield found
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            found.end()


class Results:
    """The results by row key. Each result is written immediately. A run of selected rows keeps the records of all other rows."""

    def __init__(self) -> None:
        self.kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}

    def write(self, key: str, record: dict[str, str] | None) -> None:
        """Replace the record of a row, or remove it if the record is None."""
        self.kept.pop(key, None)
        if record:
            self.kept[key] = record
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        shown = {row.key: self.kept[row.key] for row in ROWS if row.key in self.kept}
        RECORD.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def results() -> Results:
    """Return the record of this run."""
    return Results()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix as a table."""
    outcome = {}
    for word, name in (("passed", "ok"), ("failed", "FAILED"), ("error", "ERROR"), ("skipped", "skipped")):
        for report in terminalreporter.stats.get(word, []):
            if "[" in report.nodeid:
                outcome[report.nodeid.partition("[")[2].rstrip("]")] = (name, getattr(report, "duration", 0.0))
    shown = [row for row in ROWS if row.key in outcome]
    if not shown:
        return
    terminalreporter.section("fault matrix")
    for row in shown:
        name, seconds = outcome[row.key]
        terminalreporter.write_line(f"{name:8}{seconds:5.0f} s  {str(row.run):22}{row.fault}")
