# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs each row of the fault matrix on a booted twin."""

from __future__ import annotations

import pytest
from harness import take
from machines import STARTS
from table import ROWS

_ORDER = list(STARTS)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.key, marks=[pytest.mark.short] if row.short else [])
        for row in sorted(ROWS, key=lambda row: _ORDER.index(row.machine))
    ],
)
def test_fault(row, machines, results):
    results.write(row.key, None)
    results.write(row.key, take(machines, row))
