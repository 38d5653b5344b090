# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes the table of sessions in docs/testing.md: purpose, machines, and whether `make test` runs each session. ``--check`` fails if it is outdated."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import run_tests  # noqa: E402  (the line above extends sys.path)
from made_page import put  # noqa: E402
from sessions import SESSIONS  # noqa: E402

PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- Begin: sessions, written by tests/tools/testing_page.py -->\n", "<!-- End: sessions -->\n"


def decided() -> dict[str, str]:
    """Return the descriptions of the sessions in noxfile.py by name, with … in place of a release of ansible-core."""
    found = {}
    for node in ast.walk(ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))):
        for one in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "session_of":
                name = one.args[0]
                parts = name.values if isinstance(name, ast.JoinedStr) else [name]
                found["".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)] = ast.get_docstring(node).partition("\n")[0]
    return found


def cores() -> list[str]:
    """Return the releases of ansible-core that noxfile.py has sessions for."""
    nodes = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
    return [core for node in nodes if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CORES" for core in ast.literal_eval(node.value)]


def table() -> str:
    """Return the table of sessions."""
    rows = {**decided(), **{one.name: one.does + "." for one in SESSIONS}}
    plain = set(run_tests.SESSIONS)
    lines = ["| session | purpose | machines | `make test` |", "|---|---|---|---|"]
    rows.update({name.replace("…", core): does for name, does in rows.items() if "…" in name for core in cores()})
    rows = {name: does for name, does in rows.items() if "…" not in name}
    for name in sorted(rows, key=lambda one: (one not in plain, one)):
        booted = "yes" if run_tests.has_machines(name) else ""
        lines.append(f"| `{name}` | {rows[name].rstrip('.')} | {booted} | {'yes' if name in plain else ''} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return docs/testing.md with an up-to-date table of sessions."""
    text, count = re.subn(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda match: f"{BEGIN}\n{table()}\n{END}", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert count == 1
    return text


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    return 0 if put(PAGE, page(), parser.parse_args().check, "the sessions", "is out of date: run tests/tools/testing_page.py") else 1


if __name__ == "__main__":
    sys.exit(main())
