# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-vgpu metrics: the host's vGPUs for Prometheus, in the text format of node_exporter's textfile collector.

Names and labels are an interface: dashboards and alerts are built on them. What is wrong is counted by the codes of ``problems``.
"""

from __future__ import annotations

import os
from typing import Callable, Dict, List, Protocol, Tuple

from ..base.errors import trouble
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import framebuffer_of
from ..state import restore_record
from ..system import files
from ..system.context import Context
from . import snapshot

_MIB = 1024 * 1024
# Labels and value of each sample of a metric.
Samples = List[Tuple[Dict[str, str], object]]


class Add(Protocol):
    """Adds a sample to a metric."""

    def __call__(self, name: str, value: object, **labels: str) -> None:
        """The metric's name and the sample's value and labels."""


HELP = (
    ("gpu_info", "A GPU, with its model, kernel driver and vGPU framework as labels; 1."),
    ("gpu_alive", "Whether the GPU answers on the bus."),
    ("gpu_framebuffer_bytes", "Framebuffer of the GPU as its model has it."),
    ("gpu_framebuffer_assigned_bytes", "Framebuffer that the GPU's vGPUs have."),
    ("vfs", "Virtual functions that are on."),
    ("vfs_supported", "Virtual functions that the GPU has."),
    ("vfs_used", "Virtual functions that hold a vGPU."),
    ("wanted", "vGPUs that are stored for this host, which are made at each boot."),
    ("present", "vGPUs that there are."),
    ("in_use", "vGPUs that a process has open, such as a running VM."),
    ("driver_info", "The host driver, with the versions that are loaded and on disk as labels; 1."),
    ("service_active", "Whether a service that vGPUs need is active (nvidia-vgpud: whether its one-shot went well)."),
    ("problems", "What is wrong, by code and severity; 'nvidia-vgpu doctor' says what to do."),
    ("restore_timestamp_seconds", "When vGPUs were last restored (at boot, or by hand)."),
    ("restore_duration_seconds", "How long that took."),
    ("restore_failures", "What failed at that."),
    ("restore_vgpus", "Stored vGPUs that were there in the end."),
    ("restore_vgpus_after_seconds", "Seconds from the driver being ready to the last of them."),
    ("metrics_timestamp_seconds", "When this was written."),
)


def run(ctx: Context, say: Callable[[str], None], output: str | None) -> int:
    """Prints the metrics, or replaces the file *output* by them in one step."""
    text = render(snapshot.read(ctx), restore_record.read(ctx.root), ctx.clock.wall())
    if output is None:
        say(text.rstrip("\n"))
        return 0
    if not os.path.isdir(ctx.root + os.path.dirname(output)):
        raise trouble(
            "its folder is not there",
            device=output,
            wanted="the folder of node_exporter's textfile collector (--collector.textfile.directory)",
            remedy="Install node_exporter, or name its folder (metrics_folder).",
            code="no_folder",
        )
    if not output.endswith(".prom"):
        raise trouble("node_exporter reads only *.prom", device=output, wanted="a name such as nvidia_vgpu.prom", code="bad_name")
    # Renamed into place: a reader never sees half of it.
    files.write_atomic(ctx.root, output, text)
    return 0


def render(seen: snapshot.Snapshot, restored: restore_record.Record | None, now: float) -> str:
    """The text. restored: restore_record.Record or None; now: seconds since 1970."""
    values: dict[str, Samples] = {name: [] for name, dummy in HELP}

    def add(name: str, value: object, **labels: str) -> None:
        values[name].append((labels, value))

    for gpu in seen.inventory.gpus:
        _gpu(seen, gpu, add)
    driver = seen.state.driver
    add("driver_info", 1, loaded=driver.loaded or "", on_disk=driver.on_disk or "", flavour=driver.flavour)
    for name, unit in sorted(seen.services.items()):
        well = unit["active"] == "active" or (name == "nvidia-vgpud" and unit["started"] and unit["result"] == "success")
        if unit["load"] != "not-found":
            add("service_active", int(well), service=name)
    counted: dict[tuple[str, str], int] = {}
    for problem in seen.found:
        key = (problem.severity, problem.trouble.code)
        counted[key] = counted.get(key, 0) + 1
    for (severity, code), count in sorted(counted.items()):
        add("problems", count, severity=severity, code=code)
    if restored:
        add("restore_timestamp_seconds", restored.when)
        add("restore_duration_seconds", round(restored.seconds, 3))
        add("restore_failures", restored.failures)
        if restored.after is not None:
            add("restore_vgpus", restored.vgpus)
            add("restore_vgpus_after_seconds", round(restored.after, 3))
    add("metrics_timestamp_seconds", int(now))
    return "".join(_family(name, text, values[name]) for name, text in HELP if values[name])


def _gpu(seen: snapshot.Snapshot, gpu: Gpu, add: Add) -> None:
    """All samples of one GPU."""
    where = {"gpu": gpu.address}
    add("gpu_info", 1, model=gpu.name, driver=gpu.driver or "", framework=gpu.framework, **where)
    add("gpu_alive", int(gpu.alive), **where)
    if gpu.model:
        add("gpu_framebuffer_bytes", gpu.model.framebuffer_gib * 1024 * _MIB, **where)
    add("gpu_framebuffer_assigned_bytes", sum(framebuffer_of(vgpu.type or "") or 0 for vgpu in gpu.vgpus) * _MIB, **where)
    add("vfs", gpu.num_vfs, **where)
    add("vfs_supported", gpu.total_vfs, **where)
    add("vfs_used", len({vgpu.parent for vgpu in gpu.vgpus if vgpu.index is not None}), **where)
    wanted = [one.type for one in seen.stored[gpu.address].vgpus] if gpu.address in seen.stored else []
    present = [vgpu.type or "unknown" for vgpu in gpu.vgpus]
    used = [vgpu.type or "unknown" for vgpu in gpu.vgpus if vgpu.holders]
    for kind in sorted(set(wanted) | set(present)):
        for name, kinds in (("wanted", wanted), ("present", present), ("in_use", used)):
            add(name, kinds.count(kind), type=kind, **where)


def _family(name: str, text: str, samples: Samples) -> str:
    lines = ["# HELP nvidia_vgpu_%s %s" % (name, text), "# TYPE nvidia_vgpu_%s gauge" % name]
    for labels, value in samples:
        shown = ",".join('%s="%s"' % (key, _escaped(labels[key])) for key in sorted(labels))
        lines.append("nvidia_vgpu_%s%s %s" % (name, "{%s}" % shown if shown else "", value))
    return "\n".join(lines) + "\n"


def _escaped(text: object) -> str:
    return str(text).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
