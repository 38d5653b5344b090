# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads GPU and vGPU usage from nvidia-smi for vgpuctl metrics, and assigns each value to a vGPU on the host.

Each query runs once, and all queries share a deadline. A failed query is reported as a metric and does not affect other queries.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Iterator, Sequence, Tuple

from ..base.errors import printable
from ..guest import license as licensing
from ..hardware.gpu import Gpu, Vgpu
from ..hardware.vgpu_types import framebuffer_of
from ..read.inventory import Inventory, answering
from ..system import nvidia_smi_usage
from ..system.context import Context
from ..system.nvidia_smi_usage import Answer, GpuUsage, VgpuUsage

MIB = 1024 * 1024
# A sample consists of the metric's name without its prefix, the value, and the labels.
Sample = Tuple[str, object, Dict[str, str]]


@dataclass(eq=False, repr=False)
class Usage:
    """The nvidia-smi query results for GPUs and vGPUs. A result is None if no query was necessary."""

    gpus: Answer[GpuUsage] | None
    vgpus: Answer[VgpuUsage] | None


def read(ctx: Context, inventory: Inventory) -> Usage:
    """Queries nvidia-smi if a GPU is bound to NVIDIA's driver. vGPUs are queried only if a vGPU exists."""
    bound = [gpu for gpu in inventory.gpus if gpu.driver == "nvidia" and gpu.alive]
    if not bound:
        return Usage(None, None)
    chosen = answering(inventory.gpus)
    return Usage(
        nvidia_smi_usage.gpus(ctx, chosen, [gpu.address for gpu in bound]),
        nvidia_smi_usage.vgpus(ctx, chosen, [gpu.address for gpu in bound if any(vgpu.holders for vgpu in gpu.vgpus)])
        if any(gpu.vgpus for gpu in bound) else None,
    )


def samples(inventory: Inventory, usage: Usage) -> Iterator[Sample]:
    """Yields the usage samples and the samples about the queries. Values that contradict the kernel or each other are omitted."""
    running = usage.vgpus.found if usage.vgpus else []
    named = Counter((one.gpu, _key(one, inventory, running)) for one in running)
    known = [(one, key) for one, key in ((one, _key(one, inventory, running)) for one in running) if key and named[one.gpu, key] == 1]
    by_key = {key: one for one, key in known}
    busy = [one for one in (usage.gpus.found if usage.gpus else ()) if inventory.gpu(one.address)]
    for gpu_usage in busy:
        yield from _of_gpu(gpu_usage)
    for gpu in inventory.gpus:
        for vgpu in gpu.vgpus:
            yield from _of_vgpu(gpu, vgpu, by_key.get(vgpu.key))
    for one, key in known:
        yield from _of_running(one, {"gpu": one.gpu, "vgpu": key})
    yield from _outcome("gpus", usage.gpus, not all(_fits(one.memory) for one in busy))
    yield from _outcome("vgpus", usage.vgpus, len(known) < len(running) or not all(_fits(one.memory) for one in running))


def _fits(memory: dict[str, int]) -> bool:
    """Returns whether the used and the free framebuffer are each at most as large as the total framebuffer."""
    return all(memory.get(word, 0) <= memory.get("total", memory.get(word, 0)) for word in ("used", "free"))


def _outcome(query: str, answer: Answer[GpuUsage] | Answer[VgpuUsage] | None, wrong: bool) -> Iterator[Sample]:
    """Yields the samples about one query. *wrong* is true if the result contradicts the kernel or is inconsistent."""
    if answer:
        error = answer.error or ("contradiction" if wrong else None)
        yield "scrape_success", int(not error), {"query": query}
        yield "scrape_query_duration_seconds", round(answer.seconds, 3), {"query": query}
        if error:
            yield "scrape_error", 1, {"query": query, "reason": error}


def _key(one: VgpuUsage, inventory: Inventory, running: Sequence[VgpuUsage]) -> str | None:
    """Returns the key of the vGPU on the host to which an nvidia-smi entry belongs.

    The vGPU is identified by its UUID, or as the VM's only vGPU of its type on the GPU. If the vGPU is ambiguous, returns the driver's number for the
    vGPU. If the GPU has no vGPU, or no vGPU with the reported UUID, returns None.
    """
    gpu = inventory.gpu(one.gpu)
    there = gpu.vgpus if gpu else []
    if one.uuid:
        return next((vgpu.key for vgpu in there if vgpu.uuid == one.uuid), None)
    same = [other for other in running if (other.gpu, other.vm, other.type) == (one.gpu, one.vm, one.type)]
    mine = [vgpu for vgpu in there if vgpu.type == one.type and one.vm and one.vm in [holder.vm for holder in vgpu.holders]]
    if len(mine) == len(same) == 1:
        return mine[0].key
    return one.number if there else None


def _of_gpu(one: GpuUsage) -> Iterator[Sample]:
    where = {"gpu": one.address}
    for word in ("used", "free"):
        if word in one.memory and _fits(one.memory):
            yield "gpu_framebuffer_%s_bytes" % word, one.memory[word] * MIB, where
    for engine, share in sorted(one.busy.items()):
        yield "gpu_utilization_ratio", share, dict(where, engine=engine)
    if one.ecc is not None:
        yield "gpu_ecc_enabled", int(one.ecc), where
    for kind, count in sorted(one.ecc_errors.items()):
        yield "gpu_ecc_errors_total", count, dict(where, kind=kind)
    for reason, held in sorted(one.throttled.items()):
        yield "gpu_throttled", int(held), dict(where, reason=reason)
    for name, value in (("gpu_temperature_celsius", one.celsius), ("gpu_power_watts", one.watts)):
        if value is not None:
            yield name, value, where


def _of_vgpu(gpu: Gpu, vgpu: Vgpu, used: VgpuUsage | None) -> Iterator[Sample]:
    """Yields the samples for a vGPU and its VM. The VM name comes from /proc or, if /proc does not identify the VM, from nvidia-smi."""
    where = {"gpu": gpu.address, "vgpu": vgpu.key}
    yield "info", 1, dict(where, parent=vgpu.parent, type=vgpu.type or "unknown")
    size = framebuffer_of(vgpu.type or "")
    if size:
        yield "framebuffer_bytes", size * MIB, where
    if vgpu.holders or used:
        vm = next((holder.vm for holder in vgpu.holders if holder.vm), None) or (used.vm if used else None)
        uuid, driver = (used.vm_uuid, used.guest_driver) if used else (None, None)
        yield "vm_info", 1, dict(where, vm=_label(vm), vm_uuid=_label(uuid), guest_driver=_label(driver))


def _of_running(one: VgpuUsage, where: dict[str, str]) -> Iterator[Sample]:
    if "used" in one.memory and _fits(one.memory):
        yield "framebuffer_used_bytes", one.memory["used"] * MIB, where
    for engine, share in sorted(one.busy.items()):
        yield "utilization_ratio", share, dict(where, engine=engine)
    state = licensing.state(one.license)
    # Other license states do not indicate whether the VM is licensed.
    if one.license and (state.licensed or one.license.startswith("Unlicensed")):
        yield "licensed", int(state.licensed), where
    if state.expiry:
        yield "license_expiry_timestamp_seconds", calendar.timegm(time.strptime(state.expiry, "%Y-%m-%dT%H:%M:%SZ")), where
    if one.frame_rate:
        yield "frame_rate_limit", one.frame_rate, where


def _label(text: str | None) -> str:
    return printable(text or "", lines=False)
