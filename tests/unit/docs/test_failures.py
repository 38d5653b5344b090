# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/failures.md names codes that the engine has, and each of its rows has one."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
ENGINE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins/module_utils/engine").rglob("*.py")))
ROWS = [line.split("|") for line in (ROOT / "docs/failures.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
FAILURES = [row for row in ROWS if len(row) == 6][1:]
WORDS = [row for row in ROWS if len(row) == 5][1:]  # of logs


def test_there_are_the_fifteen_and_the_words_of_logs():
    assert len(FAILURES) == 15 and len(WORDS) >= 20 and len(FAILURES) + len(WORDS) + 2 == len(ROWS)
    assert all(row[4].strip() for row in FAILURES)


@pytest.mark.parametrize("row", FAILURES + WORDS, ids=lambda row: row[1].strip()[:30])
def test_its_codes_are_in_the_engine(row):
    codes = re.findall(r"`([a-z_]+)`", row[3])
    assert codes
    for code in codes:
        assert '"%s"' % code in ENGINE, code
