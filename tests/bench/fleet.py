# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Times vgpu.kvm.validate and vgpu.kvm.report over a simulated fleet, by number of hosts and by vGPUs on a host. No machine is booted.

The bench runs the same measurements in simulated_fleet.py. With --real, the modules run on trees of files, each in its own process. Without it, the
answers are files, and only the controller's part is measured. The collection must be in .build/collections (tests/tools/mirror.py). The program prints
a line for each run; with --json FILE it also writes the runs as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "simulated"))

import runs as simulated  # noqa: E402  (the module simulated/runs.py)


def numbers(text: str) -> list[int]:
    """Return the numbers of a text such as 10,100."""
    return [int(word) for word in text.split(",") if word]


def main(argv: list[str]) -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=numbers, default=[10, 100, 1000], help="sizes of the fleet (default: 10,100,1000)")
    parser.add_argument("--vgpus", type=numbers, default=[], help="run over healthy hosts only, each with this number of vGPUs (1, 16, 64, 128, or 256)")
    parser.add_argument("--modes", nargs="+", choices=("ping", *simulated.MODES), default=list(simulated.MODES))
    parser.add_argument("--ansible", action="append", default=[], help="path of ansible-playbook (default: in this Python's environment); can be repeated")
    parser.add_argument("--real", action="store_true", help="run the modules")
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--strategy", default="linear")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the results of all runs")
    options = parser.parse_args(argv)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for program in options.ansible or [""]:
            for mode in options.modes:
                for vgpus in options.vgpus or [None]:
                    mix = None if vgpus is None else {"healthy-%d" % vgpus: 1}
                    for hosts in options.hosts:
                        for dummy in range(options.repeats):
                            if mode == "ping":
                                done = simulated.ping(Path(folder), hosts, options.forks)
                            else:
                                done = simulated.run(Path(folder), mode, hosts, mix, options.real, program, options.forks, options.strategy)
                            found.append(dict(asdict(done), vgpus=vgpus, ansible=program, real=options.real, forks=options.forks, strategy=options.strategy))
                            words = (mode, hosts, "" if vgpus is None else " of %d vGPUs" % vgpus, done.wall, done.cpu, done.rss)
                            print("%s, %d hosts%s: %.1f s, %.1f s of processors, largest process %.0f MiB" % words, flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
