# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures vgpu.kvm.validate and vgpu.kvm.report over a simulated fleet, by number of hosts, vGPUs on a host, and forks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "simulated"))

import runs as simulated  # noqa: E402  (the module simulated/runs.py)
from machines import Bench, say  # noqa: E402  (a module of this directory)
from rows import Ratio, Row, Section  # noqa: E402  (a module of this directory)

ABOUT = (
    "A simulated fleet: each host has eight A40 and up to 128 vGPUs, each with a VM. Of a hundred hosts, eight have faults, and two are unreachable. For "
    "`site`, all hosts are converged. The controller does all its work, and each host answers at once with the recorded output of the module, so these rows "
    "measure only the controller. `ping` is `ansible -m ping` over the same hosts. Runs use `-f 10` unless a row names another number. A run counts only if "
    "its result is correct for each host. *Largest process* is the controller's. In the rows for several numbers of forks, each host answers after two seconds."
)
FORKS = (5, 10, 25, 50)
HOST_SECONDS = 2.0
SKIPPED = 20  # number of skipped tasks in the second play; the first play has one task


def size_rows(folder: Path, hosts: int, forks: int = 10) -> list[Row]:
    """Measure all modes over *hosts* hosts."""
    rows, suffix, more = [], "" if forks == 10 else f"-f{forks}", "" if forks == 10 else f", `-f {forks}`"
    for mode in ("ping", *simulated.MODES):
        say(f"{mode} over {hosts} hosts, {forks} forks")
        done = simulated.ping(folder, hosts, forks) if mode == "ping" else simulated.run(folder, mode, hosts, forks=forks)
        words = f"`{mode}`, {hosts} hosts{more}"
        rows += [
            Row(f"fleet-{mode}-{hosts}{suffix}", words, [done.wall]),
            Row(f"fleet-{mode}-cpu-{hosts}{suffix}", f"{words}: of all processors", [done.cpu]),
            Row(f"fleet-{mode}-memory-{hosts}{suffix}", f"{words}: largest process", [done.rss], "MiB"),
        ]
    return rows


def skipped_row(folder: Path, hosts: int) -> Row:
    """Measure the cost of a skipped task for the controller, for each host."""
    say("skipped tasks")
    walls = [simulated.skipped(folder, hosts, number) for number in (1, 1 + SKIPPED)]
    return Row("fleet-skipped", "a skipped task, on each host", [(walls[1] - walls[0]) / SKIPPED / hosts])


def measure(bench: Bench) -> list[Section]:
    """Run the benchmarks in this file, and return the sections of the report."""
    section = Section("A fleet", about=ABOUT)
    sizes = bench.settings.fleet_hosts
    few, many = sizes[-2:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for hosts in sizes:
            section.rows += size_rows(folder, hosts)
        section.rows += size_rows(folder, many, 50)
        section.rows.append(skipped_row(folder, few))
        for mode in ("validate", "site"):
            ran, left = simulated.task_counts(folder, mode)
            section.rows += [
                Row(f"fleet-{mode}-tasks", f"`{mode}`: tasks that cost a process for each host", [ran + left], "tasks"),
                Row(f"fleet-{mode}-skipped", f"`{mode}`: of these, skipped", [left], "tasks"),
            ]
        for vgpus in (1, 128):
            say(f"validate over {few} hosts with {vgpus} vGPUs each")
            done = simulated.run(folder, "validate", few, {f"healthy-{vgpus}": 1})
            section.rows.append(Row(f"fleet-memory-vgpus-{vgpus}", f"`validate`, {few} hosts with {vgpus} vGPUs each: largest process", [done.rss], "MiB"))
        for forks in FORKS:
            say(f"validate over {few} hosts, {forks} forks")
            done = simulated.run(folder, "validate", few, {"healthy-16": 1}, forks=forks, seconds=HOST_SECONDS)
            section.rows.append(Row(f"fleet-forks-{forks}", f"`validate`, {few} hosts that take {HOST_SECONDS:g} s each, `-f {forks}`", [done.wall]))
    section.ratios = [
        *[Ratio(
            f"`{mode}` / `ping`, {hosts} hosts", f"fleet-{mode}-{hosts}", f"fleet-ping-{hosts}", at_most=3 if mode == "validate" and hosts == many else None,
        ) for mode in ("validate", "site") for hosts in (few, many)],
        Ratio(f"`validate` / `ping`, {many} hosts, `-f 50`", f"fleet-validate-{many}-f50", f"fleet-ping-{many}-f50", at_most=3),
        Ratio(f"`site` / `ping`, {many} hosts, `-f 50`", f"fleet-site-{many}-f50", f"fleet-ping-{many}-f50"),
        *[
            Ratio(f"`{mode}`: {many} hosts / {few} hosts", f"fleet-{mode}-{many}", f"fleet-{mode}-{few}", at_most=many / few if mode == "validate" else None)
            for mode in simulated.MODES
        ],
        Ratio("`validate`: memory with 128 vGPUs on each host / with 1", "fleet-memory-vgpus-128", "fleet-memory-vgpus-1", at_most=1.05),
        Ratio("`validate`: `-f 5` / `-f 50`", "fleet-forks-5", "fleet-forks-50"),
    ]
    return [section]
