# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the reports and tables of the bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import performance_page  # noqa: E402
from rows import Ratio, Row, Section, as_data  # noqa: E402
from tables import number, report, times  # noqa: E402

CONDITIONS = {"commit": "0123456789", "date": "2026-01-01", "controller": "2 cores"}


def sections(apply: float = 3.0) -> list[Section]:
    """Return the sections of a small bench."""
    return [
        Section(
            "One",
            [Row("apply", "apply | all", [apply, 9.0, 1.0]), Row("ping", "ping", [2.0], note="why"), Row("size", "payload", [20480], "bytes")],
            [Ratio("apply / ping", "apply", "ping", at_most=1.2, least="ping"), Ratio("told", "apply", "ping"), Ratio("gone", "apply", "nothing", at_most=1)],
            {"apply: phases": [["reads", 1.25, "s"]]},
        )
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.734, "s", "0.73 s"), (12.34, "s", "12.3 s"), (445.2, "s", "445 s"), (326609, "bytes", "319 KiB"), (8, "tasks", "8 tasks"), (91.4, "MiB", "91 MiB")],
)
def test_numbers_have_the_digits_that_mean_something(value, unit, text):
    assert number(value, unit) == text


def test_ratios_are_short():
    assert [times(one) for one in (0.5, 1.234, 9.87, 31.2)] == ["0.50×", "1.23×", "9.9×", "31×"]


def test_the_report_has_conditions_medians_and_verdicts():
    text = report(CONDITIONS, sections())
    for line in (
        "* controller: 2 cores",
        "| apply \\| all | 3.00 s | 1.00 s … 9.00 s | 3 |",
        "| ping (why) | 2.00 s |  | 1 |",
        "| apply / ping | 1.50× | ≤ 1.2× | **not held** |",
        "| told | 1.50× |  |  |",
        "| gone | — | ≤ 1× | not measured |",
        "| reads | 1.25 s |",
    ):
        assert line in text.splitlines(), text
    assert "| apply / ping | 0.50× | ≤ 1.2× | held |" in report(CONDITIONS, sections(1.0))


def record(apply: float = 3.0, title: str = "One") -> dict:
    """Return a run in the form in which the bench writes it."""
    made = sections(apply)
    made[0].title = title
    return {"conditions": CONDITIONS, "sections": as_data(made)}


@pytest.fixture(name="repository")
def fixture_repository(tmp_path, monkeypatch):
    """Return a function that calls performance_page.py with its own record and page. It takes a run, or checks the page."""
    for name, path in (("RECORD", tmp_path / "kept.json"), ("PAGE", tmp_path / "page.md")):
        monkeypatch.setattr(performance_page, name, path)

    def call(run: dict | None = None) -> int:
        if run is None:
            return performance_page.main(["--check"])
        (tmp_path / "results.json").write_text(json.dumps(run), encoding="utf-8")
        return performance_page.main(["--take", str(tmp_path / "results.json")])

    call.page = tmp_path / "page.md"
    return call


def test_the_page_has_what_was_asked_and_nothing_else(repository):
    assert repository(record()) == 0
    text = repository.page.read_text(encoding="utf-8")
    assert "| apply / ping | **1.50×** | ≤ 1.2× | 1.00× |" in text and "One (2026-01-01, commit 0123456789; 2 cores):" in text
    for word in ("told", "gone", "payload", "phases"):
        assert word not in text, word


def test_a_run_replaces_its_parts_and_no_others(repository):
    for run in (record(), record(8.0, "Two"), record(1.0)):
        assert repository(run) == 0
    text = repository.page.read_text(encoding="utf-8")
    assert text.index("Two (") < text.index("One (") and text.count("apply / ping") == 2 and "| apply / ping | 0.50× | ≤ 1.2× |" in text


def test_check_sees_a_page_that_is_another_one(repository, capsys):
    assert repository(record()) == 0 and repository() == 0
    repository.page.write_text(repository.page.read_text(encoding="utf-8").replace("1.50", "1.10"), encoding="utf-8")
    assert repository() == 1 and "--take" in capsys.readouterr().out
