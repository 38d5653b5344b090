# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the summary reports neither a failure nor a run without tests as a success."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import run_tests  # noqa: E402
from sessions import SESSIONS  # noqa: E402

NOXFILE = Path(__file__).resolve().parents[3] / "noxfile.py"


def line(**values: object) -> str:
    """Return one line of a result file."""
    return json.dumps({"step": "s", "passed": 0, "failed": 0, "skipped": 0, "not_run": "", "failures": [], **values})


def test_sums_steps() -> None:
    """The summary of a session adds up the counts of its steps."""
    outcome = run_tests.collect("x", 0, 1.0, [line(passed=3), line(passed=2, skipped=1)])
    assert (outcome.passed, outcome.failed, outcome.skipped) == (5, 0, 1)


def test_status_without_counted_failure_is_a_failure() -> None:
    """A session that fails outside of its tests counts as one failure."""
    assert run_tests.collect("x", 1, 1.0, [line(passed=3)]).failed == 1


def test_nothing_run_is_a_failure() -> None:
    """A session that ran no test counts as a failure."""
    assert run_tests.collect("x", 0, 1.0, []).failed == 1


def test_missing_interpreter_is_a_note() -> None:
    """The summary lists a step that cannot run. The step is not a failure, unless the session counts the step as a failure."""
    outcome = run_tests.collect("x", 0, 1.0, [line(not_run="no Python 3.13 found")])
    assert outcome.failed == 0
    assert outcome.not_run == ["s: not run: no Python 3.13 found"]


def test_failures_are_named() -> None:
    """The summary lists failures by the names of their tests. Without names, it shows the last output of the session."""
    named = run_tests.collect("x", 1, 1.0, [line(failed=1, failures=["a::b: assert 1 == 2"])], ["noise"])
    assert named.failures == ["s: 1 failed", "  a::b: assert 1 == 2"]
    unnamed = run_tests.collect("x", 1, 1.0, [line(failed=1)], ["task X", "fatal: no"])
    assert unnamed.failures == ["s: 1 failed", "  x | task X", "  x | fatal: no"]
    assert "FAILED s: 1 failed" in run_tests.summary([named]) and "  a::b: assert 1 == 2" in run_tests.summary([named])


def test_last_line_is_the_plain_summary() -> None:
    """CI reads only the last line of the output."""
    lines = run_tests.summary([run_tests.collect("x", 0, 1.0, [line(passed=3)]), run_tests.collect("y", 1, 1.0, [line(failed=2)])])
    assert lines[-1] == "3 passed, 2 failed"
    assert "FAILED s: 2 failed" in lines


def test_three_sessions_run_side_by_side_and_two_of_them_with_machines() -> None:
    """A lane that must not start a session with machines runs a later session without machines. Each session runs once, and the summary keeps the order."""
    names = ["system", "life", "twin", "faults-short", "lint", "docs", "units-2.18"]
    together: list[set[str]] = []
    done: list[str] = []

    def run(name: str) -> run_tests.Outcome:
        together.append(set(queue.active))
        time.sleep(0.02)
        done.append(name)
        return run_tests.Outcome(name)

    queue = run_tests.Queue(names, run)
    with ThreadPoolExecutor(run_tests.SIDE_BY_SIDE) as pool:
        for lane in [pool.submit(queue.work) for dummy in range(run_tests.SIDE_BY_SIDE)]:
            lane.result(timeout=30)
    assert sorted(done) == sorted(names) and [outcome.name for outcome in queue.results()] == names
    assert max(len(active) for active in together) == 3
    assert max(sum(run_tests.has_machines(name) for name in active) for active in together) == 2


def test_what_may_start_next() -> None:
    """The first session in the list starts next, unless it has machines and two sessions with machines already run."""
    queue = run_tests.Queue(["twin", "lint"], run_tests.Outcome)
    assert queue.next() == "twin"
    queue.active = ["system"]
    assert queue.next() == "twin"
    queue.active = ["system", "life"]
    assert queue.next() == "lint"
    queue.waiting = ["twin"]
    assert queue.next() is None


def test_an_interrupted_run_starts_nothing_more() -> None:
    """A session that did not run has no outcome."""
    queue = run_tests.Queue(["system", "lint"], lambda name: None)
    queue.work()
    assert queue.results() == [] and queue.waiting == []


def test_sessions_that_boot_are_counted_as_such() -> None:
    """A session that builds or boots machines must not be in WITHOUT_MACHINES."""
    tree = ast.parse(NOXFILE.read_text(encoding="utf-8"))
    boots = {"build_twins", "fault_matrix"}
    sessions = {one.name: bool(one.machines) for one in SESSIONS}
    for function in (one for one in tree.body if isinstance(one, ast.FunctionDef)):
        for call in (one for one in function.decorator_list if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "session_of"):
            called = {getattr(node.func, "id", "") for node in ast.walk(function) if isinstance(node, ast.Call)}
            sessions[ast.literal_eval(call.args[0])] = bool(boots & called)
    assert {"system", "faults-short", "molecule", "lint", "release"} <= set(sessions)
    assert [name for name, booting in sessions.items() if booting and not run_tests.has_machines(name)] == []
    assert not any(run_tests.has_machines(name) for name in ("lint", "release", "sanity-2.18", "units-2.21"))
    assert run_tests.has_machines("release-twin")


INTERRUPTED = """
import sys
sys.path.insert(0, {tools!r})
import run_tests
from pathlib import Path
run_tests.TWIN = Path({folder!r}) / "twin"
run_tests.RESULTS = Path({folder!r})
run_tests.GRACE = 3
run_tests.command = lambda name: ["sh", "-c", "touch {folder}/up-new; trap '' INT; sleep 61 & sleep 62 & echo begun; wait; wait"]
sys.argv = ["run_tests.py", "lint", "system"]
sys.exit(run_tests.main())
"""
TWIN = """#!/bin/sh
cd "$(dirname "$0")"
case $1 in
    list) echo 'accelerator: any'; for up in up-*; do printf '%s\\tup pid 1\\n' "${up#up-}"; done ;;
    down) rm "up-$2" ;;
esac
"""


@pytest.mark.parametrize("start", [[], ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]], ids=["foreground", "background"])
def test_an_interruption_ends_sessions_and_their_machines(tmp_path: Path, start: list[str]) -> None:
    """An interruption stops all processes of the sessions, including background jobs of scripts, which ignore Ctrl-C.

    It also stops machines that the run started. Machines that were running before keep running.
    """
    (tmp_path / "twin").write_text(TWIN)
    (tmp_path / "twin").chmod(0o755)
    (tmp_path / "up-old").touch()
    program = INTERRUPTED.format(tools=str(Path(run_tests.__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([*start, sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert all("begun" in line for line in lines), lines
        children = subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        assert len(children) == 2
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()
    assert process.returncode == 130, out
    deadline = time.monotonic() + 5
    while any(run_tests.alive(int(group)) for group in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(run_tests.alive(int(group)) for group in children)
    assert sorted(os.listdir(tmp_path)) == ["twin", "up-old"]
