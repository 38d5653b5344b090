# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enables and disables VFs, and watches that they stay."""

from __future__ import annotations

import errno

from ..base import refusals
from ..base.clock import holds, until
from ..base.errors import EngineError, Trouble, raise_if_any, trouble
from ..base.steps import ApplyError, execute
from ..binding import apply as binding_apply
from ..read import inventory as reader
from ..system import sriov_manage
from ..system.sysfs import SysfsError
from .plan import PCI, STRANDED, complete, vgpu_guard

# Seconds that VFs may come after the request for them has ended, and that they are watched once they are there, together.
LATE = 60
SETTLE = 1.5


def apply(ctx, result, timeout, settle=SETTLE):
    """Does the steps, retries where only that helps, verifies, and watches for settle seconds that nobody takes the VFs."""

    def perform(step):
        if step.kind == "repair":
            repair(ctx, step.device, timeout)
        elif step.kind == "enable":
            _enable(ctx, step, timeout)
        elif step.kind == "disable":
            disable(ctx, step, timeout)
        elif step.kind == "bind_vf":
            _bind_vf(ctx, step, timeout)

    failed = None
    try:
        done = execute(result.steps, perform)
    except ApplyError as exc:
        failed, done = exc, exc.done
    taken = _watch(ctx, [step for step in done if step.kind in ("enable", "bind_vf")], settle)
    if taken or failed:
        undone = [step for step in done if step.gpu in taken and step.kind in ("enable", "bind_vf")]
        raise ApplyError(
            (failed.troubles if failed else []) + list(taken.values()),
            [step for step in done if step not in undone],
            undone + (failed.not_done if failed else []),
        )
    return done


def _watch(ctx, steps, settle):
    """Troubles, by GPU, where VFs that were brought to nvidia do not stay there: an agent takes them."""
    wanted = {}
    for step in steps:
        wanted.setdefault(step.gpu, set()).update([] if step.kind == "enable" else [step.device])

    def look():
        found = {}
        for pf in wanted:
            gpu = reader.read_one(ctx, pf, with_vgpus=False)
            gone = [vf for vf in gpu.vfs if not vf.usable and (not wanted[pf] or vf.address in wanted[pf])]
            if gone:
                found[pf] = _taken(gpu, gone, len(wanted[pf]) or gpu.num_vfs)
        return found

    return holds(ctx.clock, look, settle) if wanted else {}


def _taken(gpu, vfs, number, said=""):
    return Trouble(
        "%d of its VFs are not bound to nvidia: %s%s"
        % (len(vfs), ", ".join("%s on %s" % (vf.address, vf.driver or "no driver") for vf in vfs[:3]), said),
        device=gpu.address,
        wanted="%d VFs on nvidia" % number,
        remedy="Look into dmesg. 'Aborting probe for VF' means that the IOMMU is off; "
        "vfio-pci means that a cloud agent, driverctl or an id of vfio-pci took them.",
        code="vfs_unbound",
    )


def after(ctx, gpus, patience=5):
    """The GPUs as they are now; new VFs are given a moment (seconds) to offer their types, which come after the VFs."""
    last = []

    def look():
        found = reader.read(ctx)
        last[:] = [found.gpu(gpu.address) for gpu in gpus]
        return not without_types(last)

    until(ctx.clock, look, patience)
    return last


def without_types(gpus):
    """Addresses of the GPUs whose VFs are on and offer no types."""
    return [gpu.address for gpu in gpus if gpu.num_vfs and not gpu.types_ready]


def repair(ctx, pf, timeout):
    """Brings a PF that was left without a driver or on pci-pf-stub back to nvidia."""
    folder = "%s/%s" % (PCI, pf)
    driver = ctx.sysfs.link(folder + "/driver")
    if ctx.sysfs.read_or(folder + "/driver_override", "(null)") not in ("", "(null)"):
        ctx.sysfs.write(folder + "/driver_override", "\n")
    # An id left in the stub's list makes each later call of the script fail with "File exists".
    binding_apply.forget_id(ctx.sysfs, "pci-pf-stub", ctx.sysfs.read(folder + "/device").replace("0x", ""))
    if driver == "pci-pf-stub":
        binding_apply.unbind(ctx, pf, driver, timeout)
        driver = None
    if driver is None:
        if not ctx.sysfs.exists("/sys/module/nvidia"):
            binding_apply.modprobe(ctx, timeout)
        binding_apply.bind(ctx, pf, timeout)


def _settled(ctx, pf, wanted, timeout):
    """Waits until all VFs are there and usable; returns the last look. A stranded PF won't come back by itself."""
    last = []

    def look():
        last[:] = [reader.read_one(ctx, pf, with_vgpus=False)]
        return complete(last[0], wanted) or last[0].driver in STRANDED

    until(ctx.clock, look, timeout)
    return last[0]


def _holders_of_gpu(ctx, gpu):
    holders = reader.OpenFiles(ctx.sysfs)
    found = holders.of_gpu(gpu.minor)
    for vgpu in gpu.vgpus:
        found += vgpu.holders
    return found


def _enable(ctx, step, timeout):
    pf, wanted = step.device, step.args["wanted"]
    deadline = ctx.clock.now() + timeout
    repairs = 0
    words = ""
    while True:
        left = max(1, deadline - ctx.clock.now())
        if step.args["how"] == "sysfs":
            _write_numvfs(ctx, pf, wanted)
            busy = False
        else:
            answer = sriov_manage.call(ctx, pf, True, left, step.args["reset"])
            words, busy = answer.words, answer.busy
        # VFs bind after the script has ended: a short look while a retry is still possible.
        gpu = _settled(ctx, pf, wanted, 0.2 if busy else min(max(1, deadline - ctx.clock.now()), LATE))
        if complete(gpu, wanted):
            return
        out_of_time = ctx.clock.now() >= deadline
        stranded = gpu.driver in STRANDED
        if stranded and repairs < 2 and not out_of_time:
            repairs += 1
            repair(ctx, pf, timeout)
            if not complete(_settled(ctx, pf, wanted, 5), wanted):
                continue
            return
        if busy and not out_of_time:
            ctx.clock.pause(0.5)
            continue
        if stranded:
            repair(ctx, pf, timeout)
        raise _enable_failed(ctx, gpu, wanted, words, busy, timeout)


def _write_numvfs(ctx, pf, number):
    path = "%s/%s/sriov_numvfs" % (PCI, pf)
    try:
        ctx.sysfs.write(path, str(number))
    except SysfsError as exc:
        raise trouble(
            "%s: %s" % (path, exc.troubles[0].found),
            device=pf,
            wanted="%d VFs" % number,
            remedy=_NUMVFS_REMEDY.get(exc.number, "Look into dmesg, and what the firmware gives this GPU."),
            code="numvfs_failed",
        ) from exc


_NUMVFS_REMEDY = {
    errno.ENOENT: "This driver takes no sriov_numvfs while it is bound: set method: sriov_manage (or auto, without num_vfs).",
    errno.ENOMEM: "Turn on SR-IOV, ARI and above-4G decoding in the firmware, and give PCI more memory there (MMIO above 4G).",
    errno.EBUSY: "Turn its VFs off first (state: disabled).",
}


def _enable_failed(ctx, gpu, wanted, words, busy, timeout):
    said = " (sriov-manage said: %s)" % words if words else ""
    if busy:
        holders = ", ".join(map(str, _holders_of_gpu(ctx, gpu)))
        return trouble(
            "the GPU's unbindLock was not granted for %d s; it is open in %s" % (timeout, holders or "a process that has ended since"),
            device=gpu.address,
            wanted="nobody having the GPU open while its VFs are turned on",
            remedy="Stop what uses the GPU on the host (DCGM, nvidia-persistenced, exporters, pollers of nvidia-smi), then run again.",
            code="unbind_lock",
        )
    if gpu.num_vfs != wanted or len(gpu.vfs) != wanted:
        return trouble(
            "%d of %d VFs are there, sriov_numvfs is %d%s" % (len(gpu.vfs), wanted, gpu.num_vfs, said),
            device=gpu.address,
            wanted="%d VFs on nvidia" % wanted,
            remedy="Look into dmesg. The firmware needs SR-IOV, ARI and above-4G decoding; "
            "sriov-manage needs lspci and the module pci-pf-stub (Ubuntu: linux-modules-extra).",
            code="vfs_fewer",
        )
    bad = [vf for vf in gpu.vfs if not vf.usable]
    if bad:
        return EngineError(_taken(gpu, bad, wanted, said))
    return trouble(
        "the VFs are there, but the GPU is bound to %s%s" % (gpu.driver or "no driver", said),
        device=gpu.address,
        wanted="nvidia",
        remedy="Look into dmesg.",
        code="gpu_unbound",
    )


def disable(ctx, step, timeout):
    """Turns the VFs off, unless a vGPU came since the plan was made."""
    pf = step.device
    gpu = reader.read_one(ctx, pf)
    raise_if_any(vgpu_guard(gpu, "disabling its VFs"))
    deadline = ctx.clock.now() + timeout
    words = ""
    while True:
        left = max(1, deadline - ctx.clock.now())
        if step.args["how"] == "sysfs":
            _write_numvfs(ctx, pf, 0)
            busy = False
        else:
            answer = sriov_manage.call(ctx, pf, False, left)
            words, busy = answer.words, answer.busy
        gpu = reader.read_one(ctx, pf)
        if gpu.num_vfs == 0 and gpu.driver not in STRANDED:
            return
        if gpu.driver in STRANDED:
            repair(ctx, pf, timeout)
            if reader.read_one(ctx, pf).num_vfs == 0:
                return
        if not busy or ctx.clock.now() >= deadline:
            break
        ctx.clock.pause(0.5)
    holders = ", ".join(map(str, _holders_of_gpu(ctx, gpu)))
    raise trouble(
        "its VFs are still on%s%s"
        % (" (sriov-manage said: %s)" % words if words else "", "; the GPU is open in %s" % holders if holders else ""),
        device=pf,
        wanted="no VFs",
        remedy="Stop what uses the GPU on the host, then run again.",
        code="vfs_still_on",
    )


def _bind_vf(ctx, step, timeout):
    """A free VF that another driver took, or none: back to nvidia."""
    folder = "%s/%s" % (PCI, step.device)
    holders = reader.OpenFiles(ctx.sysfs).of_device(folder)
    if holders:
        raise_if_any([refusals.in_use(step.device, holders, "binding the VF to nvidia")])
    if ctx.sysfs.read_or(folder + "/driver_override", "(null)") not in ("", "(null)"):
        ctx.sysfs.write(folder + "/driver_override", "\n")
    if step.args["driver"]:
        binding_apply.unbind(ctx, step.device, step.args["driver"], timeout)
    binding_apply.bind(ctx, step.device, timeout)
