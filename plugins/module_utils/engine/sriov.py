# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VFs on and off: planning and doing.

NVIDIA's driver takes no write to sriov_numvfs while it is bound (ENOENT), so VFs come through
sriov-manage; ``sysfs`` writes sriov_numvfs itself, for drivers that allow it. Both are verified
by looking at sriov_numvfs, each virtfn link and each VF's driver.
"""

from __future__ import annotations

import errno

from . import diagnosis, inventory as reader, lost, pci_driver
from .errors import EngineError, Trouble, raise_if_any, shown, trouble
from .steps import ApplyError, Step, execute
from .sysfs import SysfsError
from .tools import sriov_manage
from .waiting import holds, until

PCI = "/sys/bus/pci/devices"
STRANDED = (None, "pci-pf-stub")

# Seconds that VFs may come after the request for them has ended, and that they are watched once they are there, together.
LATE = 60
SETTLE = 1.5


class SriovPlan:
    """Steps, GPUs that are left out with the reason, and the GPUs meant."""

    def __init__(self):
        self.steps = []
        self.warnings = []
        self.lost = []
        self.skipped = []
        self.gpus = []


def plan(inventory, state, selectors, enabled, num_vfs=None, reset=False, method="auto", has_tool=True, assume=(), lost_gpus="fail"):
    """What it takes for the selected GPUs to have their VFs on (all, or num_vfs) or off. lost_gpus: see lost.WORDS."""
    result = SriovPlan()
    gpus, troubles = inventory.select(selectors)
    if num_vfs is not None and num_vfs < 1:
        remedy = "Set state: disabled to turn VFs off; leave num_vfs out for all VFs."
        troubles.append(Trouble("num_vfs is %s" % shown(num_vfs), device="num_vfs", wanted="a number from 1", remedy=remedy, code="bad_num_vfs"))
        gpus = []
    for gpu in gpus:
        reason = _not_for(gpu)
        if reason:
            result.skipped.append({"gpu": gpu.address, "reason": reason})
            continue
        if lost.passed_over(result, gpu, "enable its VFs" if enabled else "disable its VFs", lost_gpus):
            continue
        result.gpus.append(gpu)
        if not enabled:
            troubles += _plan_off(result, gpu, state, method, has_tool, assume)
        elif not gpu.total_vfs:
            troubles.append(diagnosis.sriov_off(gpu))
        else:
            troubles += _plan_on(
                result, gpu, state, num_vfs or gpu.total_vfs, reset, method, has_tool, assume
            )
    raise_if_any(lost.refusal(troubles, result.steps))
    return result


def _not_for(gpu):
    """Why a GPU has no VFs to turn on, or None."""
    if gpu.model and not gpu.model.sriov:
        return "%s has no SR-IOV vGPU: its vGPUs are made on the PF" % gpu.name
    if gpu.total_vfs and not gpu.vf_device:
        return "its SR-IOV capability is empty (VF device id 0)"
    return None


def complete(gpu, wanted):
    """Whether all wanted VFs are there and usable."""
    return (
        gpu.num_vfs == wanted
        and len(gpu.vfs) == wanted
        and gpu.driver == "nvidia"
        and all(vf.usable for vf in gpu.vfs)
    )


def _method(gpu, wanted, method, has_tool):
    """sriov_manage or sysfs. sriov-manage knows only all VFs."""
    if method != "auto":
        return method
    return "sriov_manage" if wanted in (0, gpu.total_vfs) and has_tool else "sysfs"


def _plan_on(result, gpu, state, wanted, reset, method, has_tool, assume):
    if wanted > gpu.total_vfs:
        return [
            Trouble(
                "%d VFs are asked for, but the GPU has %d" % (wanted, gpu.total_vfs),
                device=gpu.address,
                wanted="num_vfs from 1 to %d" % gpu.total_vfs,
                code="too_many_vfs",
            )
        ]
    if complete(gpu, wanted):
        return []
    troubles = _not_ready(gpu, state, assume)
    how = _method(gpu, wanted, method, has_tool)
    if how == "sriov_manage" and wanted != gpu.total_vfs:
        troubles.append(
            Trouble(
                "sriov-manage turns on all %d VFs or none" % gpu.total_vfs,
                device=gpu.address,
                wanted="%d VFs" % wanted,
                remedy="Leave num_vfs out, or set method: sysfs if this driver takes sriov_numvfs.",
                code="all_or_none",
            )
        )
    if gpu.driver in STRANDED and "driver" not in assume:
        result.steps.append(_repair_step(gpu))
    if gpu.num_vfs and gpu.num_vfs != wanted:
        guard = vgpu_guard(gpu, "changing the number of VFs")
        troubles += guard
        result.steps.append(_off_step(gpu, _method(gpu, 0, method, has_tool)))
    if gpu.num_vfs != wanted:
        result.steps.append(
            Step(
                "enable",
                gpu.address,
                gpu.address,
                "enable %d VFs%s" % (wanted, " after a reset" if reset else ""),
                wanted=wanted,
                how=how,
                reset=reset,
            )
        )
        return troubles
    for vf in gpu.vfs:
        if vf.usable:
            continue
        troubles += _vf_in_use(gpu, vf)
        result.steps.append(
            Step("bind_vf", gpu.address, vf.address, "bind the VF to nvidia (found: %s)" % (vf.driver or "no driver"), driver=vf.driver)
        )
    return troubles


def _vf_in_use(gpu, vf):
    mine = [vgpu for vgpu in gpu.vgpus if vgpu.parent == vf.address]
    if vf.holders:
        return [diagnosis.in_use(vf.address, vf.holders, "binding the VF to nvidia")]
    if mine:
        return [
            Trouble(
                "the VF is bound to %s and holds the vGPU %s" % (vf.driver or "no driver", mine[0].key),
                device=vf.address,
                wanted="nvidia",
                remedy="Remove that vGPU first.",
                code="vf_holds_vgpu",
            )
        ]
    return []


def _not_ready(gpu, state, assume):
    codes = {"driver": "driver_", "iommu": "iommu_off"}
    ignored = tuple(codes[word] for word in assume if word in codes)
    if "driver" in assume:
        ignored += ("gpu_on_other_driver",)
    return [
        one
        for one in diagnosis.no_vfs_yet(gpu, state)
        if not (ignored and one.code.startswith(ignored))
    ]


def _repair_step(gpu):
    return Step(
        "repair",
        gpu.address,
        gpu.address,
        "bind the stranded PF to nvidia (found: %s)" % (gpu.driver or "no driver"),
        driver=gpu.driver,
    )


def off_step(gpu, has_tool):
    """The step that turns a GPU's VFs off, for those who must do something without VFs."""
    return _off_step(gpu, _method(gpu, 0, "auto", has_tool))


def _off_step(gpu, how):
    return Step("disable", gpu.address, gpu.address, "disable its %d VFs" % gpu.num_vfs, how=how)


def vgpu_guard(gpu, doing, assume=()):
    """Troubles where a GPU holds vGPUs, or a VM a VF. Turning VFs off destroys their vGPUs: never as a side effect."""
    parents = [vgpu.parent for vgpu in gpu.vgpus]
    troubles = [diagnosis.in_use(vf.address, vf.holders, doing) for vf in gpu.vfs if vf.holders and vf.address not in parents]
    for vgpu in gpu.vgpus:
        if vgpu.holders:
            troubles.append(diagnosis.in_use(vgpu.key, vgpu.holders, doing))
        elif "no_vgpus" not in assume:
            troubles.append(
                Trouble(
                    "the vGPU %s (%s) lives on %s and would be destroyed" % (vgpu.key, vgpu.type, vgpu.parent),
                    device=gpu.address,
                    wanted="no vGPU on the GPU, for %s" % doing,
                    remedy="Remove its vGPUs first (an empty list for this GPU in the layout).",
                    code="has_vgpus",
                )
            )
    return troubles


def _plan_off(result, gpu, state, method, has_tool, assume):
    if not gpu.num_vfs:
        # A run that was killed midway; a GPU that is kept from nvidia on purpose has an override, or the driver is not loaded.
        if gpu.driver == "pci-pf-stub" or (gpu.driver is None and not gpu.driver_override and state.driver.loaded):
            result.steps.append(_repair_step(gpu))
        return []
    troubles = vgpu_guard(gpu, "disabling its VFs", assume) + ([diagnosis.passed_through(gpu)] if gpu.holders else [])
    result.steps.append(_off_step(gpu, _method(gpu, 0, method, has_tool)))
    return troubles


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
        for step in undone:
            taken[step.gpu].position = step.position
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
    pci_driver.forget_id(ctx.sysfs, "pci-pf-stub", ctx.sysfs.read(folder + "/device").replace("0x", ""))
    if driver == "pci-pf-stub":
        pci_driver.unbind(ctx, pf, driver, timeout)
        driver = None
    if driver is None:
        if not ctx.sysfs.exists("/sys/module/nvidia"):
            pci_driver.modprobe(ctx, timeout)
        pci_driver.bind(ctx, pf, timeout)


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
    words, busy = "", False
    while True:
        left = max(1, deadline - ctx.clock.now())
        if step.args["how"] == "sysfs":
            _write_numvfs(ctx, pf, wanted)
            busy = False
        else:
            answer = sriov_manage.call(ctx, pf, True, left, step.args["reset"])
            # A call that the deadline stopped reports nothing; the answer before it still stands.
            words, busy = answer.words or words, answer.busy or (busy and answer.timed_out)
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
        raise_if_any([diagnosis.in_use(step.device, holders, "binding the VF to nvidia")])
    if ctx.sysfs.read_or(folder + "/driver_override", "(null)") not in ("", "(null)"):
        ctx.sysfs.write(folder + "/driver_override", "\n")
    if step.args["driver"]:
        pci_driver.unbind(ctx, step.device, step.args["driver"], timeout)
    pci_driver.bind(ctx, step.device, timeout)
