# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps that add or remove kernel flags for the next boot. The planner writes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Refusal
from ..base.plan import Plan
from ..base.steps import Step
from ..hardware import kernel_flags
from ..read.boot_entries import Entry
from .loader import Changes, Loader
from .record import Record

_PLAIN = re.compile(r"[\w.,:=/@%+-]+\Z", re.ASCII)


@dataclass(eq=False, repr=False)
class Facts:
    """The planner's input in addition to the boot loader's files.

    The *running* attribute contains the words of the running kernel's command line. *boot* is the ID of the current boot.
    """

    running: list[str]
    boot: str
    record: Record
    pending: bool = False  # whether an edit by an earlier run requires a rebuild of the boot loader configuration


@dataclass(eq=False, repr=False)
class Target:
    """The state after the last step. *loader* is None if no change is necessary and the boot loader is unknown."""

    flags: list[str]
    absent: bool = False
    rebuild: bool = False
    loader: Loader | None = None
    changes: Changes = field(default_factory=Changes)
    next_boot: list[Entry] = field(default_factory=list)


CmdlinePlan = Plan[Target]


def wrong_flags(flags: Sequence[str]) -> list[Refusal]:
    """Returns the errors for flags that cannot be written to boot loader files, and for conflicting flags."""
    errors = []
    for flag in flags:
        if not _PLAIN.match(flag) or flag.startswith(("=", "-")):
            plain = "letters, digits, and any of . , : = / @ % + - _"
            remedy = "Remove this flag from the list, and add the flag to the boot loader's files manually."
            errors.append(Refusal("%r cannot be written to the files of all boot loaders" % flag, "flags", plain, remedy, "bad_flag"))
    against = [] if errors else kernel_flags.missing(flags, flags)
    if against:
        both = "%s and %s are conflicting flags" % (" ".join(against), kernel_flags.against(against, flags))
        errors.append(Refusal(both, "flags", "flags that do not conflict with each other", "Remove one of the conflicting flags.", "bad_flag"))
    return errors


def plan_present(loader: Loader, flags: Sequence[str], rebuild: bool, facts: Facts) -> CmdlinePlan:
    """Returns the plan that makes the flags effective at the next boot. Raises EngineError if the flags cannot take effect."""
    target = Target(list(flags), rebuild=rebuild or facts.pending, loader=loader)
    result = Plan(target)
    target.changes = loader.plan(flags, target.rebuild)
    target.next_boot = loader.next_boot()
    _steps(result)
    lacks = kernel_flags.missing(flags, facts.running)
    if result.steps and flags:
        result.steps.append(Step("verify", None, None, "verify that the next boot applies %s" % " ".join(flags)))
    elif lacks:
        result.errors += loader.wrong(flags, target.next_boot) or _in_vain(lacks, target.next_boot, facts)
    result.refuse()
    return result


def _in_vain(lacks: Sequence[str], entries: Sequence[Entry], facts: Facts) -> list[Refusal]:
    """Returns the error that prevents another reboot if an earlier reboot with the same boot entry had no effect."""
    record = facts.record
    if record.boot in (None, facts.boot) or record.line != line_of(entries):
        return []
    found = "this host was rebooted after the flags were written, but the kernel still runs without %s" % " ".join(lacks)
    remedy = (
        "Another reboot would not help. Find out why the host boots another entry: check /proc/cmdline, the firmware's boot order, and pinned entries. "
        "Boot the expected entry manually, then rerun."
    )
    return [Refusal(found, "boot loader", "a boot with the entry %s" % entries[0].where, remedy, "cmdline_not_in_force")]


def line_of(entries: Sequence[Entry]) -> str:
    """Returns the expected command line for the next boot, for comparison with the recorded command line."""
    return " ".join(entries[0].cmdline or ()) if entries else ""


def plan_back(loader: Loader, rebuild: bool, facts: Facts) -> CmdlinePlan:
    """Returns the plan that removes the flags that the collection added."""
    target = Target([], absent=True, rebuild=rebuild or facts.pending, loader=loader)
    result = Plan(target)
    target.changes = loader.plan_back(facts.record.added, target.rebuild)
    target.next_boot = loader.next_boot()
    _steps(result)
    return result


def _steps(result: CmdlinePlan) -> None:
    changes = result.target.changes
    for edit in changes.edits:
        result.steps.append(Step("edit", None, edit.path, "; ".join(edit.why), edit=edit, kept=edit.path not in changes.ours))
    if changes.run:
        result.steps.append(Step("run", None, None, changes.run))
