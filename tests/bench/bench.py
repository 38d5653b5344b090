# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures the run times of the collection, and compares these times with the possible minimum and with other tools. This is `make bench`.

Writes .build/bench/results.json (all values, medians, verdicts and conditions) and .build/bench/results.md, and prints the latter.
The exit status is 1 if a limit is exceeded, unless --report-only is set.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

from machines import ROOT, Bench, conditions, load, say
from rows import Section, as_data, broken, verdicts
from settings import Settings
from tables import report

OUTPUT = ROOT / ".build" / "bench"
# The module of each part, by the part's name. The module of "site" has another name, because Python itself has a module "site". measure(bench) of each
# module returns a list of sections (rows.py).
PARTS = {
    "local": "local", "modules": "single_module", "site": "whole_host", "bare": "bare_host", "boot": "boot", "fleet": "simulated_fleet",
}


def write(told: dict, sections: list[Section], folder: Path) -> str:
    """Write the results measured so far into *folder*, and return them as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"conditions": told, "sections": as_data(sections)}, indent=1) + "\n", encoding="utf-8")
    text = report(told, sections)
    (folder / "results.md").write_text(text, encoding="utf-8")
    return text


def main(argv: list[str]) -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"parts to measure (default: {' '.join(PARTS)})")
    parser.add_argument("--full", action="store_true", help="measure values that are otherwise calculated; takes over an hour without KVM")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs of each measurement, of which the median counts (default: %(default)s)")
    parser.add_argument("--report-only", action="store_true", help="exit with status 0 even if a limit is exceeded")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory for the results (default: .build/bench)")
    options = parser.parse_args(argv)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown parts: {' '.join(unknown)}")
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    settings = Settings(options.repeats, options.full)
    subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "mirror.py")], check=True, stdout=subprocess.DEVNULL)
    told = conditions()
    sections: list[Section] = []
    begun = time.monotonic()
    bench = Bench(settings, told)
    try:
        for name in options.parts or PARTS:
            say(f"part {name}")
            sections += importlib.import_module(PARTS[name]).measure(bench)
            told["load after"] = f"{load():.2f}"
            told["took"] = f"{(time.monotonic() - begun) / 60:.0f} minutes"
            write(told, sections, options.output)
    finally:
        bench.end()
    print(write(told, sections, options.output))
    bad = broken(sections)
    asked = [one for one in verdicts(sections) if one.verdict]
    for one in bad:
        print(f"NOT HELD: {one.ratio.what}: {one.value:.2f} (expected: {one.ratio.limit})")
    print(f"{len(asked)} asked, {len(bad)} not held")
    return 1 if bad and not options.report_only else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
