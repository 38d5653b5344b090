# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the copy contains all changes of the working tree. Otherwise, the tools would test outdated files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mirror  # noqa: E402


@pytest.fixture(name="tree")
def fixture_tree(tmp_path: Path) -> Path:
    """Return a small collection in a git repository."""
    root = tmp_path / "root"
    (root / "plugins").mkdir(parents=True)
    (root / "galaxy.yml").write_text("namespace: vgpu\n")
    (root / ".gitignore").write_text("/.build/\n*.log\n")
    (root / "plugins" / "a.py").write_text("a = 1\n")
    (root / "plugins" / "run.log").write_text("no\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def files(path: Path) -> set[str]:
    """Return the files under *path*, except those of the copy's own repository."""
    return {str(p.relative_to(path)) for p in path.rglob("*") if not p.is_dir() and ".git" not in p.relative_to(path).parts}


def test_copies_what_git_would_carry(tree: Path, tmp_path: Path) -> None:
    """Ignored files are not copied. The copy consists of real files with their timestamps."""
    copy = mirror.make(tmp_path / "out", tree)
    assert files(copy) == {"galaxy.yml", ".gitignore", "plugins/a.py"}
    assert not (copy / "plugins").is_symlink() and not (copy / "plugins" / "a.py").is_symlink()
    assert (copy / "plugins" / "a.py").stat().st_mtime_ns == (tree / "plugins" / "a.py").stat().st_mtime_ns


def test_follows_deletion_change_and_kind(tree: Path, tmp_path: Path) -> None:
    """The copy is updated after a file was deleted, changed, or replaced by a directory."""
    copy = mirror.make(tmp_path / "out", tree)
    (tree / "plugins" / "a.py").unlink()
    (tree / "plugins" / "a.py").mkdir()
    (tree / "plugins" / "a.py" / "b.py").write_text("b = 1\n")
    (tree / "galaxy.yml").write_text("namespace: vgpv\n")
    mirror.make(tmp_path / "out", tree)
    assert files(copy) == {"galaxy.yml", ".gitignore", "plugins/a.py/b.py"}
    assert (copy / "galaxy.yml").read_text() == "namespace: vgpv\n"


def test_bytecode_stays_as_long_as_its_folder(tree: Path, tmp_path: Path) -> None:
    """If the copy lost its bytecode, each session would compile all files again."""
    copy = mirror.make(tmp_path / "base", tree)
    (tree / "package").mkdir()
    (tree / "package" / "one.py").write_text("")
    mirror.make(tmp_path / "base", tree)
    for folder in (copy, copy / "package"):
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "one.cpython-311.pyc").touch()
    mirror.make(tmp_path / "base", tree)
    assert (copy / "__pycache__" / "one.cpython-311.pyc").exists() and (copy / "package" / "__pycache__").exists()
    (tree / "package" / "one.py").unlink()
    mirror.make(tmp_path / "base", tree)
    assert not (copy / "package").exists()


def test_deleted_but_still_tracked(tree: Path, tmp_path: Path) -> None:
    """git lists a deleted file until the deletion is committed, but the copy does not contain the file."""
    subprocess.run(["git", "-C", str(tree), "add", "plugins/a.py"], check=True)
    os.unlink(tree / "plugins" / "a.py")
    assert "plugins/a.py" not in files(mirror.make(tmp_path / "out", tree))


def test_git_lists_the_copy(tree: Path, tmp_path: Path) -> None:
    """ansible-test reads its list of files from git, so the copy has its own list, even inside an ignored directory of a repository."""
    copy = mirror.make(tree / ".build" / "collections", tree)
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=copy, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "plugins/a.py" in out.splitlines()
