# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks the repository's spelling with codespell from this Python's environment. The exit status is 1 if it finds an error.

The tool checks all files for misspelled words, and shipped files and pages for US English. A first check verifies that codespell finds planted errors.
spelling.txt lists words that are correct here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIP = ".git,.build,.ansible,*.svg,*.json,*.zip,*.tok,CHANGELOG.md,changelogs/changelog.yaml,LICENSES,COPYING,extensions/molecule,test_terms.py"
US = ("docs", "roles", "plugins", "playbooks", "awx", "examples", "extensions", "changelogs", "tests/tools")
PLANTED = "The drvier recieves the colour of the licence.\n"  # codespell:ignore


def codespell(dictionaries: str, *paths: str) -> list[str]:
    """Return the errors that codespell reports in these paths."""
    words = [str(Path(sys.executable).with_name("codespell")), "--builtin", dictionaries, "--ignore-words", "tests/tools/spelling.txt", "--skip", SKIP]
    ended = subprocess.run([*words, *paths], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return ended.stdout.splitlines()


def main() -> int:
    """Run the command-line program."""
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "page.md"
        planted.write_text(PLANTED, encoding="utf-8")
        if len(codespell("clear,rare", str(planted))) != 2 or len(codespell("en-GB_to_en-US", str(planted))) != 2:
            print("codespell does not find the planted errors")
            return 1
    pages = sorted(path.name for path in ROOT.glob("*.md"))
    errors = codespell("clear,rare", ".") + codespell("en-GB_to_en-US", *pages, *US)
    print("".join(f"{line}\n" for line in errors), end="")
    print(f"{len(errors)} misspelled words")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
