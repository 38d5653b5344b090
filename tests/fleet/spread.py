# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs each test in a separate process, several in parallel: python spread.py --reports DIR [--jobs N] [--seconds N] [--shard I/N]
[pytest's arguments].

DIR receives a JUnit report for each test. After --seconds no further test starts. The exit status is 1 if a test failed or did not run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def collect(arguments: list[str]) -> list[str]:
    """Return the names of the tests."""
    done = subprocess.run([*PYTEST, "--collect-only", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    names = [line for line in done.stdout.splitlines() if "::" in line and not line.startswith(("ERROR", "FAILED"))]
    if done.returncode or not names:
        sys.exit(done.stdout[-3000:])
    return names


def main() -> int:
    """Run the tests and return the exit status."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--shard", default="1/1", help="run only every Nth test, starting with the Ith")
    parser.add_argument("--reports", type=Path, required=True)
    given, arguments = parser.parse_known_args()
    given.reports.mkdir(parents=True, exist_ok=True)
    first, step = (int(number) for number in given.shard.split("/"))
    begin = time.monotonic()

    def one(number: int, name: str) -> str:
        """Run one test and return its outcome."""
        start = time.monotonic()
        if start - begin > given.seconds:
            how = "not run"
        else:
            report = "--junitxml=%s" % (given.reports / ("%04d.xml" % number))
            done = subprocess.run([*PYTEST, report, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
            how = "failed" if done.returncode else "passed"
            if done.returncode:
                print("\n".join(line for line in done.stdout.splitlines() if line.startswith("E "))[-4000:], flush=True)
        print("%s %.0f s %s" % (how, time.monotonic() - start, name), flush=True)
        return how

    names = collect(arguments)[first - 1 :: step]
    with ThreadPoolExecutor(given.jobs) as pool:
        ended = list(pool.map(one, range(len(names)), names))
    counted = ["%d %s" % (ended.count(how), how) for how in ("passed", "failed", "not run")]
    print("%s in %.0f s" % (", ".join(counted), time.monotonic() - begin), flush=True)
    return int(ended.count("passed") < len(ended))


if __name__ == "__main__":
    sys.exit(main())
