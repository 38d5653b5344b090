# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the current GPU and vGPU usage from nvidia-smi, in one call for all GPUs on a host.

The GPU and vGPU queries report the reason for a missing answer:

* missing: nvidia-smi is not installed.
* timeout: nvidia-smi did not exit before the deadline.
* failed: nvidia-smi's exit status indicates an error.
* unreadable: the output lacks an expected GPU, or the stated number of vGPUs differs from the number listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Generic, List, Sequence, TypeVar

from ..base.numbers import number
from ..hardware.vgpu_types import mebibytes, short_name
from . import nvidia_smi, nvidia_smi_text
from .command import Result
from .context import Context

ERRORS = ("missing", "timeout", "failed", "unreadable", "contradiction")
_NONE = ("", "N/A", "[N/A]", "Not Supported", "None")
# Sections and rows in 'nvidia-smi -q' and 'nvidia-smi vgpu -q'. Case is ignored, because names have changed between releases.
_FRAMEBUFFER, _UTILIZATION = "fb memory usage", "utilization"
_REASONS = ("clocks event reasons", "clocks throttle reasons")
_THROTTLES = {
    "sw power cap": "power_cap", "hw slowdown": "hardware", "hw thermal slowdown": "hardware_thermal", "hw power brake slowdown": "power_brake",
    "sw thermal slowdown": "thermal", "sync boost": "sync_boost",
}
_POWER = ("gpu power readings", "power readings")
_ENGINES = ("gpu", "memory", "encoder", "decoder", "jpeg", "ofa")

Used = TypeVar("Used")


@dataclass(eq=False, repr=False)
class GpuUsage:
    """The usage of a GPU. Values that nvidia-smi does not print are None or missing.

    ``memory`` contains total, reserved, used, and free in MiB. ``busy`` contains the utilization of each engine, from 0 to 1.
    ``ecc_errors`` contains error counts since the driver was loaded, keyed by kind. ``throttled`` maps each throttling reason to whether the reason is active.
    """

    address: str
    memory: dict[str, int] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    ecc: bool | None = None
    ecc_errors: dict[str, int] = field(default_factory=dict)
    throttled: dict[str, bool] = field(default_factory=dict)
    celsius: float | None = None
    watts: float | None = None


@dataclass(eq=False, repr=False)
class VgpuUsage:
    """The usage of a vGPU. Values that nvidia-smi does not print are None.

    ``number`` is the driver's vGPU number. ``uuid`` is the mediated device's UUID. ``license`` is the license status as printed by nvidia-smi.
    """

    gpu: str
    number: str
    uuid: str | None = None
    vm: str | None = None
    vm_uuid: str | None = None
    type: str | None = None
    guest_driver: str | None = None
    license: str | None = None
    frame_rate: int | None = None
    memory: dict[str, int] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Answer(Generic[Used]):
    """The rows in an answer, the reason for a missing answer (one of ERRORS), and the duration in seconds."""

    found: List[Used]
    error: str | None
    seconds: float


def gpus(ctx: Context, pfs: Sequence[str], expected: Sequence[str] = ()) -> Answer[GpuUsage]:
    """Runs 'nvidia-smi -q' for all GPUs, or only for ``pfs``. The answer must contain all GPUs in ``expected``."""
    began = ctx.clock.now()
    answer = nvidia_smi.together(ctx, nvidia_smi.GPUS, pfs)
    found = _gpus(answer.out) if not answer.rc else []
    unread = not {*expected} <= {one.address for one in found if one.memory or one.busy}
    return Answer(found, _error(ctx, answer) or ("unreadable" if unread else None), ctx.clock.now() - began)


def vgpus(ctx: Context, pfs: Sequence[str], expected: Sequence[str] = ()) -> Answer[VgpuUsage]:
    """Runs 'nvidia-smi vgpu -q' for all GPUs, or only for ``pfs``. The answer must contain all GPUs in ``expected``."""
    began = ctx.clock.now()
    answer = nvidia_smi.together(ctx, nvidia_smi.VGPUS, pfs)
    found = _vgpus(answer.out) if not answer.rc else []
    counts = [number(value) for dummy, key, value in nvidia_smi_text.rows(answer.out) if key == "active vgpus"]
    known = bool(counts) or "no supported devices" in answer.out.lower()
    unread = not known or None in counts or sum(one or 0 for one in counts) != len(found) or not {*expected} <= {*nvidia_smi_text.heads(answer.out)}
    return Answer(found, _error(ctx, answer) or ("unreadable" if unread else None), ctx.clock.now() - began)


def _error(ctx: Context, answer: Result) -> str | None:
    if answer.timed_out:
        return "timeout"
    if answer.rc:
        return "failed" if nvidia_smi.binary(ctx) else "missing"
    return None


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def _text(value: str) -> str | None:
    return None if value in _NONE else value


def _share(value: str) -> float | None:
    """Returns the value of a percentage as a fraction (0.37 for 37%), or None for other text."""
    match = re.match(r"^([0-9]{1,3}) ?%$", value)
    return int(match.group(1)) / 100 if match and int(match.group(1)) <= 100 else None


def _quantity(value: str, unit: str) -> float | None:
    match = re.match(r"^(-?[0-9]{1,6}(?:\.[0-9]{1,6})?) %s$" % unit, value)
    return float(match.group(1)) if match else None


def _gpus(text: str) -> list[GpuUsage]:
    found = {address: GpuUsage(address) for address in nvidia_smi_text.heads(text)}
    for address, path, key, value in nvidia_smi_text.sections(text):
        _gpu_row(found[address], [_words(one) for one in path], _words(key), value)
    return list(found.values())


def _gpu_row(gpu: GpuUsage, path: Sequence[str], key: str, value: str) -> None:
    if not path:
        return
    if path[0] in (_FRAMEBUFFER, _UTILIZATION):
        _shared_row(gpu.memory, gpu.busy, path[0], key, value)
    elif path == ["ecc mode"] and key == "current":
        gpu.ecc = {"Enabled": True, "Disabled": False}.get(value)
    elif path[:2] == ["ecc errors", "volatile"]:
        kind, count = _ecc_kind(path[2:], key), number(value)
        if kind and count is not None:
            gpu.ecc_errors[kind] = gpu.ecc_errors.get(kind, 0) + count
    elif path[0] in _REASONS and key in _THROTTLES and value in ("Active", "Not Active"):
        gpu.throttled[_THROTTLES[key]] = value == "Active"
    elif path == ["temperature"] and key == "gpu current temp":
        gpu.celsius = _quantity(value, "C")
    elif path[0] in _POWER and len(path) == 1 and key in ("average power draw", "power draw"):
        gpu.watts = _quantity(value, "W")


def _ecc_kind(section: Sequence[str], key: str) -> str | None:
    """Returns the kind of ECC errors that a row counts, or None.

    For GPUs before Turing, nvidia-smi prints separate sections for single-bit and double-bit errors, each with a total.
    """
    if not section:
        return "uncorrectable" if "uncorrectable" in key else "correctable"
    return {"single bit": "correctable", "double bit": "uncorrectable"}.get(section[0]) if key == "total" else None


def _shared_row(memory: dict[str, int], busy: dict[str, float], section: str, key: str, value: str) -> None:
    """Adds a row that exists for both GPUs and vGPUs to ``memory`` or ``busy``."""
    size, share = mebibytes(value), _share(value)
    if section == _FRAMEBUFFER and size is not None:
        memory[key] = size
    elif section == _UTILIZATION and share is not None and key in _ENGINES:
        busy[key] = share


def _vgpus(text: str) -> list[VgpuUsage]:
    found: list[VgpuUsage] = []
    for gpu, path, key, value in nvidia_smi_text.sections(text):
        row = _words(key)
        if not path and row == "vgpu id":
            found.append(VgpuUsage(gpu, value))
        elif path and found and found[-1].gpu == gpu:
            _vgpu_row(found[-1], _words(path[-1]), row, value)
    return found


def _vgpu_row(vgpu: VgpuUsage, section: str, key: str, value: str) -> None:
    if section in (_FRAMEBUFFER, _UTILIZATION):
        _shared_row(vgpu.memory, vgpu.busy, section, key, value)
    elif key == "mdev uuid" and len(value) == 36:
        vgpu.uuid = value.lower()
    elif key == "vm name":
        vgpu.vm = _text(value.partition(",")[0])  # some releases print QEMU's whole option: win10,debug-threads=on
    elif key == "vm uuid":
        vgpu.vm_uuid = _text(value.lower())
    elif key == "vgpu name":
        vgpu.type = short_name(value)
    elif key == "guest driver version":
        vgpu.guest_driver = _text(value)
    elif key == "license status":
        vgpu.license = _text(value) if not value.startswith("N/A") else None
    elif key == "frame rate limit":
        vgpu.frame_rate = number(value.partition(" ")[0])
