# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes the support matrix into README.md and docs/support.md; ``--check`` fails if they differ.

The data: tests/tools/support.yml, the engine's table of GPUs and its table of drivers that do not fit.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "plugins" / "module_utils")]

from engine.driver import compatibility  # noqa: E402  (found through the line above)
from engine.hardware import boards  # noqa: E402
from made_page import put  # noqa: E402

DATA = yaml.safe_load((ROOT / "tests" / "tools" / "support.yml").read_text(encoding="utf-8"))
PAGES = (ROOT / "README.md", ROOT / "docs" / "support.md")
VENDOR_VFIO = (6, 8)


class Generation:
    """A GPU of a generation, of no particular model, for the table of drivers."""

    address = ""

    def __init__(self, name: str) -> None:
        self.name = self.architecture = name
        self.model = self

    def answers_to(self, _word: str) -> bool:
        """No single model is meant."""
        return False


def generations() -> dict[str, tuple[list[str], bool]]:
    """Return the models of each GPU generation, newest generation first, and whether they have VFs."""
    found: dict[str, tuple[list[str], bool]] = {}
    for row in boards.BOARDS.splitlines():
        _device, model, _product, generation, _memory, virtual, *_rest = (word.strip() for word in row.split("|"))
        models, _virtual = found.setdefault(generation, ([], virtual == "VF"))
        models += [model] if model not in models else []
    return dict(reversed(found.items()))


def framework(kernel: str, virtual: bool) -> str:
    """Return the framework of GPUs on a kernel."""
    return "VFIO" if virtual and tuple(map(int, kernel.split("."))) >= VENDOR_VFIO else "mdev"


def branches(generation: str, kernel: str) -> str:
    """Return the driver branches that nothing is known against: 535-580, or a dash."""
    gpu = Generation(generation)
    good = [
        branch for branch, release in DATA["branches"].items()
        if not compatibility.warnings(compatibility.Subject(release, kernels=[kernel], gpus=[gpu]))
    ]
    return f"{good[0]}–{good[-1]}" if len(good) > 1 else good[0] if good else "—"


def matrix() -> str:
    """Return the table: a row for each GPU generation, a column for each distribution."""
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
    """Return the table of what was booted, each row with its test."""
    lines = ["| GPU generation | distribution | emulated models | test |", "|---|---|---|---|"]
    lines += [f"| {one['gpu']} | {one['system']} | {one['models']} | `{one['test']}` |" for one in DATA["booted"]]
    return "\n".join(lines) + "\n"


def models() -> str:
    """Return the table of models."""
    lines = ["| GPU generation | vGPUs live on | models |", "|---|---|---|"]
    lines += [f"| {name} | {'VFs' if virtual else 'the PF'} | {', '.join(found)} |" for name, (found, virtual) in generations().items()]
    return "\n".join(lines) + "\n"


def errors() -> list[str]:
    """Return what support.yml says and a test no longer does."""
    names, systems = generations(), {one["name"] for one in DATA["systems"]}
    found = []
    for one in DATA["booted"]:
        text = (ROOT / one["test"]).read_text(encoding="utf-8") if (ROOT / one["test"]).is_file() else ""
        found += [f"support.yml: {one['test']} does not have {word!r}" for word in one["words"] if word not in text]
        found += [f"support.yml: {one['gpu']} on {one['system']} is in no table"] if one["gpu"] not in names or one["system"] not in systems else []
    return found


def page(path: Path) -> str:
    """Return a page with its tables."""
    text = path.read_text(encoding="utf-8")
    for name, table in (("matrix", matrix()), ("booted", booted()), ("models", models())):
        begin, end = f"<!-- Begin: {name}, written by tests/tools/support_page.py -->\n", f"<!-- End: {name} -->\n"
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda match, t=table, b=begin, e=end: f"{b}\n{t}\n{e}", text, flags=re.DOTALL)
    return text


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wrong = errors()
    print("".join(f"{line}\n" for line in wrong), end="")
    good = [put(path, page(path), check, "the tables of GPUs and drivers", "is out of date: run tests/tools/support_page.py") for path in PAGES]
    return 0 if all(good) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
