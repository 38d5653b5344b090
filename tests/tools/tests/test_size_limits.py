# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that no file exceeds a limit of size_limits.py, and that the tool detects breaches of each limit in a copy."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import size_limits  # noqa: E402


@pytest.fixture()
def copy(tmp_path: Path) -> Path:
    """Return a copy of plugins/module_utils."""
    folder = tmp_path / "module_utils"
    shutil.copytree(size_limits.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_nothing_is_over_a_limit() -> None:
    assert len(list(size_limits.FOLDER.rglob("*.py"))) > 100
    assert size_limits.breaches() == [] and size_limits.pages() == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("docs/one.md", "\n" * 251, ["docs/one.md:1: has more than 250 lines"]),
        ("docs/faults.md", "\n" * 251, []),
        ("README.md", "word " * 25_001, ["docs:1: the pages have 25001 words, more than 25000"]),
        ("README.md", "word - " * 25_000, []),
        ("tests/twin/README.md", "```yaml\n" + "a: 1 " * 12_501 + "\n```\n", ["docs:1: the pages have 25002 words, more than 25000"]),
        ("docs/one.md", "```text\n" + "word " * 25_001 + "\n```\n", []),
        ("docs/one.md", "<!-- Begin: x, written by y -->\n" + "word " * 25_001 + "\n<!-- End: x -->\n", []),
    ],
)
def test_limits_of_pages(tmp_path: Path, name: str, text: str, said: list[str]) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert size_limits.pages(tmp_path) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n" * 351, "has more than 350 lines"),
        ("def long():\n" + "    print()\n" * 60, "function long has more than 60 lines"),
        ("class One:\n    def long(self):\n" + "        print()\n" * 60, "function long has more than 60 lines"),
        ("print(1, 2, 3, 4, 5, 6)", "calls print with more than 5 positional arguments"),
        ("ONE = [dict.get(1, 2, 3, 4, 5, number, sep=0) for number in range(6)]", "calls dict.get with more than 5 positional arguments"),
    ],
)
def test_a_planted_breach_is_found(copy: Path, text: str, said: str) -> None:
    name = "engine/system/planted.py"
    (copy / name).write_text(text, encoding="utf-8")
    found = size_limits.breaches(copy)
    assert [one.partition(": ")[2] for one in found] == [said] and found[0].startswith(f"plugins/module_utils/{name}:")


@pytest.mark.parametrize("text", ["\n" * 350, "def fits():\n" + "    print()\n" * 59, "print(1, 2, 3, 4, 5, sep=6)"])
def test_what_is_at_a_limit_is_no_breach(copy: Path, text: str) -> None:
    (copy / "engine" / "system" / "planted.py").write_text(text, encoding="utf-8")
    assert size_limits.breaches(copy) == []


def test_an_exception_that_nothing_needs_is_a_breach() -> None:
    stale = ("engine/base/errors.py", "has more than 350 lines")
    found = size_limits.breaches(still=frozenset({*size_limits.STILL, stale}))
    assert found == ["engine/base/errors.py: has more than 350 lines: this exception is no longer needed. Remove the entry from STILL."]
