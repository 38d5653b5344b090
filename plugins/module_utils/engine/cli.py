# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command nvidia-vgpu on the host: status and restore."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from . import boot_causes, host, inventory as reader, leftovers, problems, restore, store
from .context import Context
from .errors import EngineError
from .lock import HostLock


def main(argv=None):
    """Entry point; exit status 0, or 1 with the troubles on stderr."""
    parser = argparse.ArgumentParser(
        prog="nvidia-vgpu", description="Shows this host's vGPUs and brings the stored ones back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="GPUs, VFs, vGPUs, who uses them, and what is wrong")
    status.add_argument("--json", action="store_true", help="for machines")
    again = commands.add_parser("restore", help="make VFs and vGPUs as stored in %s" % store.PATH)
    again.add_argument("--timeout", type=int, default=120, help="seconds for each wait (default: %(default)s)")
    again.add_argument("--settle", type=float, default=2, help="seconds that vGPUs are watched (default: %(default)s)")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "nvidia-vgpu status | head" ends quietly
    ctx = Context()
    try:
        if args.command == "status":
            return _status(ctx, args.json)
        return _restore(ctx, args)
    except EngineError as exc:
        sys.stderr.write("nvidia-vgpu: %s\n" % exc)
        return 1
    except PermissionError as exc:
        sys.stderr.write("nvidia-vgpu: %s: it must run as root\n" % exc)
        return 1


def _say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # the journal shows each step when it happens


def _restore(ctx, args):
    with HostLock(ctx, args.timeout, name="nvidia-vgpu restore"):
        leftovers.clean(ctx.root)
        report = restore.restore(ctx, args.timeout, args.settle, _say)
    _say("nvidia-vgpu: %d steps done, %d failed" % (len(report.done), len(report.troubles)))
    return 1 if report.troubles else 0


def _word(enabled):
    return "on" if enabled else "off"


def _status(ctx, as_json):
    inventory = reader.read(ctx, with_types=False, with_mig=True)
    state = host.read(ctx)
    found = problems.find(inventory, state, (), boot_causes.causes_and_edits(boot_causes.read(ctx.root), inventory.gpus)[0])
    if as_json:
        _say(
            json.dumps(
                {
                    "driver": state.driver.as_dict(),
                    "gpus": [
                        {
                            "address": gpu.address,
                            "model": gpu.name,
                            "driver": gpu.driver,
                            "vfs": gpu.num_vfs,
                            "framework": gpu.framework,
                            "mig": gpu.mig.as_dict() if gpu.mig else None,
                            "vgpus": [vgpu.as_dict() for vgpu in gpu.vgpus],
                        }
                        for gpu in inventory.gpus
                    ],
                    "problems": [problem.as_dict() for problem in found],
                },
                indent=1,
            )
        )
        return 0
    driver = state.driver
    _say("Driver: %s loaded, %s on disk (%s)" % (driver.loaded or "none", driver.on_disk or "none", driver.flavour))
    for gpu in inventory.gpus:
        _say(
            "\n%s  %s  driver %s  VFs %d of %d  framework %s"
            % (gpu.address, gpu.name, gpu.driver or "none", gpu.num_vfs, gpu.total_vfs, gpu.framework)
        )
        if gpu.holders:
            _say("  the whole GPU is in use by %s" % ", ".join(map(str, gpu.holders)))
        if gpu.mig and gpu.mig.current is not None:
            told = ", ".join("%s (%d)" % (one.profile, one.id) for one in gpu.mig.instances)
            pending = " (pending: %s)" % _word(gpu.mig.pending) if gpu.mig.pending != gpu.mig.current else ""
            _say("  MIG %s%s%s" % (_word(gpu.mig.current), pending, ": " + told if told else ""))
        for vgpu in sorted(gpu.vgpus, key=lambda one: (one.index or 0, one.key)):
            holders = ", ".join(map(str, vgpu.holders))
            _say("  %s  %-10s %s%s" % (vgpu.parent, vgpu.type, vgpu.uuid or "", "  in use by %s" % holders if holders else ""))
    for problem in found:
        _say("\n%s: %s" % (problem.severity.upper(), problem.trouble))
    return 0
