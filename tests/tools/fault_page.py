# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes docs/faults.md from the fault matrix and the record of a run.

``--check`` fails if the page is not up to date. ``--run FILE`` reads the record of another run instead of the repository's; with ``--check``, it
compares the page with that run. ``--take FILE`` copies FILE over the repository's record first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "faults")]

from made_page import put  # noqa: E402  (the line above extends sys.path)
from matrix import Fault  # noqa: E402  (the line above extends sys.path)
from table import STAGES  # noqa: E402

RECORD = ROOT / "tests" / "faults" / "results.json"
PAGE = ROOT / "docs" / "faults.md"

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->
<!-- Made by tests/tools/fault_page.py of tests/faults/; edit those. -->
# Faults

Each row was produced on a booted [twin](twin.md): a stock kernel with an emulated GPU, whose behavior is a model from public sources. The table is generated
from the tests and their record. `make test-faults` repeats all of it.

A row that fails has a message with device, what was found, what was expected and what to do, and lists what was done and what was not. Meanwhile a vGPU of
another user runs on another GPU, if the machine has one, and must not be affected.

Then the fault is removed, and the same module or role runs twice more. *changed, then nothing* means that the first of these runs repaired the host and the
second one found nothing to do. In messages, `<UUID>`, `<n>`, `<kernel>` and `…` replace what differs from run to run.
"""


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def line(row: Fault, record: dict[str, str] | None) -> str:
    """Return the row of one fault."""
    if record is None:
        return f"| {cell(row.fault)} | {row.run} | *no run is recorded yet* | | |"
    seen = cell(record["seen"]) or "none: the same run waits for it or repairs it"
    state = f"{cell(record['done'])} **State:** {cell(record['left'])}"
    return f"| {cell(row.fault)} | {row.run} | {seen} | {state} | {cell(record['rerun'])} |"


def page(records: dict[str, dict[str, str]]) -> str:
    """Return the whole page of faults."""
    parts = [HEAD]
    for stage, rows in STAGES.items():
        parts.append(f"## {stage}\n")
        parts.append("| fault | run | message | done, and the state left | run again without the fault |")
        parts.append("|---|---|---|---|---|")
        parts += [line(row, records.get(row.key)) for row in rows]
        parts.append("")
    return "\n".join(parts)


def main(argv: list[str]) -> int:
    """Write or check docs/faults.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--take", type=Path)
    options = parser.parse_args(argv)
    if options.take:
        shutil.copyfile(options.take, RECORD)
    source = options.run or RECORD
    records = json.loads(source.read_text(encoding="utf-8"))
    missing = [row.key for rows in STAGES.values() for row in rows if row.key not in records]
    if missing:
        print(f"{source}: no record of {', '.join(missing)}. Run 'make test-faults' to create the record.")
    expected = page(records)
    good = put(PAGE, expected, options.check, str(source), "differs from the results: run 'tests/tools/fault_page.py --take .build/faults/results.json'")
    return 1 if not good or options.check and missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
