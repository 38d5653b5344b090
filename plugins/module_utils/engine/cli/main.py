# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command vgpuctl on the host: its subcommands, and what each runs."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from typing import Sequence

from ..base.errors import EngineError, printable
from ..state import layout_file
from ..system.context import Context
from . import doctor, metrics, restore, status


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0, or 1 with the errors on stderr."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a byte of a host's file may be no text
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "vgpuctl status | head" ends quietly
    try:
        done: int = args.run(Context(), _write, args)
        return done
    except (EngineError, PermissionError) as exc:
        sys.stderr.write("vgpuctl: %s%s\n" % (exc, ": it must run as root" if isinstance(exc, PermissionError) else ""))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vgpuctl", description="Shows this host's vGPUs and restores the stored ones.")
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("status", help="GPUs, VFs, vGPUs, who uses them, and what is wrong")
    wrong = commands.add_parser("doctor", help="what is wrong with this host, what was expected, and what to do; exit status 1 if there are errors")
    counted = commands.add_parser("metrics", help="for Prometheus, as text")
    counted.add_argument("--output", metavar="FILE", help="a file *.prom of node_exporter's textfile collector; without it they are printed")
    again = commands.add_parser("restore", help="restore VFs and vGPUs as stored in %s" % layout_file.PATH)
    for command, when in ((shown, ""), (wrong, ""), (again, ", at the end")):
        command.add_argument("--json", action="store_true", help="for machines" + when)
    again.add_argument("--timeout", type=int, default=120, help="seconds for all of it: a GPU in use is tried again until then (default: %(default)s)")
    again.add_argument("--settle", type=float, default=2, help="seconds that vGPUs are watched (default: %(default)s)")
    for command, run in ((shown, status.run), (wrong, doctor.run), (counted, metrics.run), (again, restore.run)):
        command.set_defaults(run=run)
    return parser


def _write(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()  # the journal shows each step when it happens
