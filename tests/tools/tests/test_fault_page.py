# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the page of faults matches the matrix and its record, and that the tool reports a missing or incomplete record of a fault."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fault_page  # noqa: E402  (the line above extends sys.path)


@pytest.fixture
def records():
    return json.loads(fault_page.RECORD.read_text(encoding="utf-8"))


def test_the_page_is_what_the_record_makes():
    assert fault_page.main(["--check"]) == 0


def test_another_message_in_a_run_is_found(records, tmp_path, capsys):
    key = next(key for key, record in records.items() if record["seen"])
    records[key]["seen"] += " And more."
    run = tmp_path / "results.json"
    run.write_text(json.dumps(records), encoding="utf-8")
    assert fault_page.main(["--check", "--run", str(run)]) == 1
    assert "And more." in capsys.readouterr().out


def test_a_row_without_a_record_is_found(records, tmp_path, capsys):
    key = sorted(records)[0]
    del records[key]
    run = tmp_path / "results.json"
    run.write_text(json.dumps(records), encoding="utf-8")
    assert fault_page.main(["--check", "--run", str(run)]) == 1
    assert key in capsys.readouterr().out


def test_keys_name_one_row_each():
    keys = [row.key for rows in fault_page.STAGES.values() for row in rows]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("part", ["device", "found", "expected", "remedy"])
def test_a_fault_must_be_told_whole(part):
    row = next(row for rows in fault_page.STAGES.values() for row in rows if not row.heals)
    with pytest.raises(ValueError, match=row.key):
        dataclasses.replace(row, **{part: () if part == "found" else ""})
