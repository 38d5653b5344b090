# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl status subcommand, which prints a summary, GPUs, VFs, vGPUs, and vGPU users."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ..base.errors import Problem
from ..hardware.gpu import Gpu, Vgpu
from ..read.fabric import Fabric
from ..system.context import Context
from ..system.fabric_manager import MODES
from . import snapshot
from .findings import grouped, more
from .screen import Screen, count

_WORDS = {True: "on", False: "off", None: "off"}
# The exit status and the summary style for each severity.
_VERDICTS = {"error": (2, "error"), "warning": (1, "warning"), "ok": (0, "good")}


def run(ctx: Context, screen: Screen, args: argparse.Namespace) -> int:
    """Prints the host's status. The exit status is 0 without problems, 1 with only warnings, and 2 with errors."""
    seen = snapshot.read(ctx)
    severities = [one.severity for one in seen.found]
    verdict = next((one for one in ("error", "warning") if one in severities), "ok")
    status, style = _VERDICTS[verdict]
    driver, gpus = seen.state.driver, seen.inventory.gpus
    if args.json:
        report = {"status": verdict, "summary": _summary(seen), "driver": driver.as_dict(), "gpus": list(map(_row, gpus))}
        if seen.fabric:
            report["fabric"] = seen.fabric.as_dict()
        screen.json(dict(report, problems=[one.as_dict() for one in seen.found]))
        return status
    screen("%s: %s" % (verdict.upper(), _summary(seen)), style)
    screen("Driver: %s loaded, %s on disk (%s)" % (driver.loaded or "none", driver.on_disk or "none", driver.flavour))
    if seen.fabric:
        _fabric(screen, seen.fabric)
    if screen.terminal and gpus:
        _table(screen, gpus, seen.found)
    for gpu in gpus:
        _show(gpu, screen)
    for finding in grouped(seen.found):
        screen("")
        screen("%s: %s [%s]" % (finding.severity.upper(), finding.first, finding.first.code), finding.severity)
        if len(finding.errors) > 1:
            screen("  and %d more of this kind: %s" % (len(finding.errors) - 1, more(finding.errors[1:])))
        if finding.effects:
            screen("  consequences: %s" % finding.consequences)
    return status


def _fabric(screen: Screen, fabric: Fabric) -> None:
    """Prints the state of the NVLink fabric on a host with NVSwitches."""
    manager = fabric.manager
    mode, active = MODES.get(manager.mode or "", manager.mode or "unknown"), manager.unit.get("active") or "missing"
    words = (count(len(fabric.switches), "NVSwitch device"), manager.version or "none", mode, active)
    screen("Fabric: %s, Fabric Manager %s, mode %s, service %s" % words)
    for one in fabric.partitions or ():
        if one.active:
            gpus = ", ".join(fabric.address_of(module) for module in one.gpus)
            screen("  partition %d active: %s, VFs %s" % (one.id, gpus, ", ".join(fabric.record.partitions.get(one.id, ())) or "unknown"))


def _summary(seen: snapshot.Snapshot) -> str:
    """Returns a one-line summary of the host."""
    gpus, stored = seen.inventory.gpus, [(one.address, vgpu.key) for one in seen.stored.values() for vgpu in one.vgpus]
    vgpus = [(gpu.address, vgpu) for gpu in gpus for vgpu in gpu.vgpus]
    there = {(pf, vgpu.key) for pf, vgpu in vgpus}
    counts = Counter(one.severity for one in seen.found)
    parts = [count(len(gpus), "GPU"), count(len(vgpus), "vGPU")]
    parts[1] += " (%d in use)" % sum(bool(vgpu.holders) for dummy, vgpu in vgpus)
    missing = sum(one not in there for one in stored)
    if missing:
        parts.append("%d of the %d stored vGPUs missing" % (missing, len(stored)))
    parts += [count(counts["error"], "error"), count(counts["warning"], "warning")]
    return ", ".join(parts)


def _row(gpu: Gpu) -> dict[str, Any]:
    """Returns a GPU as a JSON-serializable dictionary."""
    mig, vgpus = gpu.mig.as_dict() if gpu.mig else None, [vgpu.as_dict() for vgpu in gpu.vgpus]
    row = {"address": gpu.address, "model": gpu.name, "driver": gpu.driver, "vfs": gpu.num_vfs, "framework": gpu.framework}
    return dict(row, mig=mig, vgpus=vgpus)


def _table(screen: Screen, gpus: list[Gpu], found: list[Problem]) -> None:
    """Prints a table with one row for each GPU.

    The state of a GPU is the highest severity among the problems of the GPU, its VFs, and its vGPUs.
    """
    rows, styles = [], []
    for gpu in gpus:
        devices = {gpu.address, *(vf.address for vf in gpu.vfs), *(vgpu.key for vgpu in gpu.vgpus)}
        mine = {one.severity for one in found if one.error.device in devices}
        types = Counter(vgpu.type or "unknown" for vgpu in gpu.vgpus)
        shown = ", ".join("%d x %s" % (types[name], name) for name in sorted(types)) or "none"
        used = sum(bool(vgpu.holders) for vgpu in gpu.vgpus)
        word = "error" if "error" in mine else "warning" if mine else "ok"
        rows.append([gpu.address, gpu.name, gpu.driver or "none", "%d/%d" % (gpu.num_vfs, gpu.total_vfs), shown, str(used), word])
        styles.append("" if word == "ok" else word)
    screen("")
    screen.table(["GPU", "MODEL", "DRIVER", "VFS", "VGPUS", "IN USE", "STATE"], rows, styles)


def _show(gpu: Gpu, screen: Screen) -> None:
    """Prints a GPU and its vGPUs."""
    words = (gpu.address, gpu.name, gpu.driver or "none", gpu.num_vfs, gpu.total_vfs, gpu.framework)
    screen("")
    screen("%s  %s  driver %s  VFs %d of %d  framework %s" % words, "strong")
    if gpu.holders:
        screen("  the whole GPU is in use by %s" % ", ".join(map(str, gpu.holders)))
    if gpu.mig and gpu.mig.current is not None:
        instances = ", ".join("%s (%d)" % (one.profile, one.id) for one in gpu.mig.instances)
        pending = " (pending: %s)" % _WORDS[gpu.mig.pending] if gpu.mig.pending != gpu.mig.current else ""
        screen("  MIG %s%s%s" % (_WORDS[gpu.mig.current], pending, ": " + instances if instances else ""))
    for vgpu in sorted(gpu.vgpus, key=lambda one: (one.index or 0, one.key)):
        screen("  %s" % _vgpu(vgpu))


def _vgpu(vgpu: Vgpu) -> str:
    holders = "  in use by %s" % ", ".join(map(str, vgpu.holders)) if vgpu.holders else ""
    return "%s  %-10s %s%s" % (vgpu.parent, vgpu.type, vgpu.uuid or "", holders)
