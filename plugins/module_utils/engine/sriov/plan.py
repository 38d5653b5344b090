# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VFs on and off: what it takes. Pure.

NVIDIA's driver takes no write to sriov_numvfs while it is bound (ENOENT), so VFs come through
sriov-manage; ``sysfs`` writes sriov_numvfs itself, for drivers that allow it. Both are verified
by looking at sriov_numvfs, each virtfn link and each VF's driver.
"""

from __future__ import annotations

from ..base import refusals
from ..base.errors import Trouble, raise_if_any, shown
from ..base.steps import Step, passed_over, refusal

PCI = "/sys/bus/pci/devices"
STRANDED = (None, "pci-pf-stub")


class SriovPlan:
    """Steps, GPUs that are left out with the reason, and the GPUs meant."""

    def __init__(self):
        self.steps = []
        self.warnings = []
        self.lost = []
        self.skipped = []
        self.gpus = []


def plan(inventory, state, selectors, enabled, num_vfs=None, reset=False, method="auto", has_tool=True, assume=(), lost_gpus="fail"):
    """What it takes for the selected GPUs to have their VFs on (all, or num_vfs) or off. lost_gpus: see steps.LOST_WORDS."""
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
        if passed_over(result, gpu, "enable its VFs" if enabled else "disable its VFs", lost_gpus):
            continue
        result.gpus.append(gpu)
        if not enabled:
            troubles += _plan_off(result, gpu, state, method, has_tool, assume)
        elif not gpu.total_vfs:
            troubles.append(refusals.sriov_off(gpu))
        else:
            troubles += _plan_on(
                result, gpu, state, num_vfs or gpu.total_vfs, reset, method, has_tool, assume
            )
    raise_if_any(refusal(troubles, result.steps))
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
        return [refusals.in_use(vf.address, vf.holders, "binding the VF to nvidia")]
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
        for one in refusals.no_vfs_yet(gpu, state)
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
    troubles = [refusals.in_use(vf.address, vf.holders, doing) for vf in gpu.vfs if vf.holders and vf.address not in parents]
    for vgpu in gpu.vgpus:
        if vgpu.holders:
            troubles.append(refusals.in_use(vgpu.key, vgpu.holders, doing))
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
    troubles = vgpu_guard(gpu, "disabling its VFs", assume) + ([refusals.passed_through(gpu)] if gpu.holders else [])
    result.steps.append(_off_step(gpu, _method(gpu, 0, method, has_tool)))
    return troubles
