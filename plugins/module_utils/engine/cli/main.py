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
DESCRIPTION = "shows, checks, and changes this host's vGPUs, and restores stored vGPUs"

_PARTIAL = "vgpuctl: without root privileges, the output omits logs and can show idle vGPUs as in use. Run 'sudo vgpuctl %s'.\n"
COMMANDS = (
    Command(
        "status", status.run, "show the GPUs, VFs, vGPUs, vGPU users, and problems of this host",
        "The first line is a summary. The exit status is 0 if the host has no problems, 1 if the host has only warnings, and 2 if the host has errors.",
        failed=2, partial=True,
    ),
    Command(
        "doctor", doctor.run, "show this host's problems with the expected state and the remedy", "The exit status is 1 if the host has errors.",
        partial=True,
    ),
    Command("plan", apply.plan, "show the steps that 'apply' would perform, without changing the host", options=apply.PLAN_OPTIONS, root=True),
    Command(
        "apply", apply.apply, "create and remove vGPUs to match a layout, like the nvidia_vgpu module",
        "A vGPU in use is removed only if --force-remove names the vGPU. Unless --no-persist is set, the layout is stored for the restore at boot.",
        options=apply.APPLY_OPTIONS, root=True,
    ),
    Command("restore", restore.run, "restore the VFs and vGPUs that are stored in %s" % layout_file.PATH, options=(
        Option("--timeout", metavar="SECONDS", type=whole_seconds, default=120, text="time limit in seconds for the restore and retries for GPUs in use"),
        Option("--settle", metavar="SECONDS", type=seconds, default=2, text="seconds for which new vGPUs are monitored"),
    )),
    Command("explain", explain.run, "explain an error code from doctor, validate, or the metrics, and show the remedy", options=explain.OPTIONS),
    Command("metrics", metrics.run, "print or write metrics in the Prometheus text format", options=(
        Option("--output", metavar="FILE", text="a *.prom file for node_exporter's textfile collector (default: print the metrics)"),
        Option("--timeout", metavar="SECONDS", type=seconds, default=metrics.TIMEOUT, text="total time limit in seconds for all nvidia-smi runs"),
    )),
    Command(
        "collect", collect.run, "create an archive for a bug report, without names, UUIDs, serial numbers, network addresses, or secrets",
        "The contents are listed before the archive is written. Check the archive before you share it.", options=collect.OPTIONS, root=True,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs vgpuctl and returns its exit status. Errors are printed to stderr. With --json, an EngineError is also printed to stdout."""
    args = parsed(parser(NAME, DESCRIPTION[0].upper() + DESCRIPTION[1:] + ".", COMMANDS), argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # files on the host can contain bytes that are not valid text
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # prevents an error message if a program such as head closes the pipe early
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
        remedy = "Fix the cause, then rerun the command."
        _report(screen, error("the command failed with '%s'" % exc.strerror, exc.filename, remedy=remedy, code="io_error"), False)
    except KeyboardInterrupt:
        remedy = "Rerun the command to continue. Completed steps remain in place."
        _report(screen, error("the command was interrupted", remedy=remedy, code="interrupted"), False)
        return _INTERRUPTED
    return command.failed


def manual() -> str:
    """Returns the man page of vgpuctl."""
    return page(DESCRIPTION, COMMANDS)


def _not_root(command: str) -> EngineError:
    return error("vgpuctl runs as the user with the ID %d" % os.geteuid(), expected="root", remedy="Run 'sudo vgpuctl %s'." % command, code="not_root")


def _report(screen: Screen, exc: EngineError, as_json: bool) -> None:
    sys.stderr.write("vgpuctl: %s\n" % printable(str(exc)))
    if as_json:
        report: dict[str, Any] = {"msg": str(exc), "errors": [one.as_dict() for one in exc.errors]}
        if isinstance(exc, ApplyError):
            report.update(actions=list(map(str, exc.done)), not_done=list(map(str, exc.left)))
        screen.json(report)
