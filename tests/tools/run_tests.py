# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Run all nox sessions and count their tests. This is `make test`.

Every session runs, even if another one fails: three in parallel, at most two of which boot machines. Each line of output appears
at once, with the time since the start. The summary is a table of the sessions, then the failures (names of tests, or the last
output of a session without named tests) and the steps that cannot run. The last line is ``N passed, N failed``: all tests of
pytest, all sanity tests, and one for each linter. The exit status is 1 if anything failed.

An interruption (Ctrl-C, SIGTERM, SIGHUP) stops the sessions and the machines that they booted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".build" / "results"
TWIN = ROOT / "tests" / "twin" / "twin"
INTERRUPTED = threading.Event()
GRACE = 20  # Time that interrupted sessions have to exit, in seconds.
# Sessions of the plain run. Sessions that take much longer, or that kill at random moments, run only by name: system-long, awx, runner, release-twin,
# libvirt, operations, drivers, boot-loaders, guest, guest-molecule, fleet, watch, watch-machine, tutorials-machine, misbehaving, in_use, nvswitch, faults,
# crash, crash-short; molecule, whose steps are part of session life; coverage and units-2.19, which repeat session engine; and bench, which needs the whole
# machine. Sessions with machines come before the long ones without: the last session has the cores for itself, so a short one leaves them idle for less
# time. Linters come first, because their errors are the most frequent; they also run while `system` builds the image that `life` needs.
SESSIONS = (
    *("system", "lint", "docs", "site", "life", "twin_unit", "engine", "twin", "sanity-2.18", "faults-short", "sanity-2.19", "sanity-2.21"),
    *("units-2.18", "units-2.21", "fuzz", "tutorials", "release", "report", "clouds"),
)
# Three sessions run in parallel on two cores, because each waits at times: for a download, a boot, a guest's answer, or a tested timeout. More than
# two with machines would slow each other down: QEMU and the controller need a core for each machine, and 2 GiB.
SIDE_BY_SIDE = 3
WITH_MACHINES = 2
WITHOUT_MACHINES = (
    *("lint", "docs", "site", "engine", "coverage", "twin_unit", "fuzz", "tutorials", "release", "report", "clouds", "awx", "watch", "misbehaving"),
    *("sanity-", "units-"),
)


@dataclass
class Outcome:
    """The result of one session."""

    name: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)


def collect(name: str, status: int, seconds: float, lines: list[str], said: Iterable[str] = ()) -> Outcome:
    """Summarize a session from the *lines* of its result file, its exit *status*, and its last output *said*."""
    outcome = Outcome(name, seconds)
    unnamed = False
    for line in lines:
        step = json.loads(line)
        outcome.passed += step["passed"]
        outcome.failed += step["failed"]
        outcome.skipped += step["skipped"]
        if step["failed"]:
            outcome.failures.append(f"{step['step']}: {step['failed']} failed")
            outcome.failures += [f"  {text}" for text in step["failures"]]
            unnamed = unnamed or not step["failures"]
        if step["not_run"]:
            outcome.not_run.append(f"{step['step']}: not run: {step['not_run']}")
    if status and not outcome.failed:
        outcome.failed = 1
        outcome.failures.append(f"{name}: the session ended with status {status} outside of the tests")
        unnamed = True
    if not status and not outcome.passed and not outcome.not_run:
        outcome.failed += 1
        outcome.failures.append(f"{name}: no test ran")
    if unnamed:
        outcome.failures += [f"  {name} | {text}" for text in said]
    return outcome


def clock(seconds: float) -> str:
    """Return *seconds* as minutes and seconds."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def command(name: str) -> list[str]:
    """Return the command that runs a session."""
    return [sys.executable, "-m", "nox", "--no-stop-on-first-error", "-f", str(ROOT / "noxfile.py"), "-s", name]


def run_session(name: str, start: float, running: dict[str, subprocess.Popen[str]]) -> Outcome | None:
    """Run one session and show its output. Return its outcome, or None after an interruption.

    While it runs, the session is in *running* and has its own process group.
    """
    if INTERRUPTED.is_set():
        return None
    result = RESULTS / f"{name}.jsonl"
    result.unlink(missing_ok=True)
    begin = time.monotonic()
    said: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        command(name), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    ) as process:
        running[name] = process
        for line in process.stdout or ():
            # A single write keeps the lines of parallel sessions apart.
            print(f"{clock(time.monotonic() - start)} {name} | {line.rstrip()}\n", end="", flush=True)
            if line.strip():
                said.append(line.rstrip())
    del running[name]
    lines = result.read_text(encoding="utf-8").splitlines() if result.exists() else []
    return collect(name, process.returncode, time.monotonic() - begin, lines, said)


class Queue:
    """Sessions that wait for their turn, and the outcomes of finished ones."""

    def __init__(self, names: Iterable[str], run: Callable[[str], Outcome | None]) -> None:
        """Store the function *run*, which runs one session and returns None after an interruption."""
        self.order = list(names)
        self.waiting = list(self.order)
        self.run = run
        self.active: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.changed = threading.Condition()

    def next(self) -> str | None:
        """Return the first session that may start now. A session with machines may start only while few enough of them run."""
        busy = sum(has_machines(name) for name in self.active)
        return next((name for name in self.waiting if busy < WITH_MACHINES or not has_machines(name)), None)

    def work(self) -> None:
        """Run one session after another until no session waits."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: not self.waiting or self.next())
                name = self.next()
                if name is None:
                    return
                self.waiting.remove(name)
                self.active.append(name)
            try:
                outcome = self.run(name)
                if outcome:
                    self.outcomes[name] = outcome
            finally:
                with self.changed:
                    self.active.remove(name)
                    self.changed.notify_all()

    def results(self) -> list[Outcome]:
        """Return the outcomes in the order of the sessions."""
        return [self.outcomes[name] for name in self.order if name in self.outcomes]


def has_machines(name: str) -> bool:
    """Return whether a session may boot machines."""
    return not any(name == word or word.endswith("-") and name.startswith(word) for word in WITHOUT_MACHINES)


def end(running: dict[str, subprocess.Popen[str]]) -> None:
    """Interrupt the running sessions and all their processes. Kill those that still run after GRACE."""
    groups = [process.pid for process in running.values()]
    deadline = time.monotonic() + GRACE
    for number in (signal.SIGINT, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        while any(alive(group) for group in groups) and time.monotonic() < deadline:
            time.sleep(0.2)


def alive(group: int) -> bool:
    """Return whether a process of the group still exists."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def machines() -> set[str]:
    """Return the names of this clone's running machines."""
    listed = subprocess.run([str(TWIN), "list"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False).stdout
    return {line.split("\t")[0] for line in listed.splitlines() if "\tup " in line}


def summary(outcomes: list[Outcome]) -> list[str]:
    """Return the lines of the summary of all sessions."""
    lines = ["", f"{'session':<14}{'time':>7}{'passed':>8}{'failed':>8}{'skipped':>9}"]
    lines += [f"{o.name:<14}{clock(o.seconds):>7}{o.passed:>8}{o.failed:>8}{o.skipped:>9}" for o in outcomes]
    lines.append("")
    for outcome in outcomes:
        lines += [text if text.startswith(" ") else f"FAILED {text}" for text in outcome.failures]
    for outcome in outcomes:
        lines += [f"NOTE   {text}" for text in outcome.not_run]
    lines.append(f"{sum(o.passed for o in outcomes)} passed, {sum(o.failed for o in outcomes)} failed")
    return lines


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description="Run the tests of the collection.")
    parser.add_argument("sessions", nargs="*", metavar="SESSION", help=f"sessions to run (default: {' '.join(SESSIONS)})")
    names = parser.parse_args().sessions or list(SESSIONS)
    start = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # All three signals stop the run. Sessions must not inherit an ignored Ctrl-C.
        signal.signal(number, signal.default_int_handler)
    up = machines()
    running: dict[str, subprocess.Popen[str]] = {}
    queue = Queue(dict.fromkeys(names), lambda name: run_session(name, start, running))
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        try:
            for lane in [pool.submit(queue.work) for dummy in range(SIDE_BY_SIDE)]:
                lane.result()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # A second Ctrl-C must not leave machines running.
            INTERRUPTED.set()
            print("interrupted: ending sessions and machines", flush=True)
            end(running)
            for name in sorted(machines() - up):
                subprocess.run([str(TWIN), "down", name], stdin=subprocess.DEVNULL, check=False)
            return 130
    outcomes = queue.results()
    print("\n".join(summary(outcomes)), flush=True)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
