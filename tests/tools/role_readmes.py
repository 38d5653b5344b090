# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Write the roles' READMEs from their argument specs.

What stands between the markers of roles/<role>/README.md comes from meta/argument_specs.yml and defaults/main.yml; the
rest of the file is written by hand and stays. A README that is not there yet is begun.

With --check nothing is written; the exit status is 1 if a README is not what would be written, or if the sources don't
agree with each other: a default without a description, a description without a default, a layout that one role
describes otherwise than another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "<!-- Begin: written by tests/tools/role_readmes.py from meta/argument_specs.yml -->"
END = "<!-- End: written by tests/tools/role_readmes.py -->"
HEADER = """<!--
SPDX-License-Identifier: GPL-3.0-or-later
SPDX-FileCopyrightText: The vgpu.kvm authors
-->
"""


class Role:
    """What a role's files say of it."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.readme = folder / "README.md"
        self.entries = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]
        self.defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text()) or {}

    @property
    def main(self) -> dict:
        """The main entry point's options."""
        return self.entries["main"].get("options", {})

    def errors(self) -> list[str]:
        """Where specs and defaults don't agree."""
        found = []
        options = {name for entry in self.entries.values() for name in entry.get("options", {})}
        for name in sorted(set(self.defaults) - options):
            found.append(f"roles/{self.name}: the default of {name} is not described in meta/argument_specs.yml")
        for name, option in self.main.items():
            if name.startswith(f"{self.name}_") and name not in self.defaults and not option.get("required"):
                found.append(f"roles/{self.name}: {name} is described, but has no default in defaults/main.yml")
            if name not in self.defaults and not name.startswith("vgpu_"):
                found.append(f"roles/{self.name}: {name} is neither the role's nor the collection's variable")
            if not option.get("description"):
                found.append(f"roles/{self.name}: {name} has no description")
        return found


def shown(value: object) -> str:
    """A default as Markdown code, short enough for a table."""
    text = value if isinstance(value, str) and value else yaml.safe_dump(value, default_flow_style=True, width=1000)
    text = text.replace("...", "").strip()
    return "`" + text.replace("|", "\\|") + "`"


def words(description: object) -> str:
    """A description as one paragraph."""
    lines = description if isinstance(description, list) else [description]
    return " ".join(str(line).strip() for line in lines).replace("|", "\\|")


def rows(options: dict, defaults: dict, prefix: str = "") -> list[str]:
    """Table rows of the options, sub-options behind their parents."""
    lines = []
    for name, option in options.items():
        kind = option.get("type", "str")
        if "elements" in option:
            kind += " of " + option["elements"]
        if name in defaults:
            default = shown(defaults[name])
        elif "default" in option:
            default = shown(option["default"])
        else:
            default = "required" if option.get("required") else ""
        text = words(option["description"])
        if "choices" in option:
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        lines.append(f"| `{prefix}{name}` | {kind} | {default} | {text} |")
        lines += rows(option.get("options", {}), {}, f"{prefix}{name}[].")
    return lines


def section(role: Role) -> str:
    """The part of the README between the markers."""
    lines = []
    for entry, spec in role.entries.items():
        if entry != "main":
            lines += [f"## Entry point `{entry}`", ""]
        lines += [spec["short_description"] + ".", ""]
        for paragraph in spec["description"]:
            lines += [paragraph.strip(), ""]
        if entry != "main" and spec.get("options") is role.main:
            lines += ["Its variables are those of the main entry point.", ""]
        elif spec.get("options"):
            lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
            lines += [*rows(spec["options"], role.defaults), ""]
    return "\n".join([BEGIN, "", *lines, END])


def expected(role: Role) -> str:
    """The README as it should be; raises ValueError if the markers are broken."""
    if not role.readme.exists():
        return f"{HEADER}# vgpu.kvm.{role.name}\n\n{section(role)}\n"
    text = role.readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"roles/{role.name}/README.md: the two markers are not there once each and in order")
    return text[: text.index(BEGIN)] + section(role) + text[text.index(END) + len(END) :]


def layouts_differ(roles: list[Role]) -> list[str]:
    """Roles whose *_layout has other parts than the first one's."""
    found, first = [], None
    for role in roles:
        for name, option in role.main.items():
            if not name.endswith("_layout") or option["type"] != "list":
                continue
            if first is None:
                first = (role.name, option["options"])
            elif option["options"] != first[1]:
                found.append(f"roles/{role.name}: {name} is described otherwise than in roles/{first[0]}")
    return found


def main(arguments: list[str]) -> int:
    """Write or check all READMEs."""
    parser = argparse.ArgumentParser(description="Write the roles' READMEs from their argument specs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is not as it should be")
    options = parser.parse_args(arguments)
    roles = [Role(path.parent.parent) for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))]
    missing = sorted(
        {path.name for path in ROOT.glob("roles/*") if path.is_dir()} - {role.name for role in roles}
    )
    errors = [f"roles/{name}: meta/argument_specs.yml is missing" for name in missing]
    errors += [error for role in roles for error in role.errors()] + layouts_differ(roles)
    if not roles:
        errors.append("no role was found")
    for role in roles:
        try:
            text = expected(role)
        except ValueError as exc:
            errors.append(str(exc))
            continue
        if role.readme.exists() and role.readme.read_text() == text:
            continue
        if options.check:
            errors.append(f"roles/{role.name}/README.md is not up to date: run tests/tools/role_readmes.py")
        else:
            role.readme.write_text(text)
            print(f"wrote roles/{role.name}/README.md")
    for error in errors:
        print(error, file=sys.stderr)
    if not errors:
        print(f"{len(roles)} READMEs agree with their roles")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
