# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of page_ages.py in a small repository with measured numbers on pages. Code and texts change after the measurement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import page_ages  # noqa: E402  (the line above extends sys.path)
from page_ages import Page  # noqa: E402  (the line above extends sys.path)

PAGE = Page("page.md", "record.json", ("code",), "make measure")
WORDS = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


def git(root: Path, *words: str) -> str:
    """Run git with settings that do not depend on the user."""
    return subprocess.run(["git", *WORDS, *words], cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def commit(root: Path, **texts: str) -> str:
    """Write files (an underscore in a name stands for the dot, two for a slash) and commit them. Return the commit."""
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git(root, "add", ".")
    git(root, "commit", "-qm", "One")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository whose record names its first commit."""
    made = tmp_path / "made"
    made.mkdir()
    git(made, "init", "-q")
    first = commit(made, code__one_py="1")
    commit(made, record_json='{"commit": "%s"}' % first[:10], page_md="It took 3 s.")
    return made


def test_a_page_as_new_as_its_code_is_not_mentioned(root: Path) -> None:
    commit(root, page_md="It takes 3 s.", other_py="1")
    assert page_ages.ages(root, (PAGE,)) == []


def test_code_that_changed_since_makes_a_page_old_until_it_is_measured_again(root: Path) -> None:
    last = commit(root, code__one_py="2", code__two_py="1")
    commit(root, page_md="It takes 3 s, says the text.")  # A changed text is not a new measurement.
    (line,) = page_ages.ages(root, (PAGE,))
    assert line.startswith("page.md: the numbers are from commit ") and ". Since then, 1 commits have changed 2 files" in line and "Run 'make measure'" in line
    commit(root, record_json='{"commit": "%s"}' % last)
    assert page_ages.ages(root, (PAGE,)) == []


def test_a_page_of_several_commits_is_as_new_as_the_newest(root: Path) -> None:
    first, last = git(root, "rev-parse", "HEAD~1"), commit(root, code__one_py="2")
    for text in (f"Half on {first[:7]}, half on {last[:7]}.", f"Half on {last[:7]}, half on {first[:7]}."):
        (root / "page.md").write_text(text, encoding="utf-8")
        assert page_ages.ages(root, (Page("page.md", "page.md", ("code",), "x"),)) == []


def test_a_record_that_names_no_commit_is_of_its_last_change(root: Path) -> None:
    commit(root, record_json="{}")
    assert page_ages.ages(root, (PAGE,)) == []
    commit(root, code__one_py="2")
    assert len(page_ages.ages(root, (PAGE,))) == 1


def test_without_history_it_says_so(root: Path, tmp_path: Path) -> None:
    commit(root, code__one_py="2")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{root}", "shallow")
    (line,) = page_ages.ages(tmp_path / "shallow", (PAGE,))
    assert "has no history" in line
    (tmp_path / "none").mkdir()
    (line,) = page_ages.ages(tmp_path / "none", (PAGE,))
    assert "is not a clone" in line
    commit(root, record_json='{"commit": "0123456789"}')
    (line,) = page_ages.ages(root, (PAGE,))
    assert "is not in this history" in line


def test_strict_fails_where_not_strict_only_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(page_ages, "ages", lambda: ["page.md: old"])
    assert (page_ages.main([]), page_ages.main(["--strict"])) == (0, 1) and "page.md: old" in capsys.readouterr().out
    monkeypatch.setattr(page_ages, "ages", lambda: [])
    assert page_ages.main(["--strict"]) == 0


def test_the_pages_and_what_they_name_are_there() -> None:
    for page in page_ages.PAGES:
        for path in (page.path, page.source, *page.code):
            assert (page_ages.ROOT / path).exists(), path
