# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vgpuctl metrics: the host's vGPUs for Prometheus, in the text format of node_exporter's textfile collector.

Names and labels are an interface: dashboards and alerts are built on them. What is wrong is counted by the codes of ``problems``.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import Dict, Iterator, Tuple

from ..base.errors import error
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import framebuffer_of
from ..state import restore_record
from ..system import files
from ..system.context import Context
from . import snapshot
from .screen import Screen

_MIB = 1024 * 1024
PREFIX = "nvidia_vgpu_"
# Seconds after which a half-written file is one of a killed run: nothing here holds the host's lock.
_ABANDONED = 3600
# The metric's name, and the sample's value and labels.
Sample = Tuple[str, object, Dict[str, str]]

HELP = (
    ("gpu_info", "A GPU, with its model, kernel driver and vGPU framework as labels; 1."),
    ("gpu_alive", "Whether the GPU answers on the bus."),
    ("gpu_framebuffer_bytes", "Framebuffer of the GPU as its model has it."),
    ("gpu_framebuffer_assigned_bytes", "Framebuffer that the GPU's vGPUs have."),
    ("vfs", "Virtual functions that are on."),
    ("vfs_supported", "Virtual functions that the GPU has."),
    ("vfs_used", "Virtual functions that hold a vGPU."),
    ("expected", "vGPUs that are stored for this host and created at each boot."),
    ("present", "vGPUs that there are."),
    ("in_use", "vGPUs that a process has open, such as a running VM."),
    ("driver_info", "The host driver, with the versions that are loaded and on disk as labels; 1."),
    ("service_active", "Whether a service that vGPUs need is active (nvidia-vgpud: whether its one-shot went well)."),
    ("problems", "What is wrong, by code and severity; 'vgpuctl doctor' shows what to do."),
    ("restore_timestamp_seconds", "When vGPUs were last restored (at boot, or by hand)."),
    ("restore_duration_seconds", "How long that took."),
    ("restore_failures", "What failed at that."),
    ("restore_vgpus", "Stored vGPUs that were there in the end."),
    ("restore_vgpus_after_seconds", "Seconds from the driver being ready to the last of them."),
    ("metrics_timestamp_seconds", "When this was written."),
)


def run(ctx: Context, out: Screen, args: argparse.Namespace) -> int:
    """Prints the metrics, or replaces the file of --output by them in one step."""
    seen, restored, output = snapshot.read(ctx), restore_record.read(ctx.root), args.output
    if args.json and output is None:
        out.json([{"name": PREFIX + name, "value": value, "labels": labels} for name, value, labels in _samples(seen, restored, ctx.clock.wall())])
        return 0
    text = render(seen, restored, ctx.clock.wall())
    if output is None:
        out(text.rstrip("\n"))
        return 0
    output = os.path.abspath(output)  # a name alone is a file of this directory
    if not os.path.isdir(ctx.root + os.path.dirname(output)):
        raise error(
            "its directory is not there", output, "the directory of node_exporter's textfile collector (--collector.textfile.directory)",
            "Install node_exporter, or name its directory (vgpu_metrics_directory).", "no_directory",
        )
    if not output.endswith(".prom"):
        raise error("node_exporter reads only *.prom", output, "a name such as nvidia_vgpu.prom", code="bad_name")
    files.sweep(ctx.root, [os.path.dirname(output)], before=ctx.clock.wall() - _ABANDONED)
    # Renamed into place: a reader never sees half of it.
    files.write_atomic(ctx.root, output, text)
    if args.json:
        out.json({"written": output})
    return 0


def render(seen: snapshot.Snapshot, restored: restore_record.Record | None, now: float) -> str:
    """The text. restored: restore_record.Record or None; now: seconds since 1970."""
    lines: dict[str, list[str]] = {name: [] for name, dummy in HELP}
    for name, value, labels in _samples(seen, restored, now):
        shown = ",".join('%s="%s"' % (key, _escaped(labels[key])) for key in sorted(labels))
        lines[name].append("%s%s%s %s\n" % (PREFIX, name, "{%s}" % shown if shown else "", value))
    head = "# HELP {0}%s %s\n# TYPE {0}%s gauge\n".format(PREFIX)
    return "".join(head % (name, text, name) + "".join(lines[name]) for name, text in HELP if lines[name])


def _samples(seen: snapshot.Snapshot, restored: restore_record.Record | None, now: float) -> Iterator[Sample]:
    there = {gpu.address: gpu for gpu in seen.inventory.gpus}
    for address in sorted({*there, *seen.stored}):
        expected = [one.type for one in seen.stored[address].vgpus] if address in seen.stored else []
        # What is stored for a GPU that is gone is still expected: an alert must not end with the GPU.
        yield from _gpu(there[address], expected) if address in there else _vgpus(address, expected, [], [])
    driver = seen.state.driver
    yield "driver_info", 1, {"loaded": driver.loaded or "", "on_disk": driver.on_disk or "", "flavour": driver.flavour}
    for name, unit in sorted(seen.services.items()):
        well = unit["active"] == "active" or (name == "nvidia-vgpud" and unit["started"] and unit["result"] == "success")
        if unit["load"] != "not-found":
            yield "service_active", int(well), {"service": name}
    for (severity, code), count in sorted(Counter((one.severity, one.error.code) for one in seen.found).items()):
        yield "problems", count, {"severity": severity, "code": code}
    if restored:
        yield "restore_timestamp_seconds", restored.when, {}
        yield "restore_duration_seconds", round(restored.seconds, 3), {}
        yield "restore_failures", restored.failures, {}
    if restored and restored.after is not None:
        yield "restore_vgpus", restored.vgpus, {}
        yield "restore_vgpus_after_seconds", round(restored.after, 3), {}
    yield "metrics_timestamp_seconds", int(now), {}


def _gpu(gpu: Gpu, expected: list[str]) -> Iterator[Sample]:
    """All samples of one GPU. expected: the types of its stored vGPUs."""
    where = {"gpu": gpu.address}
    yield "gpu_info", 1, dict(where, model=gpu.name, driver=gpu.driver or "", framework=gpu.framework)
    yield "gpu_alive", int(gpu.alive), where
    if gpu.model:
        yield "gpu_framebuffer_bytes", gpu.model.framebuffer_gib * 1024 * _MIB, where
    yield "gpu_framebuffer_assigned_bytes", sum(framebuffer_of(vgpu.type or "") or 0 for vgpu in gpu.vgpus) * _MIB, where
    yield "vfs", gpu.num_vfs, where
    yield "vfs_supported", gpu.total_vfs, where
    yield "vfs_used", len({vgpu.parent for vgpu in gpu.vgpus if vgpu.index is not None}), where
    present = [vgpu.type or "unknown" for vgpu in gpu.vgpus]
    yield from _vgpus(gpu.address, expected, present, [vgpu.type or "unknown" for vgpu in gpu.vgpus if vgpu.holders])


def _vgpus(address: str, expected: list[str], present: list[str], used: list[str]) -> Iterator[Sample]:
    """Numbers of vGPUs by type, of the types of all of them."""
    for kind in sorted({*expected, *present}):
        for name, kinds in (("expected", expected), ("present", present), ("in_use", used)):
            yield name, kinds.count(kind), {"gpu": address, "type": kind}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
