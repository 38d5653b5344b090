# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes docs/reference.md: all playbooks, roles and modules with a short description of each. ``--check`` fails if the page is out of date."""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from made_page import put  # noqa: E402  (the line above extends sys.path)

PAGE = ROOT / "docs" / "reference.md"
HEAD = """<!--
SPDX-License-Identifier: GPL-3.0-or-later
SPDX-FileCopyrightText: The vgpu.kvm authors
-->
<!-- Written by tests/tools/reference_page.py -->
# Playbooks, roles, modules

Playbooks work on the groups `vgpu_hosts` and `vgpu_guests` of the inventory, or on `-e vgpu_target=<host or group>`. Without either they end with an
error; they never work on the whole inventory. A member of `vgpu_guests` is never configured as a host.

`ansible-doc vgpu.kvm.nvidia_vgpu` shows the options, examples and results of a module. `module_defaults: {group/vgpu.kvm.vgpu: {…}}` sets defaults for
all modules. All settings: [variables](variables.md). The command on a host: [vgpuctl](vgpuctl.md).
"""


def table(kind: str, rows: list[tuple[str, str]]) -> list[str]:
    """Return a table of names and their descriptions."""
    return ["", f"## {kind}s", "", f"| {kind.lower()} | does |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]


def playbooks() -> list[tuple[str, str]]:
    """Return each playbook with the names of its plays, except plays that only read settings."""
    found = []
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        names = [play["name"] for play in yaml.safe_load(path.read_text(encoding="utf-8"))]
        found.append((f"`vgpu.kvm.{path.stem}`", "; ".join(name for name in names if not name.startswith("Read the settings"))))
    return found


def roles() -> list[tuple[str, str]]:
    """Return each role with its short description."""
    found = []
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        name = path.parents[1].name
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        found.append((f"[`{name}`](../roles/{name}/README.md)", spec["main"]["short_description"]))
    return found


def modules() -> list[tuple[str, str]]:
    """Return each module with its short description."""
    found = []
    for path in sorted((ROOT / "plugins" / "modules").glob("nvidia_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
                found.append((f"`vgpu.kvm.{path.stem}`", yaml.safe_load(ast.literal_eval(node.value))["short_description"]))
    return found


def page() -> str:
    """Return docs/reference.md."""
    lines = [*table("Playbook", playbooks()), *table("Role", roles()), *table("Module", modules())]
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    good = put(PAGE, page(), parser.parse_args().check, "the documentation", "is out of date: run tests/tools/reference_page.py")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
