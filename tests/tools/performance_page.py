# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes docs/performance.md, a short table of ratios, from the results of `make bench`.

``performance_page.py`` writes the page from tests/bench/results.json. ``--check`` fails if the page is not up to date.
``--take FILE`` (.build/bench/results.json) first merges FILE's ratios into the repository's record and replaces older ratios of the same parts. Runs
on several machines can be merged one after the other. All other measurements remain in .build/bench/results.md of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "bench")]

from made_page import put  # noqa: E402  (the line above extends sys.path)
from rows import Section, as_data, from_data, verdicts  # noqa: E402
from tables import judged_table  # noqa: E402

RECORD = ROOT / "tests" / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->
<!-- Made by tests/tools/performance_page.py of tests/bench/results.json; `make bench` measures again. -->
# Performance

Ratios of times that were measured in one run on one machine; seconds vary with the machine. No NVIDIA GPU was in any of them: how long the driver takes
for a VF or a vGPU on hardware is not in these numbers. `make bench` measures all on [twins](twin.md), `make bench BENCH=local` on your processor without
one. All values and profiles are then in `.build/bench/results.md`. **Bold values miss their limit**:
Ansible sends the module to the host with each task, and Python compiles its sources each time. *Least possible* is the time of the same module on a host
without GPUs, where it has almost nothing to read. Where that exceeds the limit, a change of the module alone cannot meet it.
"""


def load(path: Path) -> list[tuple[dict, list[Section]]]:
    """Return the runs of the record, each as (conditions, sections)."""
    return [(run["conditions"], from_data(run["sections"])) for run in json.loads(path.read_text(encoding="utf-8"))]


def save(path: Path, runs: list[tuple[dict, list[Section]]]) -> None:
    """Write the record of the bench's ratios."""
    data = [{"conditions": told, "sections": as_data(sections)} for told, sections in runs]
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def short(section: Section) -> Section:
    """Return the part of a section that the page shows: measured ratios with a limit, and their rows."""
    ratios = [one.ratio for one in verdicts([section]) if one.ratio.limit and one.value is not None]
    keys = {key for ratio in ratios for key in (ratio.above, ratio.below, ratio.least)}
    return Section(section.title, [row for row in section.rows if row.key in keys], ratios)


def take(runs: list[tuple[dict, list[Section]]], told: dict, sections: list[Section]) -> list[tuple[dict, list[Section]]]:
    """Return the runs with a new run added. Its sections replace older sections with the same title."""
    new = [one for one in map(short, sections) if one.ratios]
    titles = {one.title for one in new}
    old = [(conditions, [one for one in kept if one.title not in titles]) for conditions, kept in runs]
    return [(conditions, kept) for conditions, kept in old if kept] + ([(told, new)] if new else [])


def page(runs: list[tuple[dict, list[Section]]]) -> str:
    """Return the whole page of performance ratios."""
    text = [HEAD]
    for told, sections in runs:
        where = told.get("host") or told["controller"]
        text += [f"{', '.join(one.title for one in sections)} ({told['date'][:10]}, commit {told['commit']}; {where}):", "", *judged_table(sections), ""]
    return "\n".join(text).rstrip("\n") + "\n"


def main(argv: list[str]) -> int:
    """Write or check docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", type=Path)
    options = parser.parse_args(argv)
    if options.take:
        new = json.loads(options.take.read_text(encoding="utf-8"))
        save(RECORD, take(load(RECORD) if RECORD.exists() else [], new["conditions"], from_data(new["sections"])))
    remedy = "differs from the measurement: run 'tests/tools/performance_page.py --take .build/bench/results.json'"
    return 0 if put(PAGE, page(load(RECORD)), options.check, "tests/bench/results.json", remedy) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
