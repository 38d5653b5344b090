# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Makes docs/performance.md of what `make bench` measured.

``performance_page.py`` writes the page from tests/bench/results.json; ``--check`` fails if it is not what it would write;
``--take FILE`` makes FILE (.build/bench/results.json) the repository's record first; ``--take-before FILE`` makes it the one that is compared with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "bench")]

from made_page import put  # noqa: E402  (found through the line above)
from rows import Section, by_key, from_data  # noqa: E402  (found through the line above)
from tables import conditions_list, number, profiles_text, section_text, times, write_table  # noqa: E402

RECORD = ROOT / "tests" / "bench" / "results.json"
BEFORE = ROOT / "tests" / "bench" / "before.json"
PAGE = ROOT / "docs" / "performance.md"

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->
<!-- Made by tests/tools/performance_page.py of tests/bench/results.json; `make bench` measures anew. -->
# Performance

How long things take, against the least that they could take and against what is done elsewhere. All was measured by `make bench`, in one run unless the
list below says otherwise, on booted [twins](twin.md). **Look at the ratios, not at the seconds**: a twin's processors may be emulated by software, and
their speed varies by a third from one minute to the next; its GPUs are modelled. How long NVIDIA's driver takes for a vGPU or for VFs on hardware is not
in these numbers.

To measure on your machine: `make bench` (45 minutes without KVM), `make bench BENCH="--full"` for what is reckoned here and not measured,
`make bench BENCH="boot --repeats 5"` for one part. Results lie in `.build/bench`.
"""


def load(path: Path) -> tuple[dict, list[Section]]:
    """A record's conditions and sections."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return told["conditions"], from_data(told["sections"])


def compared(before: list[Section], after: list[Section]) -> list[str]:
    """The rows that both have, where they differ by a tenth or more."""
    old = by_key(before)
    lines = []
    for key, row in by_key(after).items():
        if key not in old or row.unit == "bytes" and old[key].median == row.median:
            continue
        was, now = old[key].median, row.median
        if was and now and not 0.9 < was / now < 1.1:
            lines.append([row.what, number(was, row.unit), number(now, row.unit), times(was / now)])
    return write_table(["measured", "before", "now", "before / now"], lines)


def page(conditions: dict, sections: list[Section], before: tuple[dict, list[Section]] | None) -> str:
    """The whole page."""
    text = [HEAD, "## On what it was measured", "", *conditions_list(conditions), ""]
    for section in sections:
        text += section_text(sections, section)
    if before:
        text += ["## Before and now", "", f"Before: commit {before[0]['commit']}, {before[0]['date']}. What differs by less than a tenth is left out.", ""]
        text += [*compared(before[1], sections), ""]
    text += ["## Where the time goes", ""]
    for section in sections:
        text += profiles_text(section)
    if before:
        text += ["## Where the time went before", ""]
        for section in before[1]:
            text += profiles_text(section)
    return "\n".join(text).rstrip("\n") + "\n"


def main(argv: list[str]) -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", type=Path)
    parser.add_argument("--take-before", type=Path)
    options = parser.parse_args(argv)
    if options.take:
        shutil.copyfile(options.take, RECORD)
    if options.take_before:
        shutil.copyfile(options.take_before, BEFORE)
    wanted = page(*load(RECORD), load(BEFORE) if BEFORE.exists() else None)
    remedy = "is not what was measured: tests/tools/performance_page.py --take .build/bench/results.json"
    return 0 if put(PAGE, wanted, options.check, "tests/bench/results.json", remedy) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
