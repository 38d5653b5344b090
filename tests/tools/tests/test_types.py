# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that mypy detects breaches of mypy.ini in a copy of one directory. The session lint checks all directories."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "tests" / "tools" / "mypy.ini"
BASE = Path("plugins", "module_utils", "engine", "base")


@pytest.fixture()
def copy(tmp_path: Path) -> Path:
    """Return a repository with only the engine's lowest directory."""
    (tmp_path / BASE).mkdir(parents=True)
    for path in (ROOT / BASE).glob("*.py"):
        shutil.copy(path, tmp_path / BASE)
    return tmp_path


def mypy(folder: Path) -> tuple[int, str]:
    """Run mypy as session lint does. Return its exit status and output."""
    answer = subprocess.run([sys.executable, "-m", "mypy", "--config-file", str(CONFIG)], cwd=folder, check=False, stdout=subprocess.PIPE, text=True)
    return answer.returncode, answer.stdout


def test_planted_breaches_are_found(copy: Path) -> None:
    """mypy reports a function without types, a wrong type, and a method that Python 3.8 lacks."""
    assert mypy(copy)[0] == 0
    planted = 'def planted(word):\n    return word\n\n\nPLANTED: int = number("1")\nNEWER = "one".removeprefix("o")\n'
    with open(copy / BASE / "numbers.py", "a", encoding="utf-8") as handle:
        handle.write("\n\n" + planted)
    status, out = mypy(copy)
    assert status and out.count("error:") == 3, out
    for said in ("Function is missing a type annotation", "Incompatible types in assignment", 'has no attribute "removeprefix"'):
        assert said in out
