# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures of the crash tests: twins, options for the number of kills and power cuts, and a tally of survived kills and power cuts."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import VFS, Remote, Twin  # noqa: E402  (the line above extends sys.path)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the number of kills and power cuts."""
    group = parser.getgroup("crash")
    group.addoption("--kills", type=int, default=14, help="total number of SIGKILLs (default: %(default)s)")
    group.addoption("--cuts", type=int, default=1, help="power cuts of a quick twin (default: %(default)s)")
    group.addoption("--site-cuts", type=int, default=0, help="power cuts of full runs of site (default: %(default)s)")
    group.addoption("--seed", type=int, default=None, help="seed of the random moments (default: a new seed in each run)")


class Tally:
    """The numbers of survived kills and power cuts."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.counts: dict[str, int] = {}

    def add(self, what: str) -> None:
        """Count one survived kill or power cut."""
        self.counts[what] = self.counts.get(what, 0) + 1
        print(f"{time.strftime('%H:%M:%S')} {self.counts[what]} {what}", flush=True)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed. The report shows the seed, with which a failure can be repeated."""
    seed = config.getoption("--seed")
    config.tally = Tally(random.randrange(10**6) if seed is None else seed)


def pytest_report_header(config: pytest.Config) -> str:
    """Show the seed at the start of the report."""
    return f"crash tests: --seed {config.tally.seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the numbers of survived kills and power cuts."""
    terminalreporter.section(f"survived (--seed {config.tally.seed})")
    for what, count in sorted(config.tally.counts.items()):
        terminalreporter.line(f"{count:5} {what}")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Return the tally."""
    return request.config.tally


@pytest.fixture
def chance(tally: Tally, request: pytest.FixtureRequest) -> random.Random:
    """Return a random number generator that depends only on the seed and the test's name."""
    return random.Random(f"{tally.seed} {request.node.name}")


@pytest.fixture(scope="session")
def machine() -> Iterator[Twin]:
    """Yield the quick twin. If a test requires the other framework, the twin is booted again."""
    twin = Twin("crash-quick")
    try:
        yield twin
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            twin.down()


class Lab:
    """A quick twin that boots at its first use with one of the frameworks."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.framework = ""
        self.remote: Remote | None = None

    def of(self, framework: str) -> Remote:
        """Return the server on the twin with this framework."""
        if self.framework != framework or self.remote is None:
            self.close()
            self.twin.up("--tier", "quick", "--gpus", "2", "--hw", f"totalvfs={VFS}", "--framework", framework)
            self.framework = framework
            self.remote = Remote(self.twin)
        return self.remote

    def close(self) -> None:
        """Stop the server."""
        if self.remote:
            self.remote.close()
            self.remote = None


@pytest.fixture(scope="session")
def lab(machine: Twin) -> Iterator[Lab]:
    """Yield the lab whose twin runs the killed modules."""
    made = Lab(machine)
    yield made
    made.close()
