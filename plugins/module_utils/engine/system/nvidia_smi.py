# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs nvidia-smi for data that sysfs does not contain: MIG, mixed sizes, names of types that no VF currently offers, and guest licenses.

nvidia-smi prints tables for people, and columns move between releases. The parsers therefore identify rows by content, never by position.
The engine always verifies changes that nvidia-smi makes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Iterable, Optional, Sequence, Tuple

from ..base.numbers import number
from ..base.refusals import NO_NVIDIA_SMI
from ..hardware import address
from ..hardware.fabric import GpuFabric
from ..hardware.gpu import GpuInstance
from ..hardware.mig_profiles import Profile, plain_profile
from ..hardware.vgpu_types import VgpuType, mebibytes, short_name
from . import nvidia_smi_text
from .command import Result
from .context import Context

_PATHS = ("/usr/bin/nvidia-smi", "/usr/sbin/nvidia-smi", "/usr/local/bin/nvidia-smi")
# A profile name, which has the MIG prefix in tables. Profile numbers are short, so a longer number belongs to another row.
_PROFILE = r"(?:MIG\s+)?([0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)"
_N = r"([0-9]{1,5})"
# These patterns are compiled on demand, because most hosts do not need these patterns, and compilation is slow.
_LGIP = r"^\W*%s\s+%s\s+%s\s+%s\s*/\s*%s\s+([0-9]{1,5}(?:\.[0-9]+)?)(?![0-9.])" % (_N, _PROFILE, _N, _N, _N)
_LGI = r"^\W*%s\s+%s\s+%s\s+%s(?:\s+([0-9]{1,3}):([0-9]{1,3}))?[\s|]*$" % (_N, _PROFILE, _N, _N)
_LGIPP = r"(?i)^\s*GPU\s+[0-9]+\s+Profile\s+ID\s+%s\s+Placements?\s*:\s*\{([0-9,\s]+)\}\s*:\s*([0-9]{1,3})(?![0-9])" % _N
_LCI = r"^\W*%s\s+%s\s+(?:MIG\s+)?((?:[0-9]{1,2}c\.)?[0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)\s+%s\s+%s(?![0-9])" % (_N, _N, _N, _N)
# The section name is "GRID Licensed Product" up to release 11, and "vGPU Software Licensed Product" in later releases.
_LICENSED_PRODUCT = r"(?i)(vGPU Software|GRID) Licensed Product$"
SRIOV = "SR-IOV"  # the Host VGPU Mode for a GPU whose vGPUs are created on VFs
_CORRUPTED = 14  # the exit status if the output is valid, but a GPU's infoROM is corrupted
GPUS, VGPUS = ("-q",), ("vgpu", "-q")  # nvidia-smi arguments that query GPUs and vGPUs in use
_MOST_HUNG = 2  # the tolerated number of hanging calls: one for all GPUs, and one for the GPU that causes the hang
_TYPE_ID = "vgpu type id"
_HOST_MODES = (SRIOV, "Non SR-IOV")

# The GuestGpu attribute for each row, keyed by section and row name. The "license" section is any section that matches _LICENSED_PRODUCT.
_GUEST_ROWS = {
    ("", "Product Name"): "name",
    ("GPU Virtualization Mode", "Virtualization Mode"): "virtualization",
    ("FB Memory Usage", "Total"): "framebuffer_mib",
    ("license", "Product Name"): "product",
    ("license", "License Status"): "status",
}

# A row with MIG modes: (nvidia-smi's GPU number, GPU address, current mode, mode after a reset). The modes are None if the GPU does not support MIG.
Mode = Tuple[int, str, Optional[bool], Optional[bool]]


@dataclass(eq=False, repr=False)
class Active:
    """A vGPU in use, from 'nvidia-smi vgpu -q'. Values that nvidia-smi does not print are None.

    ``type`` and ``type_id`` are the short name and number of the vGPU type. ``uuid`` is the mediated device's UUID. ``instance`` is the MIG GPU
    instance.
    """

    gpu: str
    type: str | None = None
    type_id: str | None = None
    uuid: str | None = None
    vm: str | None = None
    instance: int | None = None


@dataclass(eq=False, repr=False)
class GuestGpu:
    """A GPU in a guest, from 'nvidia-smi -q', with the license's product and status. Values that nvidia-smi does not print are None."""

    address: str
    name: str | None = None
    virtualization: str | None = None
    framebuffer_mib: int | None = None
    product: str | None = None
    status: str | None = None
    fabric: GpuFabric = field(default_factory=GpuFabric)


def binary(ctx: Context) -> str | None:
    """Returns the path to nvidia-smi, or None."""
    return ctx.executable(*_PATHS)


def call(ctx: Context, arguments: Sequence[str], timeout: float = 60) -> Result:
    """Runs nvidia-smi. The exit status is 127 if nvidia-smi is not installed, and 124 after a timeout.

    A call that hung is not repeated in the same run. Calls for other GPUs continue unless several calls have hung.
    """
    gpu = next((after for here, after in zip(arguments, arguments[1:]) if here == "-i"), "")
    left = timeout if ctx.smi_deadline is None else min(timeout, ctx.smi_deadline - ctx.clock.now())
    if gpu in ctx.smi_hung or len(ctx.smi_hung) > _MOST_HUNG or left <= 0:
        return Result(124, "", True)
    answer = ctx.command([binary(ctx) or "nvidia-smi"] + list(arguments), left)
    if answer.timed_out:
        ctx.smi_hung.add(gpu)
        ctx.smi_stuck = answer.stuck or ctx.smi_stuck
        ctx.smi_silent = "nvidia-smi did not exit within %d s and was stopped" % left
    return Result(0, answer.out) if answer.rc == _CORRUPTED else answer


def silence(ctx: Context) -> str | None:
    """Returns the reason why nvidia-smi does not respond, as a clause, or None if nvidia-smi works."""
    if ctx.smi_silent or binary(ctx):
        return ctx.smi_silent
    return "%s (searched in %s)" % (NO_NVIDIA_SMI, ", ".join(_PATHS))


def _switch(word: str) -> bool | None:
    """Returns True for Enabled, False for Disabled, and None for [N/A] and other text."""
    return {"enabled": True, "disabled": False}.get(word.strip().strip("[]").lower())


def _table(ctx: Context, option: str, row: str, timeout: float, pf: str | None) -> list[tuple[str, ...]]:
    """Returns the rows in a MIG table for one or all GPUs. On a host without MIG, nvidia-smi prints other text with any exit status."""
    return re.findall(row, call(ctx, ["mig", *(["-i", pf] if pf else []), option], timeout).out, re.MULTILINE)


def modes(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[Mode] | None:
    """Returns the MIG modes for one or all GPUs, or None if nvidia-smi does not respond. The rows may omit unresponsive GPUs."""
    alone = ["-i", pf] if pf else []
    answer = call(ctx, [*alone, "--query-gpu=index,pci.bus_id,mig.mode.current,mig.mode.pending", "--format=csv,noheader"], timeout)
    lines = [[word.strip() for word in line.split(",")] for line in answer.out.splitlines()]
    whole = [one for one in lines if len(one) == 4 and re.match(_N + "$", one[0]) and address.is_address(one[1])]
    return None if answer.rc else [(int(one[0]), address.parse(one[1]), _switch(one[2]), _switch(one[3])) for one in whole]


def mode(ctx: Context, pf: str, timeout: float = 60) -> tuple[bool | None, bool | None]:
    """Returns one GPU's (current, pending) MIG mode, or (None, None) if unknown."""
    return next(((current, pending) for dummy, one, current, pending in modes(ctx, timeout, pf) or () if one == pf), (None, None))


def profiles(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, Profile]]:
    """Returns (GPU number, Profile) for each row of 'nvidia-smi mig -lgip'."""
    return [
        (int(gpu), Profile(plain_profile(name), int(profile), int(free), int(total), float(memory)))
        for gpu, name, profile, free, total, memory in _table(ctx, "-lgip", _LGIP, timeout, pf)
    ]


def instances(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, GpuInstance]]:
    """Returns (GPU number, GpuInstance) for each row of 'nvidia-smi mig -lgi'."""
    return [
        (int(gpu), GpuInstance(int(instance), plain_profile(name), int(profile), int(start) if start else None, int(size) if size else None))
        for gpu, name, profile, instance, start, size in _table(ctx, "-lgi", _LGI, timeout, pf)
    ]


def placements(ctx: Context, pf: str, timeout: float = 60) -> dict[int, tuple[list[int], int]]:
    """Returns {profile ID: (possible starts, size)} for one GPU, from 'nvidia-smi mig -lgipp'."""
    return {
        int(profile): ([int(start) for start in re.findall(r"\b[0-9]{1,3}\b", starts)], int(size))
        for profile, starts, size in _table(ctx, "-lgipp", _LGIPP, timeout, pf)
    }


def compute_instances(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, int, int]]:
    """Returns (GPU number, GPU instance, compute instance) for each row of 'nvidia-smi mig -lci'."""
    return [(int(gpu), int(instance), int(compute)) for gpu, instance, dummy, dummy2, compute in _table(ctx, "-lci", _LCI, timeout, pf)]


def types(ctx: Context, pfs: Iterable[str] = (), timeout: float = 60) -> dict[str, list[VgpuType]]:
    """Returns all supported vGPU types, keyed by GPU address, even if no vGPU can currently be created.

    If a query for all GPUs fails, the GPUs in ``pfs`` are queried one by one.
    """
    shown: list[tuple[str | None, dict[str, str]]] = []
    answer = call(ctx, ["vgpu", "-s", "-v"], timeout)
    text = answer.out
    if answer.rc and not silence(ctx):
        text = "\n".join(call(ctx, ["vgpu", "-s", "-v", "-i", pf], timeout).out for pf in pfs)
    for gpu, key, value in nvidia_smi_text.rows(text):
        if key == _TYPE_ID:
            shown.append((gpu, {key: value}))
        elif shown and shown[-1][0] == gpu:
            shown[-1][1].setdefault(key, value)
    found: dict[str, list[VgpuType]] = {}
    for gpu, rows in shown:
        kind, name = number(rows[_TYPE_ID]), rows.get("name")
        if gpu and name and kind is not None:
            profile, per_gi = number(rows.get("gpu instance profile id")), number(rows.get("max instances per gi"))
            size, most = mebibytes(rows.get("fb memory")), number(rows.get("max instances"))
            found.setdefault(gpu, []).append(VgpuType(kind, name, size, most, gi_profile=profile, per_gi=per_gi))
    return found


def together(ctx: Context, query: Sequence[str], pfs: Iterable[str] = (), timeout: float = 60) -> Result:
    """Queries all GPUs, or only ``pfs``, in one call. ctx.smi_answers may contain a cached answer to the same query.

    A GPU that fell off the bus causes queries for all GPUs to fail.
    """
    chosen = ",".join(pfs)
    arguments = (*query, *(("-i", chosen) if chosen else ()))
    kept = ctx.smi_answers.get(arguments) if ctx.smi_answers is not None else None
    answer = kept or call(ctx, arguments, timeout)
    if ctx.smi_answers is not None:
        ctx.smi_answers[arguments] = answer
    return answer


def running(ctx: Context, pfs: Sequence[str] = (), timeout: float = 60) -> dict[str, int]:
    """Returns {mediated device UUID: GPU instance ID} for vGPUs in use. ``pfs`` limits the query to the given GPUs."""
    answer = together(ctx, VGPUS, pfs, timeout)
    found = _active(answer.out)[0] if not answer.rc else []
    return {one.uuid: one.instance for one in found if one.uuid and one.instance is not None}


def active(ctx: Context, pf: str, timeout: float = 60) -> tuple[list[Active], str | None]:
    """Returns (the GPU's vGPUs in use, None), or ([], the reason why nvidia-smi did not respond, as a clause).

    Each GPU is queried separately, because a GPU that fell off the bus causes queries for all GPUs to fail.
    """
    answer = call(ctx, [*VGPUS, "-i", pf], timeout)
    if answer.timed_out:
        return [], ctx.smi_silent
    if answer.rc:
        missing = None if binary(ctx) else silence(ctx)
        return [], missing or "nvidia-smi exited with rc %d: %s" % (answer.rc, answer.tail(2) or "no output")
    found, counted = _active(answer.out)
    if counted > len(found):
        return [], "nvidia-smi reports %d active vGPUs, but lists only %d" % (counted, len(found))
    return found, None


def _active(text: str) -> tuple[list[Active], int]:
    """Returns (the vGPUs in 'nvidia-smi vgpu -q' output, the number of vGPUs that the output states)."""
    found: list[Active] = []
    counted = 0
    for gpu, key, value in nvidia_smi_text.rows(text):
        if key == "active vgpus":
            counted += number(value) or 0
        elif key == "vgpu id" and gpu:
            found.append(Active(gpu))
        elif not found:
            continue
        elif key == "mdev uuid" and len(value) == 36:
            found[-1].uuid = value.lower()
        elif key == "gpu instance id":
            found[-1].instance = number(value)
        elif key == "vm name" and value not in ("", "N/A"):
            found[-1].vm = value
        elif key == "vgpu name":
            found[-1].type = short_name(value)
        elif key == "vgpu type" and number(value) is not None:
            found[-1].type_id = str(number(value))
    return found, counted


def mixed(ctx: Context, pf: str, timeout: float = 60) -> tuple[bool, bool] | None:
    """Returns (whether mixed-size mode is supported, whether mixed-size mode is enabled), or None if nvidia-smi does not respond."""
    answer = call(ctx, ["-q", "-i", pf], timeout)
    text = answer.out
    sizes = re.search(r"^\s*heterogen\w*\s+time-?\s?slice\s+sizes\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    multi = re.search(r"^\s*(?:vgpu\s+heterogen\w*\s+mode|heterogen\w*\s+multi-?vgpu)\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    supported = bool(sizes and sizes.group(1).lower() == "supported")
    enabled = bool(multi and _switch(multi.group(1)))
    return None if answer.rc else (supported or enabled, enabled)


def host_modes(ctx: Context, pfs: Iterable[str], timeout: float = 60) -> dict[str, str]:
    """Returns the reported Host VGPU Modes (SR-IOV or Non SR-IOV), keyed by GPU address.

    If a query for all GPUs fails, the GPUs in ``pfs`` are queried one by one.
    """
    answer = call(ctx, ["-q"], timeout)
    text = answer.out
    if answer.rc and not silence(ctx):
        text = "\n".join(call(ctx, ["-q", "-i", pf], timeout).out for pf in pfs)
    return {gpu: value for gpu, key, value in nvidia_smi_text.rows(text) if gpu and key == "host vgpu mode" and value in _HOST_MODES}


def fabric(ctx: Context, pfs: Iterable[str] = (), timeout: float = 60) -> dict[str, GpuFabric]:
    """Returns module IDs and fabric values keyed by GPU address, or {} if nvidia-smi does not respond. ``pfs`` limits the query to the given GPUs."""
    answer = together(ctx, GPUS, pfs, timeout)
    return {} if answer.rc else nvidia_smi_text.fabric(answer.out)


def guest_gpus(ctx: Context, timeout: float = 60) -> tuple[list[GuestGpu], str | None]:
    """Returns (the guest's GPUs, None), or ([], the reason why nvidia-smi did not respond, as a clause)."""
    answer = call(ctx, ["-q"], timeout)
    if answer.timed_out:
        return [], ctx.smi_silent
    if answer.rc:
        return [], silence(ctx) or "nvidia-smi exited with rc %d: %s" % (answer.rc, answer.tail(2))
    return _guest_gpus(answer.out), None


def _guest_gpus(text: str) -> list[GuestGpu]:
    """Returns the GPUs in 'nvidia-smi -q' output."""
    found = [GuestGpu(head, fabric=one) for head, one in nvidia_smi_text.fabric(text).items()]
    by_address = {one.address: one for one in found}
    for gpu, path, key, value in nvidia_smi_text.sections(text):
        section = path[-1] if path else ""
        attribute = _GUEST_ROWS.get(("license" if re.search(_LICENSED_PRODUCT, section) else section, key))
        if attribute:
            setattr(by_address[gpu], attribute, mebibytes(value) if attribute == "framebuffer_mib" else value)
    return found


def set_mode(ctx: Context, pf: str, enabled: bool, timeout: float = 120) -> Result:
    """Enables or disables MIG mode. On Ampere, nvidia-smi attempts the required reset."""
    return call(ctx, ["-i", pf, "-mig", "1" if enabled else "0"], timeout)


def reset(ctx: Context, pf: str, timeout: float = 120) -> Result:
    """Resets a GPU. The caller must have verified that the GPU is not in use."""
    return call(ctx, ["--gpu-reset", "-i", pf], timeout)


def create_instances(ctx: Context, pf: str, numbers: Iterable[int | str], timeout: float = 120) -> Result:
    """Creates GPU instances by profile ID (or ID:start), each with the default compute instance."""
    return call(ctx, ["mig", "-i", pf, "-cgi", ",".join(map(str, numbers)), "-C"], timeout)


def create_compute(ctx: Context, pf: str, instance: int, timeout: float = 120) -> Result:
    """Creates the default compute instance in a GPU instance that has no compute instances."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-cci"], timeout)


def destroy_compute(ctx: Context, pf: str, instance: int, timeout: float = 120) -> Result:
    """Destroys all compute instances in a GPU instance."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-dci"], timeout)


def destroy_instance(ctx: Context, pf: str, instance: int, timeout: float = 120) -> Result:
    """Destroys a GPU instance that has no compute instances."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-dgi"], timeout)


def set_mixed(ctx: Context, pf: str, enabled: bool, timeout: float = 60) -> Result:
    """Enables or disables mixed-size mode, which the driver rejects while the GPU has a vGPU."""
    return call(ctx, ["vgpu", "-shm", "1" if enabled else "0", "-i", pf], timeout)
