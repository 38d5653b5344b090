# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks size limits of plugins/module_utils and of the pages. Prints each breach as path:line: text; the exit status is 1 if a limit is exceeded.

1. A file has at most 350 lines.
2. A function has at most 60 lines, including its docstring and its nested functions.
3. A call of any function or class has at most 5 positional arguments: name the others. (``*words`` counts as one.)
4. A page has at most 250 lines, and all pages together at most 25,000 words. A word is a text between spaces that has a letter or a digit. Generated
   pages and parts, comments, and screens (blocks of ``text`` and ``json``) do not count.

STILL lists the current exceptions. An exception that is no longer needed is also a breach.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "plugins" / "module_utils"
LINES, FUNCTION, POSITIONAL = 350, 60, 5
PAGES, PAGE_LINES, WORDS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/site/*.md", "examples/*.md", "tests/twin/README.md"), 250, 25_000
GENERATED_PAGES = {"docs/troubleshooting.md", "docs/faults.md", "docs/performance.md", "docs/reference.md"}
NOT_COUNTED = re.compile(
    r"<!-- Begin: .*?<!-- End: [^>]*-->|<!-- table -->.*?<!-- end -->|<!--.*?-->|^```(?:text|json)\n.*?^```|^```\w*$", re.DOTALL | re.MULTILINE
)

# (file below module_utils, message of the breach)
STILL: frozenset[tuple[str, str]] = frozenset(
    {
    }
)


@functools.lru_cache(maxsize=None)
def over(name: str, text: str) -> list[tuple[int, str]]:
    """Return the breaches in one file. The result is cached, because the tests read the same files several times."""
    tree = ast.parse(text, filename=name)
    file = [(1, f"has more than {LINES} lines")] if len(text.splitlines()) > LINES else []
    return [*file, *functions(tree), *calls(tree)]


def calls(tree: ast.Module) -> list[tuple[int, str]]:
    """Return the calls with too many positional arguments."""
    return [
        (node.lineno, f"calls {ast.unparse(node.func)} with more than {POSITIONAL} positional arguments")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) > POSITIONAL
    ]


def functions(tree: ast.Module) -> list[tuple[int, str]]:
    """Return the functions that exceed the limit of lines."""
    return [
        (node.lineno, f"function {node.name} has more than {FUNCTION} lines")
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION
    ]


def pages(root: Path = ROOT) -> list[str]:
    """Return the size breaches of handwritten pages."""
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for pattern in PAGES for path in sorted(root.glob(pattern))}
    texts = {name: text for name, text in texts.items() if name not in GENERATED_PAGES}
    found = [f"{name}:1: has more than {PAGE_LINES} lines" for name, text in texts.items() if len(text.splitlines()) > PAGE_LINES]
    words = sum(1 for text in texts.values() for word in NOT_COUNTED.sub("", text).split() if re.search(r"\w", word))
    return found + ([f"docs:1: the pages have {words} words, more than {WORDS}"] if words > WORDS else [])


def breaches(folder: Path = FOLDER, still: frozenset[tuple[str, str]] = STILL) -> list[str]:
    """Return each breach as path:line: text, and each entry of *still* that is no longer needed."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        found += [(name, line, what) for line, what in over(name, path.read_text(encoding="utf-8"))]
    needed = {(name, what) for name, _line, what in found}
    lines = [f"plugins/module_utils/{name}:{line}: {what}" for name, line, what in sorted(found) if (name, what) not in still]
    return lines + [f"{name}: {what}: this exception is no longer needed. Remove the entry from STILL." for name, what in sorted(still - needed)]


def main() -> int:
    """Run the command-line program."""
    found = breaches() + pages()
    print("\n".join([*found, f"{len(found)} breaches"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
