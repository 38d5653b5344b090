# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests calls to the library of Fabric Manager. A compiled stand-in uses the structs that NVIDIA documents."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libnvfm

SOURCE = Path(__file__).resolve().parents[4] / "fake/libnvfm.c"
GCC = shutil.which("gcc") or shutil.which("cc")
pytestmark = pytest.mark.skipif(GCC is None, reason="requires a C compiler")
# The partitions of an HGX H100, H200, or H20 board, as listed in NVIDIA's guide.
BOARD = ["1 2 3 4 5 6 7 8", "1 2 3 4", "5 6 7 8", "1 3", "2 4", "5 7", "6 8", *map(str, range(1, 9))]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Returns the paths of the stand-in libraries, by the version of the fmConnect parameters that each library accepts."""
    folder = tmp_path_factory.mktemp("libnvfm")
    found = {}
    for version in (1, 2):
        found[version] = str(folder / ("libnvfm%d.so.1" % version))
        subprocess.run([GCC, "-shared", "-fPIC", "-DCONNECT=%d" % version, "-o", found[version], str(SOURCE)], check=True)
    return found


@pytest.fixture
def board(tmp_path):
    """Returns the file that simulates Fabric Manager. No partition is active."""
    path = tmp_path / "fm"
    path.write_text("".join("%d 0 %s\n" % (number, gpus) for number, gpus in enumerate(BOARD)))
    return path


def log(board):
    return Path(str(board) + ".log").read_text().splitlines()


@pytest.mark.parametrize("version", [1, 2])
def test_partitions_are_read_and_activated_with_either_version_of_the_library(libraries, board, version):
    answer = libnvfm.ask(libraries[version], str(board), [("partitions",), ("failed",)], 20)
    assert (answer.status, answer.unusable, answer.ended) == (0, "", True)
    assert len(answer.rows) == 16
    assert answer.rows[3] == [3, False, [[1, ""], [3, ""]]]
    assert answer.rows[-1] == ["gpu", "00000000:1B:00.0", "", [4, 17]]
    assert libnvfm.ask(libraries[version], str(board), [("activate", 3, [(0, 0x1B, 0, 4), (0x10000, 0xC3, 0, 5)])], 20).status == 0
    assert log(board) == ["activate 3 0000:1b:00.4 10000:c3:00.5"]
    assert libnvfm.ask(libraries[version], str(board), [("partitions",)], 20).rows[3][1] is True
    again = libnvfm.ask(libraries[version], str(board), [("activate", 7, [(0, 0x1B, 0, 4)]), ("partitions",)], 20)
    assert (again.status, again.call, again.rows) == (libnvfm.IN_USE, "fmActivateFabricPartitionWithVFs", []), "partition 3 already uses the GPU"
    assert libnvfm.ask(libraries[version], str(board), [("deactivate", 3), ("deactivate", 3)], 20).status == libnvfm.UNINITIALIZED
    assert libnvfm.ask(libraries[version], str(board), [("set", [7, 9])], 20).status == 0
    assert [row[0] for row in libnvfm.ask(libraries[version], str(board), [("partitions",)], 20).rows if row[1]] == [7, 9]


def test_one_vf_too_many_is_a_bad_parameter(libraries, board):
    answer = libnvfm.ask(libraries[2], str(board), [("activate", 7, [(0, 1, 0, 4), (0, 1, 0, 5)])], 20)
    assert libnvfm.NAMES[answer.status] == "FM_ST_BADPARAM"


@pytest.mark.parametrize("status", [libnvfm.NOT_CONFIGURED, libnvfm.NOT_SUPPORTED, -2])
def test_a_status_ends_the_session(libraries, board, status):
    board.write_text("status %d\n" % status)
    answer = libnvfm.ask(libraries[2], str(board), [("partitions",)], 20)
    assert (answer.status, answer.call, answer.rows) == (status, "fmGetSupportedFabricPartitions", [])


def test_what_can_not_be_used_says_why(libraries, board, tmp_path):
    (tmp_path / "empty").write_text("")
    assert "empty" in libnvfm.ask(str(tmp_path / "empty"), str(board), [("partitions",)], 20).unusable
    assert libnvfm.ask(libraries[2], str(tmp_path / "nobody"), [("partitions",)], 20).status == libnvfm.NO_CONNECTION


def test_a_library_that_hangs_is_left_behind(libraries, board):
    board.write_text("hang\n")
    assert libnvfm.ask(libraries[2], str(board), [("partitions",)], 0.5).ended is False
