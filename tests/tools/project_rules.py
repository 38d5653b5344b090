# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks rules of this project that no linter covers. Prints each breach as path:line: text; the exit status is 1 if a rule is broken.

1. Shipped content (plugins, roles, playbooks) does not mention the twin on which it is tested.
2. Shipped code has no ``except:`` and no ``except Exception:``, because they hide unexpected errors.
3. No code sleeps for a fixed time: only the engine's polling (base/clock.py) calls sleep, and no task pauses.
4. Nothing uses a shell: neither ``ansible.builtin.shell`` nor ``shell=True``.
5. Roles read ``ansible_facts['x']``, never injected facts, and no task ignores its errors.
6. No file contains to-do marks. Every Python file has postponed annotations.
7. No file contains paths of a developer's machine or the host name of a package registry.
8. In a directory that the operator sets, a role creates, changes, and removes only its own subdirectory, never the directory itself.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("plugins/", "roles/", "playbooks/")
POLLING = "plugins/module_utils/engine/base/clock.py"

# Each text rule has the paths to check, the forbidden pattern, and the message.
MACHINE = re.compile(r"(?<![\w./~$}-])/wor" + r"k/|/root/\.py" + r"env|files\.python" + r"hosted\.org|\bpypi\." + r"org\b")
TEXT_RULES = (
    (SHIPPED, re.compile(r"\btwins?\b|twin[-_]", re.IGNORECASE), "mentions the twin, which is not part of the collection for users"),
    (("",), re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"), "contains a to-do mark. Finish the work or describe the limit."),
    (("",), MACHINE, "contains a path of a machine or the host name of a registry"),
)
YAML_RULES = (
    (re.compile(r"^\s*(-\s+)?ansible\.builtin\.(shell|pause)\s*:"), "uses shell or pause. Use a module, or poll with a deadline."),
    (re.compile(r"^\s*ignore_errors\s*:"), "ignore_errors hides failures. Use failed_when."),
    (
        re.compile(r"^\s*path: .\{\{ (?!__|item)\w+_(cache|dir|directory|folder) \}\}.\s*$"),
        "the operator's directory may contain files of other programs. Create, change, and remove only a subdirectory.",
    ),
    (
        re.compile(r"\bansible_(distribution|os_family|kernel|pkg_mgr|processor|architecture|hostname|fqdn|virtualization|system|python)\w*\b(?!\s*:)"),
        "uses an injected fact. Write ansible_facts['x'].",
    ),
)


def listed() -> list[str]:
    """Return the paths that git would track."""
    out = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"], check=True, stdout=subprocess.PIPE).stdout
    return sorted(name for name in out.decode().split("\0") if name and (ROOT / name).is_file())


def python_breaches(name: str, text: str) -> list[tuple[int, str]]:
    """Return (line, text) for each breach that only a parser can find."""
    found = []
    tree = ast.parse(text, filename=name)
    shipped = name.startswith(SHIPPED)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    code = [node for node in tree.body if not isinstance(node, ast.Expr)]
    if code and not any(alias.name == "annotations" for node in imports for alias in node.names):
        found.append((1, "does not contain: from __future__ import annotations"))
    for node in ast.walk(tree):
        if shipped and isinstance(node, ast.ExceptHandler):
            names = [None] if node.type is None else [item for item in ast.walk(node.type) if isinstance(item, ast.Name)]
            if any(item is None or item.id in ("Exception", "BaseException") for item in names):
                found.append((node.lineno, "catches all exceptions. Name the expected exceptions."))
        if shipped and isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "sleep" and name != POLLING:
                found.append((node.lineno, "calls sleep. Poll with a deadline (engine/base/clock.py)."))
            for keyword in node.keywords:
                if keyword.arg in ("shell", "use_unsafe_shell") and getattr(keyword.value, "value", True) is not False:
                    found.append((node.lineno, "runs a shell. Pass a list of arguments."))
    return found


def breaches(name: str, text: str) -> list[tuple[int, str]]:
    """Return (line, text) for each rule that this *text* of the file *name* breaks."""
    found = []
    lines = text.splitlines()
    for where, pattern, message in TEXT_RULES:
        if name.startswith(where):
            found += [(number, message) for number, line in enumerate(lines, 1) if pattern.search(line)]
    if name.startswith(("roles/", "playbooks/")) and name.endswith((".yml", ".yaml")):
        for pattern, message in YAML_RULES:
            found += [(number, message) for number, line in enumerate(lines, 1) if pattern.search(line.split(" #")[0])]
    if name.endswith(".py"):
        found += python_breaches(name, text)
    return sorted(found)


def main() -> int:
    """Run the command-line program."""
    bad = files = 0
    for name in listed():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        files += 1
        for line, message in breaches(name, text):
            print(f"{name}:{line}: {message}")
            bad += 1
    print(f"{bad} breaches in {files} files")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main())
