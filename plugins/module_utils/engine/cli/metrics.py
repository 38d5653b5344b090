# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl metrics subcommand, which prints vGPU metrics for Prometheus.

The output uses the text format of node_exporter's textfile collector. The "problems" metric counts problems by severity and code.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import dataclass
from typing import Iterator

from ..base.errors import error
from ..checks import drift, problems
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import framebuffer_of
from ..read.fabric import Fabric
from ..state import restore_record
from ..system import files
from ..system.context import Context
from . import metrics_usage, snapshot
from .metrics_names import METRICS, PREFIX
from .metrics_usage import MIB, Sample
from .screen import Screen

# The age in seconds after which an incomplete file is considered a leftover from a killed run.
# The file's age is the only indication, because vgpuctl metrics does not acquire the host's lock.
_ABANDONED = 3600
# Stores the PID and start time of an nvidia-smi process that hangs in the kernel. A reboot empties /run.
_STUCK = "/run/vgpuctl-nvidia-smi"
TIMEOUT = 20.0  # the total time limit for all nvidia-smi runs, in seconds
# The codes of problems that prevent vGPUs from being restored at the next boot.
NEXT_BOOT = ("next_kernel_without_driver", "boot_cause", "service_not_enabled", "restore_not_enabled")


@dataclass(eq=False, repr=False)
class Scrape:
    """The data for all metrics.

    The *now* attribute is the Unix time at which the data was read. *seconds* is the time that reading the data took.
    """

    seen: snapshot.Snapshot
    restored: restore_record.Record | None
    usage: metrics_usage.Usage
    now: float
    seconds: float


def run(ctx: Context, out: Screen, args: argparse.Namespace) -> int:
    """Prints the metrics, or atomically writes the metrics to the --output file."""
    output = args.output and os.path.abspath(args.output)  # a name without a directory is a file in the current directory
    if output:
        _check(ctx, output)
    scraped = scrape(ctx, args.timeout)
    if args.json and output is None:
        out.json([{"name": PREFIX + name, "value": value, "labels": labels} for name, value, labels in _samples(scraped)])
        return 0
    text = render(scraped)
    if output is None:
        out(text.rstrip("\n"))
        return 0
    files.sweep(ctx.root, [os.path.dirname(output)], before=ctx.clock.wall() - _ABANDONED)
    # The file is replaced atomically, so node_exporter never reads an incomplete file.
    files.write_atomic(ctx.root, output, text)
    if args.json:
        out.json({"written": output})
    return 0


def _check(ctx: Context, output: str) -> None:
    if not os.path.isdir(ctx.root + os.path.dirname(output)):
        raise error(
            "the directory of this file does not exist", output, "the directory of node_exporter's textfile collector (--collector.textfile.directory)",
            "Install node_exporter, or specify an existing directory with --output (the vgpu_metrics_directory variable).", "no_directory",
        )
    if not output.endswith(".prom"):
        raise error(
            "the file name does not end in .prom", output, "a name such as nvidia_vgpu.prom, because node_exporter reads only *.prom files", code="bad_name",
        )


def scrape(ctx: Context, timeout: float = TIMEOUT) -> Scrape:
    """Reads the data for all metrics. *timeout* is the total time limit for all nvidia-smi runs, in seconds."""
    began = ctx.clock.now()
    ctx.smi_deadline, ctx.smi_answers = began + (0 if _is_stuck(ctx) else timeout), {}
    seen = snapshot.read(ctx)
    usage = metrics_usage.read(ctx, seen.inventory)
    ctx.smi_deadline = ctx.smi_answers = None
    if ctx.smi_stuck:
        files.write_atomic(ctx.root, _STUCK, "%d %s\n" % (ctx.smi_stuck, _began(ctx, ctx.smi_stuck)))
    return Scrape(seen, restore_record.read(ctx.root), usage, ctx.clock.wall(), ctx.clock.now() - began)


def _is_stuck(ctx: Context) -> bool:
    """Returns whether an nvidia-smi process from an earlier scrape still hangs in the kernel.

    Until the host reboots, every new nvidia-smi process would also hang.
    """
    pid, dummy, began = (files.read_text(ctx.root, _STUCK) or "").strip().partition(" ")
    if not pid.isdigit() or not began or _began(ctx, int(pid)) != began:
        return False
    ctx.smi_silent = "the nvidia-smi process of an earlier run (pid %s) hangs in the kernel" % pid
    return True


def _began(ctx: Context, pid: int) -> str:
    """Returns a process's start time in clock ticks, or an empty string if the process does not exist."""
    return " ".join(ctx.sysfs.read_or("/proc/%d/stat" % pid, "").rpartition(")")[2].split()[19:20])


def render(scraped: Scrape) -> str:
    """Returns the metrics in the Prometheus text format."""
    lines: dict[str, list[str]] = {metric.name: [] for metric in METRICS}
    for name, value, labels in _samples(scraped):
        shown = ",".join('%s="%s"' % (key, _escaped(labels[key])) for key in sorted(labels))
        lines[name].append("%s%s%s %s\n" % (PREFIX, name, "{%s}" % shown if shown else "", value))
    head = "# HELP {0}%s %s\n# TYPE {0}%s %s\n".format(PREFIX)
    return "".join(head % (one.name, one.text, one.name, one.kind) + "".join(lines[one.name]) for one in METRICS if lines[one.name])


def _samples(scraped: Scrape) -> Iterator[Sample]:
    seen = scraped.seen
    there = {gpu.address: gpu for gpu in seen.inventory.gpus}
    for address in sorted({*there, *seen.stored}):
        expected = [one.type for one in seen.stored[address].vgpus] if address in seen.stored else []
        # Stored vGPUs of a missing GPU are still expected, because an alert must not resolve when the GPU disappears.
        yield from _gpu(there[address], expected) if address in there else _vgpus(address, expected, [], [])
    yield from metrics_usage.samples(seen.inventory, scraped.usage)
    yield from _host(seen)
    restored = scraped.restored
    if restored:
        yield "restore_timestamp_seconds", restored.when, {}
        yield "restore_duration_seconds", round(restored.seconds, 3), {}
        yield "restore_failures", restored.failures, {}
    if restored and restored.after is not None:
        yield "restore_vgpus", restored.vgpus, {}
        yield "restore_vgpus_after_seconds", round(restored.after, 3), {}
    yield "scrape_duration_seconds", round(scraped.seconds, 3), {}
    yield "metrics_timestamp_seconds", int(scraped.now), {}


def _host(seen: snapshot.Snapshot) -> Iterator[Sample]:
    driver, codes = seen.state.driver, Counter(one.error.code for one in seen.found)
    yield "driver_info", 1, {"loaded": driver.loaded or "", "on_disk": driver.on_disk or "", "flavour": driver.flavour}
    if driver.scheduler:
        yield "scheduler_info", 1, {"policy": driver.scheduler}
    for name, unit in sorted(seen.services.items()):
        well = unit["active"] == "active" or (name == "nvidia-vgpud" and unit["started"] and unit["result"] == "success")
        if unit["load"] != "not-found":
            yield "service_active", int(well), {"service": name}
    for (severity, code), count in sorted(Counter((one.severity, one.error.code) for one in seen.found).items()):
        yield "problems", count, {"severity": severity, "code": code}
    for code in drift.CODES:
        yield "drift", codes[code], {"code": code}
    if seen.fabric:
        yield from _fabric(seen.fabric)
    yield "reboot_pending", int(bool(problems.reboot_reasons(seen.inventory, seen.state))), {}
    yield "next_boot_ready", int(not any(codes[code] for code in NEXT_BOOT)), {}


def _fabric(fabric: Fabric) -> Iterator[Sample]:
    """Yields the fabric samples for a host with NVSwitches. Partition metrics have no samples if Fabric Manager does not report partitions."""
    manager = fabric.manager
    labels = {"version": manager.version or "", "mode": manager.mode or "", "active": manager.unit.get("active") or ""}
    yield "fabric_manager_info", 1, labels
    if fabric.partitions is not None:
        yield "fabric_partitions", sum(one.active for one in fabric.partitions), {"state": "active"}
        yield "fabric_partitions", len(fabric.partitions), {"state": "supported"}


def _gpu(gpu: Gpu, expected: list[str]) -> Iterator[Sample]:
    """Yields all samples for one GPU. *expected* lists the types of the GPU's stored vGPUs."""
    where = {"gpu": gpu.address}
    yield "gpu_info", 1, dict(where, model=gpu.name, driver=gpu.driver or "", framework=gpu.framework)
    yield "gpu_alive", int(gpu.alive), where
    if gpu.model:
        yield "gpu_framebuffer_bytes", gpu.model.framebuffer_gib * 1024 * MIB, where
    yield "gpu_framebuffer_assigned_bytes", sum(framebuffer_of(vgpu.type or "") or 0 for vgpu in gpu.vgpus) * MIB, where
    yield "vfs", gpu.num_vfs, where
    yield "vfs_supported", gpu.total_vfs, where
    yield "vfs_used", len({vgpu.parent for vgpu in gpu.vgpus if vgpu.index is not None}), where
    present = [vgpu.type or "unknown" for vgpu in gpu.vgpus]
    yield from _vgpus(gpu.address, expected, present, [vgpu.type or "unknown" for vgpu in gpu.vgpus if vgpu.holders])


def _vgpus(address: str, expected: list[str], present: list[str], used: list[str]) -> Iterator[Sample]:
    """Yields the numbers of expected, present, and used vGPUs of each type."""
    for kind in sorted({*expected, *present}):
        for name, kinds in (("expected", expected), ("present", present), ("in_use", used)):
            yield name, kinds.count(kind), {"gpu": address, "type": kind}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
