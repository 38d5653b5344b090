# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-vgpu status: GPUs, VFs, vGPUs, who uses them, and what is wrong."""

from __future__ import annotations

import json
from typing import Any, Callable

from ..hardware.gpu import Gpu
from ..system.context import Context
from . import snapshot


def run(ctx: Context, say: Callable[[str], None], as_json: bool) -> int:
    """Prints it; always exit status 0."""
    seen = snapshot.read(ctx, thorough=False)
    if as_json:
        say(json.dumps(as_dict(seen), indent=1))
        return 0
    driver = seen.state.driver
    say("Driver: %s loaded, %s on disk (%s)" % (driver.loaded or "none", driver.on_disk or "none", driver.flavour))
    for gpu in seen.inventory.gpus:
        _gpu(gpu, say)
    for problem in seen.found:
        say("\n%s: %s" % (problem.severity.upper(), problem.trouble))
    return 0


def as_dict(seen: snapshot.Snapshot) -> dict[str, Any]:
    """For machines."""
    return {
        "driver": seen.state.driver.as_dict(),
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
            for gpu in seen.inventory.gpus
        ],
        "problems": [problem.as_dict() for problem in seen.found],
    }


def _word(enabled: bool | None) -> str:
    return "on" if enabled else "off"


def _gpu(gpu: Gpu, say: Callable[[str], None]) -> None:
    say("\n%s  %s  driver %s  VFs %d of %d  framework %s" % (gpu.address, gpu.name, gpu.driver or "none", gpu.num_vfs, gpu.total_vfs, gpu.framework))
    if gpu.holders:
        say("  the whole GPU is in use by %s" % ", ".join(map(str, gpu.holders)))
    if gpu.mig and gpu.mig.current is not None:
        instances = ", ".join("%s (%d)" % (one.profile, one.id) for one in gpu.mig.instances)
        pending = " (pending: %s)" % _word(gpu.mig.pending) if gpu.mig.pending != gpu.mig.current else ""
        say("  MIG %s%s%s" % (_word(gpu.mig.current), pending, ": " + instances if instances else ""))
    for vgpu in sorted(gpu.vgpus, key=lambda one: (one.index or 0, one.key)):
        holders = ", ".join(map(str, vgpu.holders))
        say("  %s  %-10s %s%s" % (vgpu.parent, vgpu.type, vgpu.uuid or "", "  in use by %s" % holders if holders else ""))
