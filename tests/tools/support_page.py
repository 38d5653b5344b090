# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes the tables of GPUs, drivers, and ansible-core into README.md and two pages. ``--check`` fails if a table is out of date.

The pages are docs/support.md and docs/distributions.md. The data comes from tests/tools/support.yml, noxfile.py, and the engine's tables of GPUs and of
incompatible drivers.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "plugins" / "module_utils")]

from engine.driver import compatibility  # noqa: E402  (the line above extends sys.path)
from engine.hardware import boards  # noqa: E402
from made_page import put  # noqa: E402

DATA = yaml.safe_load((ROOT / "tests" / "tools" / "support.yml").read_text(encoding="utf-8"))
PAGES = (ROOT / "README.md", ROOT / "docs" / "support.md", ROOT / "docs" / "distributions.md")
VENDOR_VFIO = (6, 8)


class Generation:
    """A GPU of a generation, for queries in the table of drivers. *one* is the GPU's model; an empty text stands for no particular model."""

    address = ""

    def __init__(self, name: str, one: str = "") -> None:
        self.name = self.architecture = name
        self.model = self
        self.one = one

    def answers_to(self, word: str) -> bool:
        """Return whether a word in the table names this GPU's model."""
        return word == self.one


def generations() -> dict[str, tuple[list[str], bool]]:
    """Return the models of each GPU generation, newest generation first, and whether the generation has VFs."""
    found: dict[str, tuple[list[str], bool]] = {}
    for row in boards.BOARDS.splitlines():
        _device, model, _product, generation, _memory, virtual, *_rest = (word.strip() for word in row.split("|"))
        models, _virtual = found.setdefault(generation, ([], virtual == "VF"))
        models += [model] if model not in models else []
    return dict(reversed(found.items()))


def framework(kernel: str, virtual: bool) -> str:
    """Return the framework that GPUs use on a kernel: VFIO or mdev."""
    return "VFIO" if virtual and tuple(map(int, kernel.split("."))) >= VENDOR_VFIO else "mdev"


def branches(generation: str, kernel: str, model: str = "") -> str:
    """Return the driver branches whose newest release has no known conflict, such as 535–580, or a dash."""
    gpu = Generation(generation, model)
    good = [
        branch for branch, release in DATA["branches"].items()
        if not compatibility.warnings(compatibility.Subject(release, kernels=[kernel], gpus=[gpu]))
    ]
    return f"{good[0]}–{good[-1]}" if len(good) > 1 else good[0] if good else "—"


def matrix() -> str:
    """Return the table with a row for each GPU generation and a column for each distribution."""
    booted = {(one["gpu"], one["system"]) for one in DATA["booted"]}
    lines = ["| GPU generation | " + " | ".join(one["name"] for one in DATA["systems"]) + " |", "|---" * (len(DATA["systems"]) + 1) + "|"]
    for generation, (_models, virtual) in generations().items():
        cells = []
        for system in DATA["systems"]:
            found = branches(generation, system["kernel"])
            mark = "✔ " if (generation, system["name"]) in booted else ""
            cells.append(found if found == "—" else f"{mark}{framework(system['kernel'], virtual)} {found}")
        lines.append(f"| {generation} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def booted() -> str:
    """Return the table of booted combinations, each row with its test."""
    lines = ["| GPU generation | distribution | emulated models | test |", "|---|---|---|---|"]
    lines += [f"| {one['gpu']} | {one['system']} | {one['models']} | `{one['test']}` |" for one in DATA["booted"]]
    return "\n".join(lines) + "\n"


def models() -> str:
    """Return the table of models. If a model's branches differ from the branches of its generation, the branches follow in parentheses."""
    lines = ["| GPU generation | vGPUs on | models |", "|---|---|---|"]
    kernel = DATA["systems"][0]["kernel"]
    for name, (found, virtual) in generations().items():
        own = {model: branches(name, kernel, model) for model in found}
        shown = [model if own[model] == branches(name, kernel) else f"{model} ({own[model]})" for model in found]
        lines.append(f"| {name} | {'VFs' if virtual else 'the PF'} | {', '.join(shown)} |")
    return "\n".join(lines) + "\n"


def unfit(branch: str, kernel: str) -> list[str]:
    """Return the notes about a branch's releases that are incompatible with a kernel."""
    rows = [row for row in compatibility.TABLE if row.kernel and not row.gpus and compatibility.within(kernel, row.kernel)]
    ends = [row.driver.partition("..")[2] or row.driver for row in rows]
    return [row.note for row, end in zip(rows, ends) if end.partition(".")[0] == branch or compatibility.within(DATA["branches"][branch], row.driver)]


def take() -> str:
    """Return the table of drivers to download for each distribution: the oldest branch without an incompatible release, and the file."""
    booted_ones = {one["system"] for one in DATA["booted"]}
    lines = ["| distribution | driver branch | problems of older branches | file from the licensing portal | booted |", "|---|---|---|---|---|"]
    for one in DATA["systems"]:
        notes = {branch: unfit(branch, one["kernel"]) for branch in DATA["branches"]}
        first = next(branch for branch in notes if not notes[branch])
        less = "; ".join(note for branch in notes for note in notes[branch] if branch < first)
        cells = [one["name"], f"{first} or newer", less, one["file"], "yes" if one["name"] in booted_ones else "**no**"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def conflicts() -> str:
    """Return the table of known driver conflicts."""
    lines = ["| driver | combination | known problem | source |", "|---|---|---|---|"]
    for row in compatibility.TABLE:
        parts = [f"kernel `{row.kernel}`"] if row.kernel else []
        parts += [", ".join(row.gpus)] if row.gpus else []
        parts += [f"edition `{row.edition}`"] if row.edition else []
        lines.append(f"| `{row.driver}` | {', '.join(parts)} | {row.note} | [source]({row.source}) |")
    return "\n".join(lines) + "\n"


def cores() -> str:
    """Return the table of ansible-core releases: the Python versions that each release supports, and the versions that noxfile.py tests."""
    values = {}
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("CORES", "TARGETS"):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    lines = ["| ansible-core | Python on the controller | Python on hosts and VMs | tested |", "|---|---|---|---|"]
    for core, one in DATA["cores"].items():
        tested = values["CORES"].get(core, ())
        python = f"the first of Python {', '.join(tested)} that the test machine has" if len(tested) > 1 else f"Python {''.join(tested)}"
        how = f"yes, with {python}" if tested else "**no**"
        lines.append(f"| {core} | {one['controller']} | {one['host']} | {how} |")
    return "\n".join(lines) + "\n\n" + f"Sanity tests compile the modules for Python {values['TARGETS'][0]} to {values['TARGETS'][-1]}.\n"


def errors() -> list[str]:
    """Return entries of support.yml that its tests no longer cover."""
    names, systems = generations(), {one["name"] for one in DATA["systems"]}
    found = []
    for one in DATA["booted"]:
        text = (ROOT / one["test"]).read_text(encoding="utf-8") if (ROOT / one["test"]).is_file() else ""
        found += [f"support.yml: {one['test']} does not contain {word!r}" for word in one["words"] if word not in text]
        found += [f"support.yml: {one['gpu']} on {one['system']} is not in any table"] if one["gpu"] not in names or one["system"] not in systems else []
    return found


TABLES = {one.__name__: one() for one in (matrix, booted, models, take, conflicts, cores)}


def page(path: Path) -> str:
    """Return a page with up-to-date tables of GPUs and drivers."""
    text = path.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        begin, end = f"<!-- Begin: {name}, written by tests/tools/support_page.py -->\n", f"<!-- End: {name} -->\n"
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda match, t=table, b=begin, e=end: f"{b}\n{t}\n{e}", text, flags=re.DOTALL)
    return text


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wrong = errors()
    print("".join(f"{line}\n" for line in wrong), end="")
    good = [put(path, page(path), check, "the tables of GPUs and drivers", "is out of date: run tests/tools/support_page.py") for path in PAGES]
    return 0 if all(good) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
