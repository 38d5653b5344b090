# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the twins' bytecode cache for modules in archives: a source is compiled once, and a changed source is compiled again."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from twinlib import paths

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import twin_compiled
twin_compiled.FOLDER = sys.argv[2]
compiled, true = [], twin_compiled._compile
twin_compiled._compile = lambda path, source: compiled.append(path) or true(path, source)
sys.path.insert(0, sys.argv[3])
import package.one
print(json.dumps([package.one.ANSWER, package.one.function.__code__.co_filename, len(compiled)]))
"""
SOURCE = "ANSWER = 42\n\n\ndef function():\n    return [one for one in (1, 2)]\n"


class Archives:
    """A directory for bytecode, and archives with modules for import."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept, self.made = folder, folder / "kept", 0

    def imported(self, source: str) -> tuple[int, bool, int]:
        """Import a source from a new archive. Return (its ANSWER, whether its code names this archive, number of compiled files)."""
        self.made += 1
        archive = self.folder / f"payload-{self.made}.zip"
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr("package/__init__.py", "")
            files.writestr("package/one.py", source)
        words = [sys.executable, "-B", "-c", PROGRAM, str(paths.IMAGE / "rootfs/usr/lib/python3/dist-packages"), str(self.kept), str(archive)]
        answer, path, compiled = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
        return answer, path == f"{archive}/package/one.py", compiled


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    return Archives(tmp_path)


def test_the_same_source_is_compiled_once(archives: Archives) -> None:
    assert archives.imported(SOURCE) == (42, True, 2)
    assert archives.imported(SOURCE) == (42, True, 0), "no file must be compiled, and the code must name its new archive"
    assert [path for path in archives.kept.iterdir() if path.suffix.lstrip(".").isdigit()] == [], "no incomplete file must remain"


def test_a_changed_source_of_the_same_length_is_compiled(archives: Archives) -> None:
    archives.imported(SOURCE)
    assert archives.imported(SOURCE.replace("42", "43")) == (43, True, 1)


@pytest.mark.parametrize("content", [b"", b"\0", b"\xe3", b"nonsense", b"i\1\0\0\0"])
def test_what_is_no_code_is_compiled_again(archives: Archives, content: bytes) -> None:
    archives.imported(SOURCE)
    for path in archives.kept.iterdir():
        path.write_bytes(content)
    assert archives.imported(SOURCE) == (42, True, 2)


def test_without_a_folder_everything_works(archives: Archives) -> None:
    archives.kept.write_text("a file that prevents the creation of the directory")
    for _time in range(2):
        assert archives.imported(SOURCE) == (42, True, 4), "without the cache, zipimport compiles each file twice"
