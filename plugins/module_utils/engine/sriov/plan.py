# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps that enable and disable VFs. This module does not access the host.

NVIDIA's driver rejects writes to sriov_numvfs with ENOENT while the driver is bound, so sriov-manage enables VFs. The ``sysfs`` method writes
sriov_numvfs directly, for drivers that allow this write. The engine verifies both methods by reading sriov_numvfs, each virtfn link, and each VF's
driver.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from ..base import refusals
from ..base.errors import Refusal, shown
from ..base.plan import Plan, Skipped
from ..base.steps import Step
from ..hardware.gpu import Gpu
from ..read.host import HostState
from ..read.inventory import Inventory

STRANDED = (None, "pci-pf-stub")
# The error code prefixes that check mode ignores on the assumption that earlier roles have run, keyed by check_mode_assume value.
_ASSUMED = {"driver": ("driver_", "gpu_on_other_driver"), "iommu": ("iommu_off",)}


@dataclass(eq=False, repr=False)
class Options:
    """The VFs requested for the selected GPUs: all VFs, ``num_vfs`` VFs, or no VFs.

    ``method`` is auto, sriov_manage, or sysfs. ``has_tool`` is true if sriov-manage is installed. Check mode uses the check_mode_assume module
    option.
    ``unresponsive`` is one of plan.UNRESPONSIVE_POLICIES. If ``leave_used`` is true, VFs that are in use with another driver cause only a warning.
    """

    enabled: bool = True
    num_vfs: int | None = None
    reset: bool = False
    method: str = "auto"
    has_tool: bool = True
    assume: Sequence[str] = ()
    unresponsive: str = "fail"
    leave_used: bool = False


@dataclass(eq=False, repr=False)
class Target:
    """The selected and the skipped GPUs of an SR-IOV plan."""

    gpus: list[Gpu] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


SriovPlan = Plan[Target]


def plan(inventory: Inventory, state: HostState, selectors: Sequence[str], options: Options) -> SriovPlan:
    """Plans the steps that create the requested VFs. Raises EngineError with all errors."""
    result = Plan(Target())
    gpus, errors = inventory.select(selectors)
    result.errors += errors
    result.warnings += refusals.unlisted_warnings(gpus)
    if options.num_vfs is not None and options.num_vfs < 1:
        remedy = "Set state: disabled to disable VFs, or remove num_vfs to enable all VFs."
        result.errors.append(Refusal("the value is %s" % shown(options.num_vfs), "num_vfs", "a number of 1 or more", remedy, "bad_num_vfs"))
        gpus = []
    for gpu in gpus:
        reason = _not_for(gpu)
        if reason:
            result.target.skipped.append(Skipped(gpu.address, reason))
        elif not result.skips(gpu, "enable the VFs" if options.enabled else "disable the VFs", options.unresponsive):
            result.target.gpus.append(gpu)
            if not options.enabled:
                _plan_off(result, gpu, state, options)
            elif not gpu.total_vfs:
                result.errors.append(refusals.sriov_off(gpu))
            else:
                _plan_on(result, gpu, state, options)
                if options.reset and any(step.kind == "enable" and step.lane == gpu.address for step in result.steps):
                    jobs = inventory.jobs_on(gpu)  # sriov-manage resets the GPU before the driver can reject the reset
                    result.errors += [refusals.in_use(gpu.address, jobs, "resetting the GPU")] if jobs else []
    result.refuse()
    return result


def _not_for(gpu: Gpu) -> str | None:
    """Returns the reason why a GPU has no VFs to enable, or None."""
    if gpu.model and not gpu.model.sriov:
        return "%s does not use SR-IOV for vGPUs, so vGPUs are created on the PF" % gpu.name
    if gpu.total_vfs and not gpu.vf_device:
        return "the GPU's SR-IOV capability is empty (VF device ID 0)"
    if not gpu.model and not gpu.total_vfs:
        return "the GPU has no SR-IOV capability. If the GPU supports vGPU, vGPUs are created on the PF"
    return None


def complete(gpu: Gpu, number: int) -> bool:
    """Returns whether the GPU is bound to nvidia and has the given number of VFs, all of which are usable."""
    return gpu.num_vfs == number == len(gpu.vfs) and gpu.driver == "nvidia" and all(vf.usable for vf in gpu.vfs)


def _method(gpu: Gpu, number: int, options: Options) -> str:
    """Returns the method for a GPU, sriov_manage or sysfs. sriov-manage always enables all VFs or none."""
    if options.method != "auto":
        return options.method
    return "sriov_manage" if number in (0, gpu.total_vfs) and options.has_tool else "sysfs"


def _plan_on(result: SriovPlan, gpu: Gpu, state: HostState, options: Options) -> None:
    pf, number = gpu.address, options.num_vfs or gpu.total_vfs
    if number > gpu.total_vfs:
        found = "%d VFs are requested, but the GPU supports at most %d" % (number, gpu.total_vfs)
        result.errors.append(Refusal(found, pf, "num_vfs from 1 to %d" % gpu.total_vfs, code="too_many_vfs"))
        return
    if complete(gpu, number):
        return
    ignored = tuple(code for word in options.assume for code in _ASSUMED.get(word, ()))
    result.errors += [one for one in refusals.no_vfs_yet(gpu, state) if not one.code.startswith(ignored)]
    how = _method(gpu, number, options)
    if how == "sriov_manage" and number != gpu.total_vfs:
        all_or_none = "sriov-manage can only enable all %d VFs" % gpu.total_vfs
        remedy = "Remove num_vfs, or set method: sysfs if this driver accepts writes to sriov_numvfs."
        result.errors.append(Refusal(all_or_none, pf, "%d VFs" % number, remedy, "all_or_none"))
    if gpu.driver in STRANDED and "driver" not in options.assume:
        result.steps.append(repair_step(gpu))
    busy = vgpu_guard(gpu, "changing the number of VFs") if gpu.num_vfs else []
    cycled = gpu.num_vfs != number or len(gpu.vfs) < number and not busy
    if gpu.num_vfs and cycled:
        result.errors += busy
        result.steps.append(off_step(gpu, options))
    if cycled:
        text = "enable %d VFs%s" % (number, " after a reset" if options.reset else "")
        result.steps.append(Step("enable", pf, pf, text, number=number, how=how, reset=options.reset))
    else:
        _plan_vfs(result, gpu, options)


def _plan_vfs(result: SriovPlan, gpu: Gpu, options: Options) -> None:
    """Plans the binding of VFs that have another driver or no driver. A removed VF reappears only when all VFs are enabled again."""
    gone = sorted(set(range(gpu.num_vfs)) - {vf.index for vf in gpu.vfs})
    if gone:
        text = "%s: only %d of the GPU's %d VFs exist (removed VFs: %s). To restore the removed VFs, disable and enable all VFs while the GPU is idle"
        result.warnings.append(text % (gpu.address, len(gpu.vfs), gpu.num_vfs, ", ".join(map(str, gone))))
    for vf in [vf for vf in gpu.vfs if not vf.usable]:
        driver = vf.driver or "no driver"
        mine = [vgpu.key for vgpu in gpu.vgpus if vgpu.parent == vf.address]
        used = [refusals.in_use(vf.address, vf.holders, "binding the VF to nvidia")] if vf.holders else []
        if used and options.leave_used:
            result.warnings += map(str, used)
            continue
        if used:
            result.errors += used
        elif mine:
            found = "the VF is bound to %s and has the vGPU %s" % (driver, mine[0])
            result.errors.append(Refusal(found, vf.address, "nvidia", "Remove this vGPU first.", "vf_holds_vgpu"))
        result.steps.append(Step("bind_vf", gpu.address, vf.address, "bind the VF to nvidia (found: %s)" % driver, driver=vf.driver))


def repair_step(gpu: Gpu) -> Step:
    """Returns the step that rebinds a PF to nvidia if the PF has no driver or is bound to pci-pf-stub."""
    return Step("repair", gpu.address, gpu.address, "bind the PF to nvidia again (found: %s)" % (gpu.driver or "no driver"))


def off_step(gpu: Gpu, options: Options) -> Step:
    """Returns the step that disables a GPU's VFs, for this planner and others."""
    return Step("disable", gpu.address, gpu.address, "disable %d VFs" % gpu.num_vfs, how=_method(gpu, 0, options))


def vgpu_guard(gpu: Gpu, doing: str, assume: Sequence[str] = ()) -> list[Refusal]:
    """Returns the errors for a GPU's vGPUs and for VFs that VMs use. Disabling VFs destroys vGPUs, which must never be a side effect."""
    parents = [vgpu.parent for vgpu in gpu.vgpus]
    errors = [refusals.in_use(vf.address, vf.holders, doing) for vf in gpu.vfs if vf.holders and vf.address not in parents]
    for vgpu in gpu.vgpus:
        if vgpu.holders:
            errors.append(refusals.in_use(vgpu.key, vgpu.holders, doing))
        elif "no_vgpus" not in assume:
            found = "the vGPU %s (%s) on %s would be destroyed" % (vgpu.key, vgpu.type, vgpu.parent)
            remedy = "Remove the vGPUs of this GPU first. To do so, set an empty list of vGPUs for this GPU in the layout."
            errors.append(Refusal(found, gpu.address, "no vGPUs on the GPU before %s" % doing, remedy, "has_vgpus"))
    return errors


def _plan_off(result: SriovPlan, gpu: Gpu, state: HostState, options: Options) -> None:
    if gpu.num_vfs:
        result.errors += vgpu_guard(gpu, "disabling the VFs", options.assume) + ([refusals.passed_through(gpu)] if gpu.holders else [])
        result.steps.append(off_step(gpu, options))
    # An interrupted run leaves a PF without a driver or on pci-pf-stub. A GPU is unbound intentionally if an override exists or no driver is loaded.
    elif gpu.driver == "pci-pf-stub" or (gpu.driver is None and not gpu.driver_override and state.driver.loaded):
        result.steps.append(repair_step(gpu))
