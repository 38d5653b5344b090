# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs nvidia-smi: for what sysfs does not have (MIG, mixed sizes, the names of types that no VF offers now, a guest's license).

system/nvidia_smi_output.py reads what it prints. What it changed is always checked again.
"""

from __future__ import annotations

from typing import Iterable, Sequence

from ..hardware.gpu import GpuInstance
from ..hardware.mig_profiles import Profile
from ..hardware.vgpu_types import VgpuType
from . import nvidia_smi_output as output
from .command import Result
from .context import Context

_PATHS = ("/usr/bin/nvidia-smi", "/usr/sbin/nvidia-smi", "/usr/local/bin/nvidia-smi")


def binary(ctx: Context) -> str | None:
    """Where nvidia-smi is, or None."""
    return ctx.executable(*_PATHS)


def call(ctx: Context, arguments: Sequence[str], timeout: float = 60) -> Result:
    """Runs it; rc 127 when it isn't there, 124 when it did not end. One that hangs is not called again in this run."""
    if ctx.smi_silent:
        return Result(124, "", True)
    answer = ctx.command([binary(ctx) or "nvidia-smi"] + list(arguments), timeout)
    if answer.timed_out:
        ctx.smi_silent = "nvidia-smi did not end within %d s and was stopped" % timeout
    return answer


def silence(ctx: Context) -> str | None:
    """Why nvidia-smi reports nothing at all, as a clause; None when it does."""
    if ctx.smi_silent:
        return ctx.smi_silent
    return None if binary(ctx) else "nvidia-smi is not there (looked in %s)" % ", ".join(_PATHS)


# --- reading


def modes(ctx: Context, timeout: float = 60) -> list[output.Mode] | None:
    """As output.parse_modes, of all GPUs; None when nvidia-smi gave no answer."""
    answer = call(ctx, ["--query-gpu=pci.bus_id,mig.mode.current,mig.mode.pending", "--format=csv,noheader"], timeout)
    return output.parse_modes(answer.out) if answer.rc == 0 else None


def mode(ctx: Context, pf: str, timeout: float = 60) -> tuple[bool | None, bool | None]:
    """(current, pending) of one GPU; (None, None) when unknown."""
    return next(((current, pending) for one, current, pending in modes(ctx, timeout) or () if one == pf), (None, None))


def profiles(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, Profile]]:
    """As output.parse_profiles. A host without MIG answers in words, with whatever exit status."""
    return output.parse_profiles(call(ctx, ["mig", *_of(pf), "-lgip"], timeout).out)


def instances(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, GpuInstance]]:
    """As output.parse_instances; without any it prints a sentence and ends with a status other than 0."""
    return output.parse_instances(call(ctx, ["mig", *_of(pf), "-lgi"], timeout).out)


def placements(ctx: Context, pf: str, timeout: float = 60) -> dict[int, tuple[list[int], int]]:
    """As output.parse_placements."""
    return output.parse_placements(call(ctx, ["mig", "-i", pf, "-lgipp"], timeout).out)


def compute_instances(ctx: Context, timeout: float = 60, pf: str | None = None) -> list[tuple[int, int, int]]:
    """As output.parse_compute."""
    return output.parse_compute(call(ctx, ["mig", *_of(pf), "-lci"], timeout).out)


def types(ctx: Context, timeout: float = 60) -> dict[str, list[VgpuType]]:
    """All supported vGPU types by GPU address, whatever can be created now."""
    return output.parse_types(call(ctx, ["vgpu", "-s", "-v"], timeout).out)


def running(ctx: Context, timeout: float = 60) -> dict[str, int]:
    """As output.parse_running."""
    return output.parse_running(call(ctx, ["vgpu", "-q"], timeout).out)


def active(ctx: Context, timeout: float = 60) -> list[output.Active]:
    """As output.parse_active."""
    return output.parse_active(call(ctx, ["vgpu", "-q"], timeout).out)


def mixed(ctx: Context, pf: str, timeout: float = 60) -> tuple[bool, bool]:
    """As output.parse_mixed."""
    return output.parse_mixed(call(ctx, ["-q", "-i", pf], timeout).out)


def guest_gpus(ctx: Context, timeout: float = 60) -> tuple[list[output.GuestGpu], str | None]:
    """(As output.parse_guest_gpus, None), or (none, why nvidia-smi reported nothing, as a clause)."""
    answer = call(ctx, ["-q"], timeout)
    if answer.timed_out:
        return [], ctx.smi_silent
    if answer.rc:
        return [], silence(ctx) or "nvidia-smi ended with rc %d: %s" % (answer.rc, answer.tail(2))
    return output.parse_guest_gpus(answer.out), None


def _of(pf: str | None) -> list[str]:
    return ["-i", pf] if pf else []


# --- changing


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
