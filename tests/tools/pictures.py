# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Draws docs/images/architecture.svg and docs/images/demo.svg. ``--check`` fails if they are not up to date.

The architecture shows the names of the repository's playbooks, roles and directories. The demo is a terminal cast of tests/demo/record.txt, which
``--take FILE`` creates from the output of 'make demo'. The check also fails if the record shows a task that no role has, or if the picture of the
dashboard, which tests/watch/picture.py draws, lacks a panel.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from dashboard import ROWS  # noqa: E402  (the line above extends sys.path)
from made_page import put  # noqa: E402

IMAGES = ROOT / "docs" / "images"
RECORD = ROOT / "tests" / "demo" / "record.txt"
NOTE = "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->\n"
REMEDY = "is out of date: run tests/tools/pictures.py"

# --- terminal cast of the demo

STAGE = re.compile(r"^== \[(\d+):(\d\d)\] (.*)")
TASK = re.compile(r"^TASK \[(?:[\w.]+ : )?(.*?)\] \*+$")
COLUMNS, HEIGHT, LINE, CHARACTER, EDGE = 100, 26, 18, 8.1, 16
SECONDS = 24  # length of the cast, independent of the run's duration
COLORS = {"$": "#ffffff", "=": "#7dd3fc", "c": "#fcd34d", "8": "#86efac"}


def take(log: str) -> str:
    """Return the record of a run: its stages, the tasks that changed something, the recap, and the first and last lines of the table."""
    lines, task = ["$ make demo"], ""
    table: list[str] = []
    for line in log.splitlines():
        if TASK.match(line):
            task = TASK.match(line)[1]
        elif STAGE.match(line) or re.match(r"\w+ +: ok=", line):
            lines.append(re.sub(" {4,}", "  ", line.strip()))
        elif line.startswith("changed: ["):
            lines.append(f"changed: {task}")
        elif line.startswith("GPU  ") or table and not line.startswith("=") and "8 GPUs" not in table[-1]:
            table.append(line.rstrip())
            if "GPUs, " in line:
                lines += [*table[:2], "…", *table[-4:]]
    return "\n".join(lines) + "\n"


def timed(record: str) -> list[tuple[float, str]]:
    """Return (seconds in the cast, line). A stage appears at its own time; the lines after it are spread until the next stage."""
    lines = record.splitlines()
    known = {0: 0.0}
    for number, line in enumerate(lines):
        found = STAGE.match(line)
        if found:
            known[number] = int(found[1]) * 60 + int(found[2]) + 1.0
    marks = sorted(known)
    known.setdefault(len(lines), known[marks[-1]] + 5)
    marks = sorted(known)
    found_times = []
    for number, line in enumerate(lines):
        before = max(mark for mark in marks if mark <= number)
        after = min(mark for mark in marks if mark > number)
        found_times.append((known[before] + (known[after] - known[before]) * (number - before) / (after - before), line))
    # The square root reduces the difference between stages of minutes and of seconds, so all stages are visible long enough.
    whole = found_times[-1][0] ** 0.5
    return [(round(SECONDS * when**0.5 / whole, 2), line) for when, line in found_times]


def cast(record: str) -> str:
    """Return the record as an animated SVG that scrolls like a terminal. Without animation, it shows the end of the record."""
    shown = timed(record)
    height, width = HEIGHT * LINE + 2 * EDGE, round(COLUMNS * CHARACTER) + 2 * EDGE
    last = max(0, len(shown) - HEIGHT) * LINE
    style = ["@keyframes in { from { opacity: 0 } }", ".l { white-space: pre; animation: in 0.01s backwards }", "@keyframes up {"]
    for number, (when, _line) in enumerate(shown):
        offset = max(0, number + 1 - HEIGHT) * LINE
        if offset:
            style.append(f"{100 * when / SECONDS:.2f}% {{ transform: translateY(-{offset}px) }}")
        elif number == HEIGHT - 1:
            style.append(f"0%, {100 * when / SECONDS:.2f}% {{ transform: translateY(0) }}")
    style.append(f"}} #s {{ transform: translateY(-{last}px); animation: up {SECONDS}s steps(1, end) }}")
    style.append("@media (prefers-reduced-motion: reduce) { .l, #s { animation: none } }")
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13.5">',
        NOTE.strip(), "<title>make demo: from a bare host to 71 vGPUs</title>", f"<style>{' '.join(style)}</style>",
        '<rect width="100%" height="100%" rx="8" fill="#0f172a"/>',
        f'<clipPath id="c"><rect width="{width}" height="{height - EDGE}" y="{EDGE // 2}"/></clipPath>',
        '<g clip-path="url(#c)"><g id="s" fill="#cbd5e1">',
    ]
    for number, (when, line) in enumerate(shown):
        color = f' fill="{COLORS[line[0]]}"' if line[:1] in COLORS else ""
        text = html.escape(line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…", quote=False)
        out.append(f'<text class="l" x="{EDGE}" y="{EDGE + 14 + number * LINE}" style="animation-delay: {when}s"{color}>{text}</text>')
    return "\n".join([*out, "</g></g>", "</svg>"]) + "\n"


def unknown_tasks(record: str) -> list[str]:
    """Return the tasks of the record that no role has."""
    names = set()
    for path in (ROOT / "roles").glob("*/tasks/**/*.yml"):
        for found in re.findall(r"^ *- name: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            names.add(found.strip("\"'"))
    shown = [line.partition(": ")[2].rpartition(" | ")[2] for line in record.splitlines() if line.startswith("changed: ")]
    return sorted({one for one in shown if one not in names and not any(name.rpartition(" | ")[2] == one for name in names)})


# --- picture of the dashboard, which tests/watch/picture.py draws with a real Prometheus


def panels_without_picture() -> list[str]:
    """Return the rows and panels of the dashboard that its picture does not show."""
    shown = (IMAGES / "dashboard.svg").read_text(encoding="utf-8")
    titles = [title for row, panels in ROWS.items() for title in (row, *(panel.title for panel in panels))]
    return [title for title in titles if f">{html.escape(title)}</text>" not in shown]


# --- picture of the architecture

BLUE, GREEN, AMBER, SLATE, VIOLET = ("#dbeafe", "#1d4ed8"), ("#dcfce7", "#15803d"), ("#fef3c7", "#b45309"), ("#f1f5f9", "#475569"), ("#ede9fe", "#6d28d9")


def names(folder: str, pattern: str) -> list[str]:
    """Return the names of files or directories of the repository."""
    return sorted(path.stem for path in (ROOT / folder).glob(pattern) if not path.name.startswith(("_", ".")))


def engine() -> list[str]:
    """Return the names of the engine's directories."""
    folder = ROOT / "plugins" / "module_utils" / "engine"
    return sorted(path.name for path in folder.iterdir() if (path / "__init__.py").is_file())


def wrapped(words: list[str], width: int) -> list[str]:
    """Return the text, wrapped into lines of at most the given number of characters."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 2 > width:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + word
    return lines


def box(x: int, y: int, width: int, height: int, title: str, lines: list[str], colors: tuple[str, str]) -> list[str]:
    """Return a box with a title and lines of text."""
    fill, stroke = colors
    out = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{stroke}"/>']
    out.append(f'<text x="{x + 12}" y="{y + 22}" font-weight="bold" fill="{stroke}">{html.escape(title)}</text>')
    out += [f'<text x="{x + 12}" y="{y + 42 + 17 * number}" font-size="12">{html.escape(line)}</text>' for number, line in enumerate(lines)]
    return out


def arrow(x1: int, y1: int, x2: int, y2: int, words: str = "") -> list[str]:
    """Return an arrow with a label at its middle."""
    out = [f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#334155" stroke-width="1.5" marker-end="url(#a)"/>']
    if words:
        out.append(f'<text x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 6}" font-size="11" text-anchor="middle" fill="#334155">{html.escape(words)}</text>')
    return out


def architecture() -> str:
    """Return the drawing: the controller, a host, and a VM, with the software that runs on each."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1060 620" font-family="system-ui, sans-serif" font-size="14" fill="#0f172a">', NOTE.strip(),
        "<title>The parts of vgpu.kvm on controller, host and VM</title>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#334155"/>'
        "</marker></defs>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    parts += box(20, 20, 310, 580, "Controller", [], SLATE)
    parts += box(36, 56, 278, 66, "Inventory", ["vgpu_layout: which vGPUs on which GPU"], AMBER)
    parts += box(36, 146, 278, 104, "Playbooks", wrapped(names("playbooks", "*.yml"), 38), BLUE)
    parts += box(36, 274, 278, 142, "Roles: a stage each", wrapped(names("roles", "*"), 38), BLUE)
    plugins = [*wrapped(names("plugins/filter", "*.py") + names("plugins/lookup", "*.py"), 38), "tables of report and validate"]
    parts += box(36, 440, 278, 144, "Plugins", plugins, BLUE)
    parts += arrow(175, 122, 175, 146) + arrow(175, 250, 175, 274) + arrow(175, 416, 175, 440)
    parts += box(420, 20, 620, 400, "KVM host", [], SLATE)
    modules = [one[len("nvidia_") :] for one in names("plugins/modules", "nvidia_*.py")]
    parts += box(436, 56, 588, 84, f"Modules: nvidia_* ({len(modules)})", wrapped(modules, 88), BLUE)
    parts += box(436, 164, 380, 116, "Engine: read, plan, apply", wrapped(engine(), 56), GREEN)
    parts += box(840, 164, 184, 116, "vgpuctl", ["the engine as one file", "vgpu-restore.service", "at each boot"], GREEN)
    driver = ["sysfs, VFIO, mdev: PF → VFs → vGPUs", "nvidia-smi, sriov-manage, nvidia-vgpu-mgr"]
    parts += box(436, 304, 588, 100, "Kernel and NVIDIA's driver", driver, VIOLET)
    parts += arrow(330, 98, 436, 98, "ssh") + arrow(626, 140, 626, 164) + arrow(626, 280, 626, 304) + arrow(932, 280, 932, 304)
    parts += box(420, 440, 620, 160, "VM", [], SLATE)
    parts += box(436, 476, 280, 104, "Guest driver", ["of the same vGPU software package", "modules driver, guest_info"], VIOLET)
    parts += box(744, 476, 280, 104, "License", ["client configuration token, gridd.conf", "nvidia-gridd asks the license server"], AMBER)
    parts += arrow(330, 528, 436, 528, "ssh") + arrow(730, 404, 730, 440, "")
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", type=Path, help="file with the output of 'make demo'")
    options = parser.parse_args()
    if options.take:
        RECORD.write_text(take(options.take.read_text(encoding="utf-8")), encoding="utf-8")
    record = RECORD.read_text(encoding="utf-8")
    wrong = unknown_tasks(record)
    print("".join(f"{RECORD.name}: no role has the task '{one}'. Record 'make demo' again (--take).\n" for one in wrong), end="")
    missing = panels_without_picture()
    print("".join(f"dashboard.svg does not show '{one}': run tests/watch/picture.py\n" for one in missing), end="")
    good = [
        put(IMAGES / name, picture, options.check, "the repository", REMEDY)
        for name, picture in (("architecture.svg", architecture()), ("demo.svg", cast(record)))
    ]
    return 0 if all(good) and not wrong and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
