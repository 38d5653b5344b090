# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of gpu_tables.py with small lists: the columns that the tool updates, and the columns that it leaves unchanged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gpu_tables  # noqa: E402

BOARDS = '''# hand-written
BOARDS = """\\
1db6 | V100 | Tesla V100-PCIE-32GB | Volta | 32 |  | V100D |
9999:0001 | X200 | NVIDIA X200 | Rubin | 1 | VF |  |
9999 | X100 | Placeholder | Rubin | 1 | VF | X100 |
8888 | Y1 | NVIDIA Y1 | Rubin | 1 | VF |  |
"""

# profiles
PROFILES = """\\
"""
LIMITS = """\\
"""
'''
GUESTS = 'TYPES = """\\\n"""\n\n\ndef kept():\n    pass\n'
GPUS = """# comment
9999\t0001\t10de\tNVIDIA X200
9999\t0002\t10de\tNVIDIA X100 NVL
9999\t0003\t10de\tNVIDIA X100-24
"""
TYPES = """8888\tb001\tNVIDIA Y1-4C
8888\tb002\tNVIDIA Y1-24C
8888\tb003\tNVIDIA Y1-1-12C
"""
COUNTS = "Y1-4C\t6\nY1-8C\t2\nY1-24C\t1\nY1-1-12C\t2\nY1-1-12CME\t1\nY1-2-24C\t1\n"


@pytest.fixture()
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return small tables of GPUs, and lists to update them from."""
    for name, text in (("boards.py", BOARDS), ("guest_types.py", GUESTS), ("gpus", GPUS), ("types", TYPES), ("counts", COUNTS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(gpu_tables, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_tables, "HARDWARE", tmp_path)
    return tmp_path


def run(here: Path, *more: str) -> int:
    return gpu_tables.main([*(str(here / name) for name in ("gpus", "types", "counts")), *more])


def test_what_the_lists_know_is_set_and_the_rest_is_left(here: Path) -> None:
    assert run(here) == 0
    boards = (here / "boards.py").read_text(encoding="utf-8")
    assert gpu_tables.block(boards, "BOARDS")[1].splitlines() == [
        "1db6 | V100 | Tesla V100-PCIE-32GB | Volta | 32 |  | V100D |",
        "9999:0001 | X200 | NVIDIA X200 | Rubin | 1 | VF |  |",
        "9999 | X100 | NVIDIA X100 NVL | Rubin | 1 | VF | X100 |",
        "8888 | Y1 | NVIDIA Y1 | Rubin | 24 | VF | Y1 | 2x24",
    ]
    assert gpu_tables.block(boards, "PROFILES")[1] == "2x24: 1g.12gb*2 1g.12gb+me*1 2g.24gb*1\n"
    assert gpu_tables.block(boards, "LIMITS")[1] == "Y1-8C*2\n", "only the framebuffer limits the other types"
    assert boards.startswith("# hand-written\n") and "# profiles\n" in boards
    guests = (here / "guest_types.py").read_text(encoding="utf-8")
    assert gpu_tables.block(guests, "TYPES")[1] == "8888 NVIDIA Y1: b001=4C b002=24C b003=1-12C\n9999 NVIDIA X100: 0003=24\n"
    assert guests.endswith("def kept():\n    pass\n")


def test_check_changes_nothing_and_finds_what_differs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(here, "--check") == 1
    assert (here / "boards.py").read_text(encoding="utf-8") == BOARDS
    assert "boards.py differs from the lists" in capsys.readouterr().out
    run(here)
    assert run(here, "--check") == 0 and run(here) == 0


def test_a_name_that_is_no_type_ends_it(here: Path) -> None:
    (here / "types").write_text("8888\tb001\tNVIDIA Y1\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="NVIDIA Y1 is not the name of a vGPU type"):
        run(here)
