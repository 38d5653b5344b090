# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Lists the pages with measured numbers that are older than the measured code.

``page_ages.py`` prints a line for each such page and exits with status 0, because not every change of the code affects the numbers. Before a release, use
``--strict``: the tool then exits with status 1 if it prints a line. It also prints a line if the history of the clone is too short.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Matches "commit": "8b8cd99cfe" in a record, and "on 6cf66bc" on a page.
COMMIT = re.compile(r'(?:"commit": "|\b(?:on|commit) `?)([0-9a-f]{7,40})\b')


@dataclass(frozen=True)
class Page:
    """A page with measured numbers.

    source: file that has the numbers and their commit.
    code: paths that the numbers describe.
    command: command that repeats the measurement.
    """

    path: str
    source: str
    code: tuple[str, ...]
    command: str


ENGINE = ("plugins/module_utils", "plugins/modules")
PAGES = (
    Page("docs/performance.md", "tests/bench/results.json", (*ENGINE, "roles", "playbooks", "tests/bench"), "make bench"),
    Page("docs/faults.md", "tests/faults/results.json", (*ENGINE, "roles", "tests/faults"), "make test-faults"),
    Page("docs/crash-safety.md", "docs/crash-safety.md", (*ENGINE, "roles", "tests/crash"), "make test-crash"),
)


def git(root: Path, *words: str) -> str:
    """Return git's output without the trailing newline, or an empty text if git fails."""
    ended = subprocess.run(["git", *words], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""


def no_history(root: Path) -> str:
    """Return why ages are unknown, or an empty text if the history exists."""
    if not git(root, "rev-parse", "HEAD"):
        return "this directory is not a clone of the repository, so the age of pages with numbers is unknown"
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        return "this clone has no history, so the age of pages with numbers is unknown. Run 'git fetch --unshallow' to fetch the history."
    return ""


def measured(root: Path, page: Page) -> str:
    """Return the commit of the measurement: the newest commit in the source that is in HEAD's history. Without one, return the source's last commit."""
    named = COMMIT.findall((root / page.source).read_text(encoding="utf-8"))
    known = [one for one in dict.fromkeys(named) if git(root, "rev-parse", "--verify", one + "^{commit}")]
    if named:
        return min(known, key=lambda one: int(git(root, "rev-list", "--count", f"{one}..HEAD")), default="")
    return git(root, "log", "-1", "--format=%H", "--", page.source)


def age(root: Path, page: Page) -> str:
    """Return a message if a page is older than its code, otherwise an empty text."""
    commit = measured(root, page)
    if not commit:
        return f"{page.path}: the commit that {page.source} names is not in this history. Run '{page.command}' to measure again."
    newer = git(root, "rev-list", "--no-merges", f"{commit}..HEAD", "--", *page.code).split()
    if not newer:
        return ""
    files = git(root, "diff", "--name-only", commit, "HEAD", "--", *page.code).splitlines()
    day = git(root, "show", "-s", "--format=%cs", commit)
    return (
        f"{page.path}: the numbers are from commit {commit[:10]} ({day}). Since then, {len(newer)} commits have changed {len(files)} files "
        f"that the page describes. Run '{page.command}' to measure again."
    )


def ages(root: Path = ROOT, pages: tuple[Page, ...] = PAGES) -> list[str]:
    """Return the messages about outdated pages."""
    why = no_history(root)
    return [why] if why else [line for line in (age(root, page) for page in pages) if line]


def main(argv: list[str]) -> int:
    """Print the messages about outdated pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args(argv)
    found = ages()
    print("\n".join(found) or "All pages with numbers are as new as the code that the pages describe.")
    return int(options.strict and bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
