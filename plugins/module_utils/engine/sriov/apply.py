# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enables and disables VFs, and verifies that VFs stay bound to the driver."""

from __future__ import annotations

import errno
from typing import Sequence

from ..base.clock import until
from ..base.errors import EngineError, Refusal, raise_if_any, error
from ..base.steps import ApplyError, Step, execute
from ..binding import apply as binding_apply
from ..hardware.gpu import Gpu, Vf
from ..read import inventory as reader
from ..system import sriov_manage
from ..system.command import Result
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, SysfsError
from .plan import STRANDED, SriovPlan, complete, repair_step, vgpu_guard

# Time limits in seconds: for VFs to appear after the request, for VF binding without progress, and for monitoring all VFs.
LATE = 60
STALLED = 10
SETTLE = 1.5

_NUMVFS_REMEDY = {
    errno.ENOENT: "Set method: sriov_manage (or auto, without num_vfs), because the bound driver does not accept writes to sriov_numvfs.",
    errno.ENOMEM: "In the firmware, enable SR-IOV, ARI, and above-4G decoding, and assign more PCI memory (MMIO above 4G).",
    errno.EBUSY: "Disable the VFs of the GPU first (state: disabled).",
}


def apply(ctx: Context, plan: SriovPlan, timeout: float, settle: float = SETTLE, lock: float | None = None) -> list[Step]:
    """Performs and verifies the steps with retries, and monitors the VFs for settle seconds in case another program rebinds VFs.

    ``lock`` is the retry time in seconds if the driver refuses a GPU's unbindLock. None means ``timeout``.
    """
    return plan.finish(lambda: _do(ctx, plan.steps, timeout, settle, timeout if lock is None else lock))


def _do(ctx: Context, steps: Sequence[Step], timeout: float, settle: float, lock: float) -> list[Step]:
    def perform(step: Step) -> None:
        if step.kind == "enable":
            _enable(ctx, step, timeout, lock)
        else:
            _PERFORMERS[step.kind](ctx, step, timeout)

    failed = None
    try:
        done = execute(steps, perform)
    except ApplyError as exc:
        failed, done = exc, exc.done
    enabled = [step for step in done if step.kind in ("enable", "bind_vf")]
    taken = _watch(ctx, enabled, settle) if settle else {}
    if taken or failed:
        undone = [step for step in enabled if step.lane in taken]
        for step in undone:
            taken[str(step.lane)].position = step.position
        errors, not_done = (failed.errors, failed.not_done) if failed else ([], [])
        raise ApplyError(errors + list(taken.values()), [step for step in done if step not in undone], undone + not_done)
    return done


def _watch(ctx: Context, steps: Sequence[Step], settle: float) -> dict[str, Refusal]:
    """Returns errors, keyed by GPU, for VFs that do not stay bound to nvidia because another program rebinds the VFs."""
    watched: dict[str, set[str]] = {}  # VFs keyed by GPU; an empty set means all VFs
    for step in steps:
        watched.setdefault(str(step.lane), set()).update([] if step.kind == "enable" else [str(step.device)])

    def check() -> dict[str, Refusal]:
        found = {}
        for pf, addresses in watched.items():
            gpu = reader.read_one(ctx, pf, with_vgpus=False)
            gone = [vf for vf in gpu.vfs if not vf.usable and (not addresses or vf.address in addresses)]
            if gone:
                found[pf] = _taken(gpu, gone, len(addresses) or gpu.num_vfs)
        return found

    return until(ctx.clock, check, settle, 0.25) if watched else {}


def _taken(gpu: Gpu, vfs: Sequence[Vf], number: int, printed: str = "") -> Refusal:
    some = ", ".join("%s is bound to %s" % (vf.address, vf.driver or "no driver") for vf in vfs[:3])
    found = "%d of the GPU's VFs are not bound to nvidia: %s%s" % (len(vfs), some, printed)
    remedy = (
        "Find the cause in dmesg. 'Aborting probe for VF' means that the IOMMU is disabled. "
        "If the VFs are bound to vfio-pci, remove the cause, such as a cloud agent, a driverctl override, or an ID in the vfio-pci options."
    )
    return Refusal(found, gpu.address, "%d VFs bound to nvidia" % number, remedy, "vfs_unbound")


def after(ctx: Context, gpus: Sequence[Gpu], patience: float = 5) -> list[Gpu]:
    """Returns the current state of the GPUs. Waits some seconds for new VFs to offer types, which are registered after the VFs appear."""
    last: list[Gpu] = []

    def offered() -> bool:
        addresses = [gpu.address for gpu in gpus]
        last[:] = [one for one in reader.read(ctx).gpus if one.address in addresses]
        return not without_types(last)

    until(ctx.clock, offered, patience)
    return last


def without_types(gpus: Sequence[Gpu]) -> list[str]:
    """Returns the addresses of GPUs that have enabled VFs and offer no types."""
    return [gpu.address for gpu in gpus if gpu.num_vfs and not gpu.types_ready]


def _repair(ctx: Context, step: Step, timeout: float) -> None:
    """Rebinds the step's PF to nvidia if the PF has no driver or is bound to pci-pf-stub."""
    pf = str(step.device)
    directory = "%s/%s" % (PCI, pf)
    driver = ctx.sysfs.link(directory + "/driver")
    binding_apply.clear_override(ctx, pf)
    # An ID that remains in the stub's list causes each later sriov-manage call to fail with "File exists".
    binding_apply.forget_id(ctx, "pci-pf-stub", ctx.sysfs.read(directory + "/device").replace("0x", ""))
    if driver == "pci-pf-stub":
        binding_apply.unbind(ctx, pf, driver, timeout)
    if driver in STRANDED:
        if not ctx.sysfs.exists("/sys/module/nvidia"):
            binding_apply.modprobe(ctx, timeout)
        binding_apply.bind(ctx, pf, timeout)


def repair(ctx: Context, gpu: Gpu, timeout: float) -> list[Step]:
    """Binds a stranded PF to nvidia, and returns the step."""
    return execute([repair_step(gpu)], lambda step: _repair(ctx, step, timeout))


def _converged(ctx: Context, pf: str, number: int, timeout: float) -> Gpu:
    """Waits until all VFs exist and are usable, and returns the GPU. A stranded PF ends the wait, because the PF does not recover automatically.

    VFs on another driver or with a failed probe never become usable, so the wait also ends if no VF is bound for STALLED seconds.
    """
    last: list[Gpu] = []
    bound: set[str] | None = None
    since = ctx.clock.now()

    def decided() -> bool:
        nonlocal bound, since
        last[:] = [reader.read_one(ctx, pf, with_vgpus=False)]
        now = {vf.address for vf in last[0].vfs if vf.driver or vf.usable}
        if now != bound:
            bound, since = now, ctx.clock.now()
        stalled = bool(bound or len(last[0].vfs) == number) and ctx.clock.now() - since >= STALLED
        return complete(last[0], number) or last[0].driver in STRANDED or stalled

    until(ctx.clock, decided, timeout)
    return last[0]


def _holders(ctx: Context, gpu: Gpu) -> str:
    """Returns the processes that use the GPU or one of the GPU's vGPUs, as text."""
    found = list(OpenFiles(ctx.sysfs).of_gpu(gpu.minor))
    return ", ".join(map(str, found + [holder for vgpu in gpu.vgpus for holder in vgpu.holders]))


def _request(ctx: Context, step: Step, number: int, timeout: float) -> Result:
    """Requests the number of VFs with the step's method. Returns the sriov-manage output, or an empty result for sysfs."""
    pf = str(step.device)
    if step.args["how"] != "sysfs":
        return sriov_manage.call(ctx, pf, number > 0, timeout, step.args.get("reset", False))
    path = "%s/%s/sriov_numvfs" % (PCI, pf)
    try:
        ctx.sysfs.write(path, str(number))
    except SysfsError as exc:
        remedy = _NUMVFS_REMEDY.get(exc.number or 0, "Find the cause in dmesg. The firmware might assign too little PCI memory to this GPU.")
        raise error("%s: %s" % (path, exc.errors[0].found), pf, "%d VFs" % number, remedy, "numvfs_failed") from exc
    return Result(0, "")


def _enable(ctx: Context, step: Step, timeout: float, lock: float) -> None:
    pf, number = str(step.device), int(step.args["number"])
    begun = ctx.clock.now()
    deadline = begun + timeout
    repairs, words, busy = 0, "", False
    while True:
        answer = _request(ctx, step, number, max(1, deadline - ctx.clock.now()))
        # Keep the previous output, because sriov-manage prints nothing if stopped at the deadline.
        words, busy = answer.tail() or words, sriov_manage.busy(answer) or (busy and answer.timed_out)
        # The driver binds VFs after sriov-manage exits. Only wait briefly while a retry is still possible.
        gpu = _converged(ctx, pf, number, 0.2 if busy else min(max(1, deadline - ctx.clock.now()), LATE))
        if complete(gpu, number):
            return
        out_of_time = ctx.clock.now() >= deadline
        stranded = gpu.driver in STRANDED
        if stranded and repairs < 2 and not out_of_time:
            repairs += 1
            _repair(ctx, step, timeout)
            if not complete(_converged(ctx, pf, number, 5), number):
                continue
            return
        if busy and not out_of_time and ctx.clock.now() < begun + lock:
            ctx.clock.pause(0.5)
            continue
        if stranded:
            _repair(ctx, step, timeout)
        raise lock_refused(ctx, gpu, ctx.clock.now() - begun) if busy else _enable_failed(gpu, number, words)


def lock_refused(ctx: Context, gpu: Gpu, seconds: float) -> EngineError:
    """Returns the error for a GPU that a program is using. ``seconds`` is the total duration of all attempts."""
    holders = _holders(ctx, gpu) or "a process that has exited"
    found = "the GPU's unbindLock was not granted for %d s, because the GPU was in use by %s" % (seconds, holders)
    remedy = "Stop all users of the GPU on the host (DCGM, nvidia-persistenced, exporters, and programs that poll nvidia-smi). Then rerun."
    return error(found, gpu.address, "a GPU that no process uses while the run enables the VFs", remedy, "unbind_lock")


def _enable_failed(gpu: Gpu, number: int, words: str) -> EngineError:
    said = " (sriov-manage printed: %s)" % words if words else ""
    if gpu.num_vfs != number or len(gpu.vfs) != number:
        fewer = "only %d of %d VFs exist, and sriov_numvfs is %d%s" % (len(gpu.vfs), number, gpu.num_vfs, said)
        remedy = (
            "Find the cause in dmesg. Enable SR-IOV, ARI, and above-4G decoding in the firmware. "
            "Install lspci and the pci-pf-stub module (on Ubuntu, from linux-modules-extra), because sriov-manage requires both."
        )
        return error(fewer, gpu.address, "%d VFs bound to nvidia" % number, remedy, "vfs_fewer")
    bad = [vf for vf in gpu.vfs if not vf.usable]
    if bad:
        return EngineError(_taken(gpu, bad, number, said))
    found = "the VFs exist, but the GPU is bound to %s%s" % (gpu.driver or "no driver", said)
    return error(found, gpu.address, "nvidia", "Find the cause in dmesg, then rerun.", "gpu_unbound")


def disable(ctx: Context, step: Step, timeout: float) -> None:
    """Disables the VFs. Raises EngineError if a vGPU was created after planning or between two attempts."""
    pf = str(step.device)
    deadline = ctx.clock.now() + timeout
    while True:
        raise_if_any(vgpu_guard(reader.read_one(ctx, pf), "disabling the VFs"))
        answer = _request(ctx, step, 0, max(1, deadline - ctx.clock.now()))
        gpu = reader.read_one(ctx, pf)
        if gpu.num_vfs == 0 and gpu.driver not in STRANDED:
            return
        if gpu.driver in STRANDED:
            _repair(ctx, step, timeout)
            if reader.read_one(ctx, pf).num_vfs == 0:
                return
        if not sriov_manage.busy(answer) or ctx.clock.now() >= deadline:
            break
        ctx.clock.pause(0.5)
    holders, said = _holders(ctx, gpu), " (sriov-manage printed: %s)" % answer.tail() if answer.tail() else ""
    found = "the VFs are still enabled%s%s" % (said, ", and the GPU is in use by %s" % holders if holders else "")
    raise error(found, pf, "no VFs", "Stop all users of the GPU on the host. Then rerun.", "vfs_still_on")


def _bind_vf(ctx: Context, step: Step, timeout: float) -> None:
    """Binds a free VF to nvidia if the VF has another driver or no driver."""
    address = str(step.device)
    binding_apply.refuse_holders(ctx, address, "binding the VF to nvidia")
    binding_apply.clear_override(ctx, address)
    if step.args["driver"]:
        binding_apply.unbind(ctx, address, step.args["driver"], timeout)
    binding_apply.bind(ctx, address, timeout)


_PERFORMERS = {"repair": _repair, "disable": disable, "bind_vf": _bind_vf}
