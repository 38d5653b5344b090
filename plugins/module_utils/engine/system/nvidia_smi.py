# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-smi: for what sysfs does not have (MIG, mixed sizes, the names of types that no VF offers now, a guest's license).

Its tables are for people: columns move between releases, so rows are found by what stands in them, never by position. What it changed is
always checked again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Iterable, Optional, Sequence, Tuple

from ..base.numbers import number
from ..hardware import address
from ..hardware.fabric import GpuFabric
from ..hardware.gpu import GpuInstance
from ..hardware.mig_profiles import Profile, plain_profile
from ..hardware.vgpu_types import VgpuType, mebibytes, short_name
from . import nvidia_smi_text
from .command import Result
from .context import Context

_PATHS = ("/usr/bin/nvidia-smi", "/usr/sbin/nvidia-smi", "/usr/local/bin/nvidia-smi")
# A profile's name; tables put MIG before it. Numbers are short: a longer one is no row of ours.
_PROFILE = r"(?:MIG\s+)?([0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)"
_N = r"([0-9]{1,5})"
# Not compiled here: most hosts are never asked, and compiling them takes longer than all else of this file.
_LGIP = r"^\W*%s\s+%s\s+%s\s+%s\s*/\s*%s\s+([0-9]{1,5}(?:\.[0-9]+)?)(?![0-9.])" % (_N, _PROFILE, _N, _N, _N)
_LGI = r"^\W*%s\s+%s\s+%s\s+%s(?:\s+([0-9]{1,3}):([0-9]{1,3}))?[\s|]*$" % (_N, _PROFILE, _N, _N)
_LGIPP = r"(?i)^\s*GPU\s+[0-9]+\s+Profile\s+ID\s+%s\s+Placements?\s*:\s*\{([0-9,\s]+)\}\s*:\s*([0-9]{1,3})(?![0-9])" % _N
_LCI = r"^\W*%s\s+%s\s+(?:MIG\s+)?((?:[0-9]{1,2}c\.)?[0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)\s+%s\s+%s(?![0-9])" % (_N, _N, _N, _N)
# GRID Licensed Product until release 11, vGPU Software Licensed Product since.
_LICENSED_PRODUCT = r"(?i)(vGPU Software|GRID) Licensed Product$"
SRIOV = "SR-IOV"  # the Host VGPU Mode of a GPU whose vGPUs live on VFs
_CORRUPTED = 14  # exit status: it answered, and some GPU's infoROM is corrupted
GPUS, VGPUS = ("-q",), ("vgpu", "-q")  # what it shows of GPUs, and of the vGPUs that VMs use
_MOST_HUNG = 2  # calls: one about all GPUs, and one about the GPU that it hangs for
_TYPE_ID = "vgpu type id"
_HOST_MODES = (SRIOV, "Non SR-IOV")

# What becomes of a guest's row, by its section (license: _LICENSED_PRODUCT) and name.
_GUEST_ROWS = {
    ("", "Product Name"): "name",
    ("GPU Virtualization Mode", "Virtualization Mode"): "virtualization",
    ("FB Memory Usage", "Total"): "framebuffer_mib",
    ("license", "Product Name"): "product",
    ("license", "License Status"): "status",
}

# (nvidia-smi's number of a GPU, its address, MIG mode now, MIG mode after a reset); None where it has no MIG.
Mode = Tuple[int, str, Optional[bool], Optional[bool]]


@dataclass(eq=False, repr=False)
class Active:
    """A vGPU that a VM uses, as vgpu -q shows it. type: short name; type_id: its number; uuid: of its mediated device; instance: of MIG.

    None: not shown.
    """

    gpu: str
    type: str | None = None
    type_id: str | None = None
    uuid: str | None = None
    vm: str | None = None
    instance: int | None = None


@dataclass(eq=False, repr=False)
class GuestGpu:
    """A GPU as nvidia-smi -q shows it in a guest. product and status: of its license; each None where it is not shown."""

    address: str
    name: str | None = None
    virtualization: str | None = None
    framebuffer_mib: int | None = None
    product: str | None = None
    status: str | None = None
    fabric: GpuFabric = field(default_factory=GpuFabric)


def binary(ctx: Context) -> str | None:
    """Where nvidia-smi is, or None."""
    return ctx.executable(*_PATHS)


def call(ctx: Context, arguments: Sequence[str], timeout: float = 60) -> Result:
    """Runs it; rc 127 when it isn't there, 124 when it did not end. One that hangs is not called again in this run.

    A GPU whose call hangs does not silence the others, unless several calls do.
    """
    gpu = next((after for here, after in zip(arguments, arguments[1:]) if here == "-i"), "")
    left = timeout if ctx.smi_deadline is None else min(timeout, ctx.smi_deadline - ctx.clock.now())
    if gpu in ctx.smi_hung or len(ctx.smi_hung) > _MOST_HUNG or left <= 0:
        return Result(124, "", True)
    answer = ctx.command([binary(ctx) or "nvidia-smi"] + list(arguments), left)
    if answer.timed_out:
        ctx.smi_hung.add(gpu)
        ctx.smi_stuck = answer.stuck or ctx.smi_stuck
        ctx.smi_silent = "nvidia-smi did not end within %d s and was stopped" % left
    return Result(0, answer.out) if answer.rc == _CORRUPTED else answer


def silence(ctx: Context) -> str | None:
    """Why nvidia-smi reports nothing at all, as a clause; None when it does."""
    if ctx.smi_silent or binary(ctx):
        return ctx.smi_silent
    return "nvidia-smi is not there (searched in %s)" % ", ".join(_PATHS)


def _switch(word: str) -> bool | None:
    """Enabled, Disabled, or (for [N/A] and what else there is) None."""
    return {"enabled": True, "disabled": False}.get(word.strip().strip("[]").lower())


def _table(ctx: Context, option: str, row: str, timeout: float, pf: str | None) -> list[tuple[str, ...]]:
    """The rows of one of MIG's tables, of all GPUs or of one. A host without MIG answers in words, with whatever exit status."""
    return re.findall(row, call(ctx, ["mig", *(["-i", pf] if pf else []), option], timeout).out, re.MULTILINE)


def modes(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[Mode] | None:
    """Modes of all GPUs, or of one; None when it gave no answer. A GPU that does not answer has a number of nvidia-smi's, but may have no line."""
    alone = ["-i", pf] if pf else []
    answer = call(ctx, [*alone, "--query-gpu=index,pci.bus_id,mig.mode.current,mig.mode.pending", "--format=csv,noheader"], timeout)
    lines = [[word.strip() for word in line.split(",")] for line in answer.out.splitlines()]
    whole = [one for one in lines if len(one) == 4 and re.match(_N + "$", one[0]) and address.is_address(one[1])]
    return None if answer.rc else [(int(one[0]), address.parse(one[1]), _switch(one[2]), _switch(one[3])) for one in whole]


def mode(ctx: Context, pf: str, timeout: float = 60) -> tuple[bool | None, bool | None]:
    """(current, pending) of one GPU; (None, None) when unknown."""
    return next(((current, pending) for dummy, one, current, pending in modes(ctx, timeout, pf) or () if one == pf), (None, None))


def profiles(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, Profile]]:
    """(number of the GPU, Profile) for each row of mig -lgip."""
    return [
        (int(gpu), Profile(plain_profile(name), int(profile), int(free), int(total), float(memory)))
        for gpu, name, profile, free, total, memory in _table(ctx, "-lgip", _LGIP, timeout, pf)
    ]


def instances(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, GpuInstance]]:
    """(number of the GPU, GpuInstance) for each row of mig -lgi."""
    return [
        (int(gpu), GpuInstance(int(instance), plain_profile(name), int(profile), int(start) if start else None, int(size) if size else None))
        for gpu, name, profile, instance, start, size in _table(ctx, "-lgi", _LGI, timeout, pf)
    ]


def placements(ctx: Context, pf: str, timeout: float = 60) -> dict[int, tuple[list[int], int]]:
    """{profile id: (possible starts, size)} of one GPU, by mig -lgipp."""
    return {
        int(profile): ([int(start) for start in re.findall(r"\b[0-9]{1,3}\b", starts)], int(size))
        for profile, starts, size in _table(ctx, "-lgipp", _LGIPP, timeout, pf)
    }


def compute_instances(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, int, int]]:
    """(number of the GPU, GPU instance, compute instance) for each row of mig -lci."""
    return [(int(gpu), int(instance), int(compute)) for gpu, instance, dummy, dummy2, compute in _table(ctx, "-lci", _LCI, timeout, pf)]


def types(ctx: Context, pfs: Iterable[str] = (), timeout: float = 60) -> dict[str, list[VgpuType]]:
    """All supported vGPU types by GPU address, whatever can be created now. pfs: GPUs that are asked alone if an answer about all GPUs fails."""
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
    """One query about several GPUs by one run; the same query has the same answer as long as ctx.smi_answers keeps it. pfs: these alone.

    A GPU that fell off the bus makes an answer about all GPUs fail.
    """
    chosen = ",".join(pfs)
    arguments = (*query, *(("-i", chosen) if chosen else ()))
    kept = ctx.smi_answers.get(arguments) if ctx.smi_answers is not None else None
    answer = kept or call(ctx, arguments, timeout)
    if ctx.smi_answers is not None:
        ctx.smi_answers[arguments] = answer
    return answer


def running(ctx: Context, pfs: Sequence[str] = (), timeout: float = 60) -> dict[str, int]:
    """{UUID of a mediated device: id of its GPU instance} of the vGPUs that VMs use. pfs: of these GPUs alone."""
    answer = together(ctx, VGPUS, pfs, timeout)
    found = _active(answer.out)[0] if not answer.rc else []
    return {one.uuid: one.instance for one in found if one.uuid and one.instance is not None}


def active(ctx: Context, pf: str, timeout: float = 60) -> tuple[list[Active], str | None]:
    """(the vGPUs of a GPU that VMs use, None), or (none, why nvidia-smi reported nothing, as a clause).

    Each GPU is asked alone: one that fell off the bus makes an answer about all GPUs fail.
    """
    answer = call(ctx, [*VGPUS, "-i", pf], timeout)
    if answer.timed_out:
        return [], ctx.smi_silent
    if answer.rc:
        missing = None if binary(ctx) else silence(ctx)
        return [], missing or "nvidia-smi ended with rc %d: %s" % (answer.rc, answer.tail(2) or "it printed nothing")
    found, counted = _active(answer.out)
    if counted > len(found):
        return [], "nvidia-smi counts %d active vGPUs, of which %d can be read" % (counted, len(found))
    return found, None


def _active(text: str) -> tuple[list[Active], int]:
    """(the vGPUs of vgpu -q, how many it counts)."""
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
    """(supported, on) of mixed-size mode; None when it gave no answer. The spelling differs between releases."""
    answer = call(ctx, ["-q", "-i", pf], timeout)
    text = answer.out
    sizes = re.search(r"^\s*heterogen\w*\s+time-?\s?slice\s+sizes\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    multi = re.search(r"^\s*(?:vgpu\s+heterogen\w*\s+mode|heterogen\w*\s+multi-?vgpu)\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    supported = bool(sizes and sizes.group(1).lower() == "supported")
    enabled = bool(multi and _switch(multi.group(1)))
    return None if answer.rc else (supported or enabled, enabled)


def host_modes(ctx: Context, pfs: Iterable[str], timeout: float = 60) -> dict[str, str]:
    """Host VGPU Mode (SR-IOV, Non SR-IOV) of those GPUs that have one, by address. pfs: GPUs that are asked alone if an answer about all fails."""
    answer = call(ctx, ["-q"], timeout)
    text = answer.out
    if answer.rc and not silence(ctx):
        text = "\n".join(call(ctx, ["-q", "-i", pf], timeout).out for pf in pfs)
    return {gpu: value for gpu, key, value in nvidia_smi_text.rows(text) if gpu and key == "host vgpu mode" and value in _HOST_MODES}


def fabric(ctx: Context, pfs: Iterable[str] = (), timeout: float = 60) -> dict[str, GpuFabric]:
    """Module ids and fabric of GPUs by address; empty where it gave no answer. pfs: these alone."""
    answer = together(ctx, GPUS, pfs, timeout)
    return {} if answer.rc else nvidia_smi_text.fabric(answer.out)


def guest_gpus(ctx: Context, timeout: float = 60) -> tuple[list[GuestGpu], str | None]:
    """(GPUs of a guest, None), or (none, why nvidia-smi reported nothing, as a clause)."""
    answer = call(ctx, ["-q"], timeout)
    if answer.timed_out:
        return [], ctx.smi_silent
    if answer.rc:
        return [], silence(ctx) or "nvidia-smi ended with rc %d: %s" % (answer.rc, answer.tail(2))
    return _guest_gpus(answer.out), None


def _guest_gpus(text: str) -> list[GuestGpu]:
    """The GPUs of nvidia-smi -q."""
    found = [GuestGpu(head, fabric=one) for head, one in nvidia_smi_text.fabric(text).items()]
    by_address = {one.address: one for one in found}
    for gpu, path, key, value in nvidia_smi_text.sections(text):
        section = path[-1] if path else ""
        attribute = _GUEST_ROWS.get(("license" if re.search(_LICENSED_PRODUCT, section) else section, key))
        if attribute:
            setattr(by_address[gpu], attribute, mebibytes(value) if attribute == "framebuffer_mib" else value)
    return found


def set_mode(ctx: Context, pf: str, enabled: bool, timeout: float = 120) -> Result:
    """MIG mode on or off. On Ampere nvidia-smi tries the reset that it needs by itself."""
    return call(ctx, ["-i", pf, "-mig", "1" if enabled else "0"], timeout)


def reset(ctx: Context, pf: str, timeout: float = 120) -> Result:
    """Resets a GPU: the caller has made sure that nobody uses it."""
    return call(ctx, ["--gpu-reset", "-i", pf], timeout)


def create_instances(ctx: Context, pf: str, numbers: Iterable[int | str], timeout: float = 120) -> Result:
    """GPU instances by profile id (or id:start), each with its default compute instance."""
    return call(ctx, ["mig", "-i", pf, "-cgi", ",".join(map(str, numbers)), "-C"], timeout)


def create_compute(ctx: Context, pf: str, instance: int, timeout: float = 120) -> Result:
    """The default compute instance of a GPU instance that has none."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-cci"], timeout)


def destroy_compute(ctx: Context, pf: str, instance: int, timeout: float = 120) -> Result:
    """All compute instances of a GPU instance."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-dci"], timeout)


def destroy_instance(ctx: Context, pf: str, instance: int, timeout: float = 120) -> Result:
    """A GPU instance without compute instances."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-dgi"], timeout)


def set_mixed(ctx: Context, pf: str, enabled: bool, timeout: float = 60) -> Result:
    """Mixed-size mode on or off; the driver refuses while the GPU holds a vGPU."""
    return call(ctx, ["vgpu", "-shm", "1" if enabled else "0", "-i", pf], timeout)
