# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of symptoms name only codes of the engine, and each of their rows has a code."""

from __future__ import annotations

import pathlib

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
ENGINE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins/module_utils/engine").rglob("*.py")))
TABLES = yaml.safe_load((ROOT / "tests/tools/symptoms.yml").read_text(encoding="utf-8"))
FAILURES, WORDS = TABLES["symptoms"], TABLES["lines"]  # WORDS are lines that occur in logs


def test_there_are_the_fifteen_and_the_words_of_logs():
    assert len(FAILURES) == 15 and len(WORDS) >= 20
    assert all(row["by"] in ("read", "run", "read, run", "run, read") for row in FAILURES)


@pytest.mark.parametrize("row", FAILURES + WORDS, ids=lambda row: row["sign"][:30])
def test_its_codes_are_in_the_engine(row):
    assert row["cause"] and row["codes"]
    for code in row["codes"]:
        assert '"%s"' % code in ENGINE, code
