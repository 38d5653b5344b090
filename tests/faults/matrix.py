# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""What a row of the fault matrix is: one fault at one stage, as data."""

from __future__ import annotations

import dataclasses

# The machine.
NAME = "faults"
# The GPU that a fault meets, and the one that somebody else uses meanwhile.
GPU = "0000:e8:00.0"
OTHER_GPU = "0000:e7:00.0"


def until(condition: str) -> str:
    """A shell line that ends once the condition is true; it fails if that takes two minutes."""
    return f"for i in $(seq 600); do {condition} && exit 0; sleep 0.2; done; exit 1"


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of the collection, run alone as root."""

    name: str
    arguments: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Role:
    """A role of the collection, as the only one of a play."""

    name: str
    variables: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"role {self.name}"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row.

    key names it. machine is the start (see machines.py). make and lift are shell lines that root runs on the machine, or
    ``twin: KEY=NUMBER`` for the twin's own faults, or ``here: COMMAND`` on the controller. device, found, expected and remedy must
    stand in the message, whatever the kernel or a tool adds; found may be several. done and not_done: words of the actions that were, or were not, done.

    heals: it is put right, or waited for, in the same run, which must succeed. unchanged: nothing is left to be done once the fault
    is lifted. short: it belongs to the part that every test run has. left: a shell line of its own that tells the state left.
    lifted_on: the start that stands for the machine after the fault was lifted, where a running one can't be changed.
    settled: a shell line that is true once the machine has come to rest after the failure.
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
            raise ValueError(f"{self.key}: a fault that is not put right must be told: device, found, expected, remedy")
