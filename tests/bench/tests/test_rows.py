# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of medians, ratios and verdicts, on which the bench's judgments rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rows import HELD, NOT_HELD, NOT_MEASURED, Ratio, Row, Section, as_data, broken, by_key, from_data, judge, verdicts  # noqa: E402
from settings import Settings, spread  # noqa: E402


def rows(**values: list[float]) -> dict[str, Row]:
    """Return rows of the bench by key."""
    return {key: Row(key, key, given) for key, given in values.items()}


def test_the_median_counts_and_not_the_mean():
    assert Row("a", "a", [1, 2, 90]).median == 2
    assert Row("a", "a", [4, 1]).median == 2.5


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({"at_most": 2}, HELD),
        ({"at_most": 1.99}, NOT_HELD),
        ({"at_least": 2}, HELD),
        ({"at_least": 2.01}, NOT_HELD),
        ({"at_least": 1, "at_most": 3}, HELD),
        ({"at_least": 1, "at_most": 1.5}, NOT_HELD),
        ({}, ""),
    ],
)
def test_a_ratio_is_judged_by_its_limits(limits, verdict):
    came = judge(Ratio("r", "a", "b", **limits), rows(a=[6, 4, 8], b=[3]))
    assert came.value == 2 and came.verdict == verdict


def test_a_row_may_have_a_limit_of_its_own():
    assert judge(Ratio("r", "a", at_most=8), rows(a=[8])).verdict == HELD
    assert judge(Ratio("r", "a", at_most=8), rows(a=[9])).verdict == NOT_HELD


@pytest.mark.parametrize("found", [{}, {"a": [1]}, {"b": [1]}, {"a": [1], "b": [0]}])
def test_what_was_not_measured_is_not_called_held(found):
    came = judge(Ratio("r", "a", "b", at_most=99), rows(**found))
    assert came.verdict == NOT_MEASURED and came.value is None


def test_rows_of_the_same_key_and_rows_without_values_are_faults():
    with pytest.raises(ValueError, match="two rows are called a"):
        by_key([Section("x", [Row("a", "a", [1])]), Section("y", [Row("a", "a", [1])])])
    with pytest.raises(ValueError, match="a has no value"):
        by_key([Section("x", [Row("a", "a", [])])])


def test_ratios_reach_over_sections_and_only_what_does_not_hold_is_broken():
    sections = [
        Section("x", [Row("a", "a", [3])], [Ratio("good", "a", "b", at_most=3), Ratio("told", "a", "b"), Ratio("absent", "a", "c", at_most=1)]),
        Section("y", [Row("b", "b", [1])], [Ratio("bad", "a", "b", at_most=2)]),
    ]
    assert [one.verdict for one in verdicts(sections)] == [HELD, "", NOT_MEASURED, NOT_HELD]
    assert [one.ratio.what for one in broken(sections)] == ["bad"]


def test_results_are_read_as_they_were_written():
    section = Section("x", [Row("a", "a", [1, 3, 2], "tasks", "n")], [Ratio("r", "a", at_most=1)], {"p": [["w", 1.5, "s"]]}, {"t": "text"}, "about")
    data = json.loads(json.dumps(as_data([section])))
    assert data[0]["rows"][0]["median"] == 2 and data[0]["ratios"][0]["verdict"] == NOT_HELD and data[0]["ratios"][0]["value"] == 2
    assert from_data(data) == [section]


def test_vgpus_spread_evenly():
    assert spread(2) == {"0000:67:00.0": 1, "0000:68:00.0": 1}
    assert spread(128, ("e7", "e8"))["0000:e8:00.0"] == 64
    for size in Settings().sizes:
        assert sum(spread(size).values()) == size
    with pytest.raises(ValueError, match="evenly"):
        spread(12)
