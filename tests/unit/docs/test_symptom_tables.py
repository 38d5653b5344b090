# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that each row in the tables of symptoms has a code, and that the engine uses each code."""

from __future__ import annotations

import pathlib

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
ENGINE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins/module_utils/engine").rglob("*.py")))
TABLES = yaml.safe_load((ROOT / "tests/tools/symptoms.yml").read_text(encoding="utf-8"))
FAILURES, WORDS = TABLES["symptoms"], TABLES["lines"]  # WORDS are log lines


def test_there_are_the_fifteen_and_the_words_of_logs():
    assert len(FAILURES) == 15 and len(WORDS) >= 20
    assert all(row["by"] in ("read", "run", "read, run", "run, read") for row in FAILURES)


@pytest.mark.parametrize("row", FAILURES + WORDS, ids=lambda row: row["sign"][:30])
def test_its_codes_are_in_the_engine(row):
    assert row["cause"] and row["codes"]
    for code in row["codes"]:
        assert '"%s"' % code in ENGINE, code
