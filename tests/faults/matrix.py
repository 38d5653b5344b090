# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Defines the rows of the fault matrix. A row describes one fault at one stage."""

from __future__ import annotations

import dataclasses

# Name of the machine.
NAME = "faults"
# The GPU with the fault, and the GPU that another user uses during the test.
GPU = "0000:e8:00.0"
OTHER_GPU = "0000:e7:00.0"


def until(condition: str) -> str:
    """Return a shell line that waits until the condition holds and fails after two minutes."""
    return f"for i in $(seq 600); do {condition} && exit 0; sleep 0.2; done; exit 1"


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of the collection that the row runs alone, as root."""

    name: str
    arguments: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Role:
    """A role of the collection that the row runs as the only role of a play."""

    name: str
    variables: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"role {self.name}"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row of the fault matrix.

    key: name of the row. machine: start state (see machines.py). make, lift: shell lines that root runs on the machine, ``twin: KEY=NUMBER`` for faults
    of the twin, or ``here: COMMAND`` on the controller. device, found, expected, remedy: texts that the message must contain, regardless of additions
    from the kernel or a tool. done, not_done: parts of the texts of completed actions and of actions that were not completed.

    heals: the run repairs the fault or waits until it disappears, and must succeed. unchanged: after the fault is lifted, the next run changes nothing.
    short: every test run includes the row. left: a shell line that prints the remaining state. lifted_on: the start state without the fault, which
    replaces the machine if the fault cannot be lifted at run time. settled: a shell line that succeeds when the machine has settled after the
    failure.
    """

    key: str
    fault: str
    machine: str
    run: Module | Role
    make: tuple[str, ...]
    lift: tuple[str, ...] = ()
    device: str = GPU
    found: tuple[str, ...] = ()
    expected: str = ""
    remedy: str = ""
    done: tuple[str, ...] = ()
    not_done: tuple[str, ...] = ()
    heals: bool = False
    unchanged: bool = False
    short: bool = False
    left: str = ""
    lifted_on: str = ""
    settled: str = ""

    def __post_init__(self) -> None:
        if not self.heals and not (self.device and self.found and self.expected and self.remedy):
            raise ValueError(f"{self.key}: a row whose run does not repair the fault requires device, found, expected, and remedy")
