# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Times vgpu.kvm.validate and vgpu.kvm.report over a simulated fleet: over its hosts, and over the vGPUs of a host. Boots no machine.

A part of the bench, and a program of its own: with --real the modules run, each in a process of its own, on trees of files; without, their answers
are files, and the controller's part alone is measured. The collection must lie in .build/collections (tests/tools/mirror.py). Prints a line for each
run, and writes them as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
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


def numbers(text: str) -> list[int]:
    """10,100 as a list."""
    return [int(word) for word in text.split(",") if word]


def main(argv: list[str]) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=numbers, default=[10, 100, 1000], help="sizes of the fleet (default: 10,100,1000)")
    parser.add_argument("--vgpus", type=numbers, default=[], help="instead of the usual mix: all hosts well, with so many vGPUs each (1, 16, 64, 128 or 256)")
    parser.add_argument("--modes", nargs="+", choices=simulated.MODES, default=list(simulated.MODES))
    parser.add_argument("--ansible", action="append", default=[], help="an ansible-playbook (default: that of this Python's environment); may be repeated")
    parser.add_argument("--real", action="store_true", help="run the modules")
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--strategy", default="linear")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where all runs are written")
    options = parser.parse_args(argv)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for program in options.ansible or [""]:
            for mode in options.modes:
                for vgpus in options.vgpus or [None]:
                    mix = None if vgpus is None else {"healthy-%d" % vgpus: 1}
                    for hosts in options.hosts:
                        for dummy in range(options.repeats):
                            done = simulated.run(Path(folder), mode, hosts, mix, options.real, program, options.forks, options.strategy)
                            found.append(dict(asdict(done), vgpus=vgpus, ansible=program, real=options.real, forks=options.forks, strategy=options.strategy))
                            words = (mode, hosts, "" if vgpus is None else " of %d vGPUs" % vgpus, done.wall, done.cpu, done.rss)
                            print("%s, %d hosts%s: %.1f s, %.1f s of processors, largest process %.0f MiB" % words, flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
