# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vgpuctl status: GPUs, VFs, vGPUs, who uses them, and what is wrong."""

from __future__ import annotations

import argparse
import json
from typing import Any, Callable

from ..hardware.gpu import Gpu
from ..system.context import Context
from . import snapshot

_WORDS = {True: "on", False: "off", None: "off"}


def run(ctx: Context, out: Callable[[str], None], args: argparse.Namespace) -> int:
    """Prints it; always exit status 0."""
    seen = snapshot.read(ctx, thorough=False)
    driver, gpus = seen.state.driver, seen.inventory.gpus
    if args.json:
        out(json.dumps({"driver": driver.as_dict(), "gpus": list(map(_row, gpus)), "problems": [one.as_dict() for one in seen.found]}, indent=1))
        return 0
    out("Driver: %s loaded, %s on disk (%s)" % (driver.loaded or "none", driver.on_disk or "none", driver.flavour))
    for gpu in gpus:
        _show(gpu, out)
    for problem in seen.found:
        out("\n%s: %s" % (problem.severity.upper(), problem.error))
    return 0


def _row(gpu: Gpu) -> dict[str, Any]:
    """A GPU for machines."""
    mig, vgpus = gpu.mig.as_dict() if gpu.mig else None, [vgpu.as_dict() for vgpu in gpu.vgpus]
    row = {"address": gpu.address, "model": gpu.name, "driver": gpu.driver, "vfs": gpu.num_vfs, "framework": gpu.framework}
    return dict(row, mig=mig, vgpus=vgpus)


def _show(gpu: Gpu, out: Callable[[str], None]) -> None:
    """A GPU for people."""
    out("\n%s  %s  driver %s  VFs %d of %d  framework %s" % (gpu.address, gpu.name, gpu.driver or "none", gpu.num_vfs, gpu.total_vfs, gpu.framework))
    if gpu.holders:
        out("  the whole GPU is in use by %s" % ", ".join(map(str, gpu.holders)))
    if gpu.mig and gpu.mig.current is not None:
        instances = ", ".join("%s (%d)" % (one.profile, one.id) for one in gpu.mig.instances)
        pending = " (pending: %s)" % _WORDS[gpu.mig.pending] if gpu.mig.pending != gpu.mig.current else ""
        out("  MIG %s%s%s" % (_WORDS[gpu.mig.current], pending, ": " + instances if instances else ""))
    for vgpu in sorted(gpu.vgpus, key=lambda one: (one.index or 0, one.key)):
        holders = "  in use by %s" % ", ".join(map(str, vgpu.holders)) if vgpu.holders else ""
        out("  %s  %-10s %s%s" % (vgpu.parent, vgpu.type, vgpu.uuid or "", holders))
