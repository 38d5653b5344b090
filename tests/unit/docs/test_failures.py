# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/failures.md names codes that the engine has, and each of its rows has one."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
ENGINE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins/module_utils/engine").rglob("*.py")))
ROWS = [line.split("|") for line in (ROOT / "docs/failures.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]


def test_there_are_the_fifteen():
    assert len(ROWS) == 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip()[:30])
def test_its_codes_are_in_the_engine(row):
    codes = re.findall(r"`([a-z_]+)`", row[3])
    assert codes and row[4].strip()
    for code in codes:
        assert '"%s"' % code in ENGINE, code
