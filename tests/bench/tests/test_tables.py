# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""What a reader is shown."""

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
    """A small bench."""
    return [
        Section(
            "One",
            [Row("apply", "apply | all", [apply, 9.0, 1.0]), Row("ping", "ping", [2.0], note="why"), Row("size", "payload", [20480], "bytes")],
            [Ratio("apply / ping", "apply", "ping", at_most=1.2), Ratio("told", "apply", "ping"), Ratio("gone", "apply", "nothing", at_most=1)],
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


def test_the_page_compares_with_the_record_before():
    text = performance_page.page(CONDITIONS, sections(3.0), (dict(CONDITIONS, commit="feed"), sections(8.0)))
    assert "| apply \\| all | 8.00 s | 3.00 s | 2.7× |" in text and "commit feed" in text
    assert "| ping | 2.00 s | 2.00 s" not in text, "what did not change is left out"
    assert text.count("### apply: phases") == 2
    alone = performance_page.page(CONDITIONS, sections(), None)
    assert "Before" not in alone and alone.count("### apply: phases") == 1


def test_check_sees_a_page_that_is_another_one(tmp_path, monkeypatch, capsys):
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"conditions": CONDITIONS, "sections": as_data(sections())}), encoding="utf-8")
    for name, path in (("RECORD", tmp_path / "kept.json"), ("BEFORE", tmp_path / "none.json"), ("PAGE", tmp_path / "page.md")):
        monkeypatch.setattr(performance_page, name, path)
    assert performance_page.main(["--take", str(record)]) == 0
    assert performance_page.main(["--check"]) == 0
    page = tmp_path / "page.md"
    page.write_text(page.read_text(encoding="utf-8").replace("not held", "held"), encoding="utf-8")
    assert performance_page.main(["--check"]) == 1 and "--take" in capsys.readouterr().out
