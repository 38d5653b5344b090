# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks the wording of texts for users against terms.yml. Prints each breach as path:line: text; the exit status is 1 if it finds a breach.

The tool checks pages, without code, links and generated parts; descriptions in argument specs and module documentation; task names; changelog
fragments; messages, docstrings and comments of plugins, roles and playbooks. It skips pages that other tools generate (``MADE``), whose sources
it checks.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("terms.yml")
PAGES = ("*.md", "docs/*.md", "docs/site/*.md", "examples/*.md")
MADE = {"CHANGELOG.md", "docs/faults.md", "docs/troubleshooting.md"}
# Parts of a page that are not prose: comments, generated tables, screens, code, link targets.
NO_PROSE = re.compile(
    r"<!-- Begin: .*?<!-- End: [^>]*-->|<!-- table -->.*?<!-- end -->|<!--.*?-->|^```.*?^```|`[^`\n]*`|(?<=\])\([^)\s]*\)",
    re.DOTALL | re.MULTILINE,
)
# Markup of Ansible's documentation whose content is not prose: C(x), V(x), O(x=y).
MARKUP = re.compile(r"\b[A-Z]{1,3}\([^)]*\)")
TEXTS = {"description", "short_description", "notes", "name", "msg", "fail_msg", "success_msg"}
# Parts of a text in code that are not prose: a Jinja expression, a quoted command or name, and the name of a parameter or field before its meaning.
NO_WORDS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)|(?<![a-z%] )\b[a-z_]+(?:, [a-z_]+)*: |\[guess\]", re.DOTALL)
LEAST = 25  # minimum length of a message; shorter texts are names, keys and parts of patterns


@dataclass(frozen=True)
class Term:
    """A row of terms.yml."""

    find: re.Pattern[str]
    use: str
    allowed: re.Pattern[str] | None = None

    def breaches(self, text: str) -> Iterator[tuple[int, str]]:
        """Return (offset, matching text) for each forbidden match."""
        kept = [found.span() for found in self.allowed.finditer(text)] if self.allowed else []
        for found in self.find.finditer(text):
            if not any(start <= found.start() and found.end() <= end for start, end in kept):
                yield found.start(), " ".join(found.group().split())


def table(path: Path = TABLE) -> list[Term]:
    """Return the terms of terms.yml."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Term(re.compile(row["find"], re.IGNORECASE), row["use"], re.compile(row["allowed"]) if "allowed" in row else None) for row in rows]


def blank(pattern: re.Pattern[str], text: str) -> str:
    """Return the text with matches replaced by spaces of the same length, which keeps line numbers and offsets."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def prose(text: str) -> str:
    """Return the prose of a page."""
    return blank(NO_PROSE, text)


def strings(node: yaml.Node, key: str = "") -> Iterator[tuple[int, str]]:
    """Return (line, text) of each description and task name in a YAML document."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value in ("vars", "sample", "default"):
                continue
            yield from strings(value, name.value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from strings(value, key if key in ("description", "notes") else "")
    elif key in TEXTS:
        yield node.start_mark.line, blank(NO_WORDS if key.endswith("msg") else re.compile(r"`[^`]*`"), blank(MARKUP, node.value))


def of_yaml(text: str, first: int = 1) -> Iterator[tuple[int, str]]:
    """Return (line, text) of a YAML file whose first line has the number *first*."""
    node = yaml.compose(text)
    return ((first + line, part) for line, part in strings(node)) if node else iter(())


def of_module(text: str) -> Iterator[tuple[int, str]]:
    """Return (line, text) of a module's documentation."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and getattr(node.targets[0], "id", "") in ("DOCUMENTATION", "RETURN"):
            yield from of_yaml(node.value.value, node.lineno)


def of_python(text: str) -> Iterator[tuple[int, str]]:
    """Return (line, text) of each docstring, message and comment in a Python file. It skips raw strings, which are patterns."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], blank(NO_WORDS, token.string)
        elif token.type == tokenize.STRING and len(token.string) > LEAST and " " in token.string and token.string[0] not in "rR":
            yield token.start[0], blank(NO_WORDS, token.string)


def of_comments(text: str) -> Iterator[tuple[int, str]]:
    """Return (line, text) of each comment in a YAML file."""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.search(r"(?:^|\s)#.*", line)
        if found:
            yield number, blank(NO_WORDS, found.group())


def of_template(text: str) -> Iterator[tuple[int, str]]:
    """Return (line, text) of a template: its comments and texts, without Jinja expressions."""
    return iter([(1, blank(NO_WORDS, text))])


def of_fragment(text: str) -> Iterator[tuple[int, str]]:
    """Return (line, text) of all strings in a changelog fragment."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)
        else:
            yield str(value)

    return ((1, prose(part.replace("``", "`"))) for part in walk(yaml.safe_load(text)))


def texts(root: Path) -> Iterator[tuple[str, int, str]]:
    """Return (path, line, text) of all checked texts."""
    for path in sorted({path for pattern in PAGES for path in root.glob(pattern)}):
        name = path.relative_to(root).as_posix()
        if name not in MADE:
            yield name, 1, prose(path.read_text(encoding="utf-8"))
    readers = [
        ("roles/*/meta/argument_specs.yml", of_yaml), ("roles/*/tasks/*.yml", of_yaml), ("playbooks/*.yml", of_yaml), ("awx/*.yml", of_yaml),
        ("plugins/modules/*.py", of_module), ("plugins/doc_fragments/*.py", of_module), ("changelogs/fragments/*.yml", of_fragment),
        ("plugins/**/*.py", of_python), ("roles/**/*.yml", of_comments), ("playbooks/*.yml", of_comments), ("roles/*/templates/*.j2", of_template),
    ]
    for pattern, reader in readers:
        for path in sorted(root.glob(pattern)):
            for line, text in reader(path.read_text(encoding="utf-8")):
                yield path.relative_to(root).as_posix(), line, text


def breaches(root: Path, terms: list[Term]) -> Iterator[str]:
    """Yield one line for each use of a term that terms.yml forbids."""
    for name, line, text in texts(root):
        for term in terms:
            for offset, found in term.breaches(text):
                yield f"{name}:{line + text.count(chr(10), 0, offset)}: '{found}': write {term.use}"


def main() -> int:
    """Run the command-line program."""
    found = list(breaches(ROOT, table()))
    print("".join(f"{line}\n" for line in found), end="")
    print(f"{len(found)} breaches of tests/tools/terms.yml")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
