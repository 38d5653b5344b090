# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Write the roles' READMEs and docs/variables.md from their argument specs.

The text between the markers of roles/<role>/README.md comes from meta/argument_specs.yml and defaults/main.yml. The rest
of the file is written by hand and stays. The tool creates missing READMEs. docs/variables.md lists each public variable
(vgpu_*) once, with the roles' own names of it.

With --check nothing is written; the exit status is 1 if a README or docs/variables.md is out of date, or if the sources
disagree: a default without a description, a description without a default, or a layout that two roles describe
differently.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ROOT / "docs" / "variables.md"
BEGIN = "<!-- Begin: written by tests/tools/role_readmes.py from meta/argument_specs.yml -->"
# The beginning of a default that reads a public variable. For VMs, some defaults read a second public variable.
PUBLIC = re.compile(r"\{\{ (?:\((?P<guest>vgpu_\w+) if driver_kind == 'guest'.* else )?(?P<public>vgpu_\w+)")
END = "<!-- End: written by tests/tools/role_readmes.py -->"
HEADER = """<!--
SPDX-License-Identifier: GPL-3.0-or-later
SPDX-FileCopyrightText: The vgpu.kvm authors
-->
"""


class Role:
    """A role's argument specs, defaults and README."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.readme = folder / "README.md"
        self.entries = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]
        defaults = folder / "defaults" / "main.yml"
        self.defaults = (yaml.safe_load(defaults.read_text()) if defaults.exists() else None) or {}

    @property
    def main(self) -> dict:
        """Return the options of the role's main entry point."""
        return self.entries["main"].get("options", {})

    @property
    def options(self) -> dict:
        """Return the options of all entry points of the role."""
        return {name: option for entry in self.entries.values() for name, option in entry.get("options", {}).items()}

    @property
    def public(self) -> dict[str, str]:
        """Return, by name of a role's variable, the public variable from which its default comes."""
        found = {name: PUBLIC.match(str(default)) for name, default in self.defaults.items()}
        return {name: one.group("public") for name, one in found.items() if one}

    @property
    def of_guests(self) -> dict[str, str]:
        """Return, by name of a role's variable, the public variable for VMs, if VMs have their own."""
        found = {name: PUBLIC.match(str(default)) for name, default in self.defaults.items()}
        return {name: one.group("guest") for name, one in found.items() if one and one.group("guest")}

    def errors(self) -> list[str]:
        """Return the disagreements between specs and defaults."""
        found = []
        for name in sorted(set(self.defaults) - set(self.options)):
            found.append(f"roles/{self.name}: the default of {name} is not described in meta/argument_specs.yml")
        for name, option in self.main.items():
            if name.startswith(f"{self.name}_") and name not in self.defaults and not option.get("required"):
                found.append(f"roles/{self.name}: {name} is described, but has no default in defaults/main.yml")
            if name not in self.defaults and not name.startswith("vgpu_"):
                found.append(f"roles/{self.name}: {name} is a variable of neither the role nor the collection")
            if not option.get("description"):
                found.append(f"roles/{self.name}: {name} has no description")
        return found


def read_roles() -> list[Role]:
    """Return all roles with argument specs."""
    return [Role(path.parent.parent) for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))]


def shown(value: object) -> str:
    """Return a default as Markdown code, on one line for a table."""
    text = value if isinstance(value, str) and value else yaml.safe_dump(value, default_flow_style=True, width=1000)
    text = text.replace("...", "").strip()
    return "`" + text.replace("|", "\\|") + "`"


def words(description: object) -> str:
    """Return a description as one paragraph."""
    lines = description if isinstance(description, list) else [description]
    return " ".join(str(line).strip() for line in lines).replace("|", "\\|")


def kind_of(option: dict) -> str:
    """Return an option's type as text."""
    return option.get("type", "str") + (" of " + option["elements"] if "elements" in option else "")


def choices_of(option: dict) -> str:
    """Return a sentence with an option's choices, or an empty text."""
    return " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "." if "choices" in option else ""


def rows(options: dict, defaults: dict, prefix: str = "") -> list[str]:
    """Return table rows of the options. The rows of suboptions follow their parent's row."""
    lines = []
    for name, option in options.items():
        if name in defaults:
            default = shown(defaults[name])
        elif "default" in option:
            default = shown(option["default"])
        else:
            default = "required" if option.get("required") else ""
        text = words(option["description"]) + choices_of(option)
        lines.append(f"| `{prefix}{name}` | {kind_of(option)} | {default} | {text} |")
        if not text.startswith("As `"):
            lines += rows(option.get("options", {}), {}, f"{prefix}{name}[].")
    return lines


def section(role: Role) -> str:
    """Return the part of the README between the markers."""
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
    """Return the expected README. Raises ValueError if the markers are broken."""
    if not role.readme.exists():
        return f"{HEADER}# vgpu.kvm.{role.name}\n\n{section(role)}\n"
    text = role.readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"roles/{role.name}/README.md: the begin and end markers are missing, repeated, or in the wrong order")
    return text[: text.index(BEGIN)] + section(role) + text[text.index(END) + len(END) :]


def constant(default: str) -> str:
    """Return the value of an expression such as {{ vgpu_x | default(0) }} if the public variable is not set."""
    text = default.strip("{} ")
    while text.startswith(("vgpu_", "(vgpu_")):
        text = text.partition("| default(")[2].rpartition(")")[0]
    return re.sub(r", true$", "", re.sub(r"^'(.+)'$", r"\1", text)).replace("|", "\\|")


def variable_rows(roles: list[Role]) -> list[str]:
    """Return a row for each public variable. The descriptions of the roles host and guest, which operators run, take precedence."""
    described: dict[str, dict] = {}
    own: dict[str, dict[str, str]] = {}
    for role in sorted(roles, key=lambda role: role.name not in ("host", "guest")):
        if role.name in ("host", "guest"):
            described = {**{name: option for name, option in role.options.items() if name.startswith("vgpu_")}, **described}
        for name, public in [*role.public.items(), *role.of_guests.items()]:
            described.setdefault(public, role.options.get(public, role.options[name]))
            own.setdefault(public, {})[name] = constant(str(role.defaults[name]))
    of = {role.name: role.options for role in roles}
    lines = []
    for public, names in sorted(own.items()):
        both = [words(of[name][public]["description"]) if public in of.get(name, {}) else "" for name in ("host", "guest")]
        text = "Hosts: {} VMs: {}".format(*both) if all(both) and both[0] != both[1] else words(described[public]["description"])
        for name in names:
            text = text.replace(f"`{name}`", f"`{public}`")
        cells = [f"`{public}`", ", ".join(f"`{name}`" for name in names), kind_of(described[public])]
        default = next(iter(names.values()))
        lines.append("| " + " | ".join([*cells, f"`{default}`" if default else "", text + choices_of(described[public])]) + " |")
    return lines


def variables_page(roles: list[Role]) -> str:
    """Return the expected docs/variables.md. Raises ValueError if the markers are broken."""
    text = VARIABLES.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError("docs/variables.md: the begin and end markers are missing, repeated, or in the wrong order")
    head = ["| variable | in roles | type | default | meaning |", "|---|---|---|---|---|"]
    table = "\n".join([BEGIN, "", *head, *variable_rows(roles), "", END])
    return text[: text.index(BEGIN)] + table + text[text.index(END) + len(END) :]


def layouts_differ(roles: list[Role]) -> list[str]:
    """Return the roles whose *_layout option has different suboptions than the first role's *_layout option."""
    found, first = [], None
    for role in roles:
        for name, option in role.main.items():
            if not name.endswith("_layout") or option["type"] != "list":
                continue
            if first is None:
                first = (role.name, option["options"])
            elif option["options"] != first[1]:
                found.append(f"roles/{role.name}: {name} differs from the description in roles/{first[0]}")
    return found


def main(arguments: list[str]) -> int:
    """Write or check all READMEs of roles and docs/variables.md."""
    parser = argparse.ArgumentParser(description="Write the roles' READMEs and docs/variables.md from their argument specs.")
    parser.add_argument("--check", action="store_true", help="write no files, and exit with status 1 if a file is out of date or the sources disagree")
    options = parser.parse_args(arguments)
    roles = read_roles()
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
    try:
        page = variables_page(roles)
        if page != VARIABLES.read_text():
            if options.check:
                errors.append("docs/variables.md is not up to date: run tests/tools/role_readmes.py")
            else:
                VARIABLES.write_text(page)
                print("wrote docs/variables.md")
    except ValueError as exc:
        errors.append(str(exc))
    for error in errors:
        print(error, file=sys.stderr)
    if not errors:
        print(f"{len(roles)} READMEs agree with their roles")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
