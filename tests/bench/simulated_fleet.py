# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""vgpu.kvm.validate and vgpu.kvm.report over a simulated fleet: over its hosts, over the vGPUs of a host, and by forks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "simulated"))

import runs as simulated  # noqa: E402  (simulated/runs.py)
from machines import Bench, say  # noqa: E402  (beside this file)
from rows import Ratio, Row, Section  # noqa: E402  (beside this file)

ABOUT = (
    "A simulated fleet: each host has eight A40 and up to 128 vGPUs with a VM on each; eight of a hundred have faults, two can't be reached. "
    "The controller does all that it does, and a host's answer is what the module printed on such a host. `-f 10`. A run counts only if it told of each "
    "host what is so. *Largest process* is that of the controller. For the forks each "
    "host takes two seconds for its answer."
)
FORKS = (5, 10, 25, 50)
HOST_SECONDS = 2.0


def measure(bench: Bench) -> list[Section]:
    """All rows of this part."""
    section = Section("A fleet", about=ABOUT)
    sizes = bench.settings.fleet_hosts
    few, many = sizes[-2:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mode in simulated.MODES:
            for hosts in sizes:
                say(f"{mode} over {hosts} hosts")
                done = simulated.run(folder, mode, hosts)
                words = f"`{mode}`, {hosts} hosts"
                section.rows += [
                    Row(f"fleet-{mode}-{hosts}", words, [done.wall]),
                    Row(f"fleet-{mode}-cpu-{hosts}", f"{words}: of all processors", [done.cpu]),
                    Row(f"fleet-{mode}-memory-{hosts}", f"{words}: largest process", [done.rss], "MiB"),
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
        *[
            Ratio(f"`{mode}`: {many} hosts / {few} hosts", f"fleet-{mode}-{many}", f"fleet-{mode}-{few}", at_most=many / few if mode == "validate" else None)
            for mode in simulated.MODES
        ],
        Ratio("`validate`: memory with 128 vGPUs on each host / with 1", "fleet-memory-vgpus-128", "fleet-memory-vgpus-1", at_most=1.05),
        Ratio("`validate`: `-f 5` / `-f 50`", "fleet-forks-5", "fleet-forks-50"),
    ]
    return [section]
