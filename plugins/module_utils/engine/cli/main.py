# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl command, and defines the table of its subcommands."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any, Sequence

from ..base.errors import EngineError, error, printable
from ..base.steps import ApplyError
from ..state import layout_file
from ..system.context import Context
from . import apply, collect, doctor, explain, metrics, restore, status
from .command import Command, Option, parsed, parser, seconds, whole_seconds
from .man import page
from .screen import Screen

NAME = "vgpuctl"
_INTERRUPTED = 128 + signal.SIGINT  # the exit status that shells use for an interrupted program
DESCRIPTION = "shows, checks and changes this host's vGPUs, and restores the stored ones"

_PARTIAL = "vgpuctl: without root, logs are left out, and vGPUs may count as in use. Run 'sudo vgpuctl %s'.\n"
COMMANDS = (
    Command(
        "status", status.run, "GPUs, VFs, vGPUs, who uses them, and whether all is well",
        "The first line is a summary. Exit status 0: all is well; 1: warnings only; 2: something does not work.", failed=2, partial=True,
    ),
    Command("doctor", doctor.run, "the problems of this host, what was expected, and what to do", "Exit status 1 if there are errors.", partial=True),
    Command("plan", apply.plan, "what 'apply' would do with a layout; changes nothing", options=apply.PLAN_OPTIONS, root=True),
    Command(
        "apply", apply.apply, "create and remove vGPUs to match a layout, as the module nvidia_vgpu does",
        "A vGPU in use is never removed, unless --force-remove names it. The layout is stored for the boot.", options=apply.APPLY_OPTIONS, root=True,
    ),
    Command("restore", restore.run, "restore VFs and vGPUs as stored in %s" % layout_file.PATH, options=(
        Option("--timeout", metavar="SECONDS", type=whole_seconds, default=120, text="seconds for the restore; a GPU in use is retried until then"),
        Option("--settle", metavar="SECONDS", type=seconds, default=2, text="seconds for which new vGPUs are monitored"),
    )),
    Command("explain", explain.run, "what a code of doctor, validate or the metrics means, and what to do", options=explain.OPTIONS),
    Command("metrics", metrics.run, "numbers for Prometheus, as text", options=(
        Option("--output", metavar="FILE", text="a file *.prom of node_exporter's textfile collector; without this option they are printed"),
        Option("--timeout", metavar="SECONDS", type=seconds, default=metrics.TIMEOUT, text="seconds for all runs of nvidia-smi together"),
    )),
    Command(
        "collect", collect.run, "an archive for a bug report, without names, UUIDs, serial numbers, network addresses and secrets",
        "The contents are listed before the archive is written. Check the archive before you share it.", options=collect.OPTIONS, root=True,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs vgpuctl and returns its exit status. Errors are printed to stderr. With --json, an EngineError is also printed to stdout."""
    args = parsed(parser(NAME, DESCRIPTION[0].upper() + DESCRIPTION[1:] + ".", COMMANDS), argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # files on the host may contain bytes that are not valid text
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # lets a pipe such as "vgpuctl status | head" end without an error message
    command: Command = args.command_of
    screen = Screen(sys.stdout)
    try:
        if command.root and os.geteuid():
            raise _not_root(args.command)
        if command.partial and os.geteuid():
            sys.stderr.write(_PARTIAL % args.command)
        return command.run(Context(), screen, args)
    except EngineError as exc:
        _report(screen, exc, args.json)
    except PermissionError:
        _report(screen, _not_root(args.command), args.json)
    except OSError as exc:  # for example, standard output is a file on a full disk
        remedy = "Fix this, then run the command again."
        _report(screen, error("the command failed with '%s'" % exc.strerror, exc.filename, remedy=remedy, code="io_error"), False)
    except KeyboardInterrupt:
        remedy = "Completed steps stay in place. Run the command again to continue."
        _report(screen, error("the command was interrupted", remedy=remedy, code="interrupted"), False)
        return _INTERRUPTED
    return command.failed


def manual() -> str:
    """Returns the man page of vgpuctl."""
    return page(DESCRIPTION, COMMANDS)


def _not_root(command: str) -> EngineError:
    return error("vgpuctl runs as the user with the id %d" % os.geteuid(), expected="root", remedy="Run 'sudo vgpuctl %s'." % command, code="not_root")


def _report(screen: Screen, exc: EngineError, as_json: bool) -> None:
    sys.stderr.write("vgpuctl: %s\n" % printable(str(exc)))
    if as_json:
        report: dict[str, Any] = {"msg": str(exc), "errors": [one.as_dict() for one in exc.errors]}
        if isinstance(exc, ApplyError):
            report.update(actions=list(map(str, exc.done)), not_done=list(map(str, exc.left)))
        screen.json(report)
