# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps that bind a PF to a kernel driver or release the PF. The planner neither reads nor changes the host.

The kernel's PCI core requires a specific order to release a PF: remove the device ID from vfio-pci's list, clear driver_override, unbind, then bind.
If the ID remained in the list, vfio-pci would bind to the PF and its VFs again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from ..base import refusals
from ..base.errors import Refusal
from ..base.plan import Plan
from ..base.steps import Step
from ..hardware.gpu import Gpu
from ..read.host import HostState
from ..read.inventory import Inventory
from ..state.paths import GRUB
from . import boot_files
from .boot_files import BootFiles, Cause, FileEdit
from .rebuilds import BOOTLOADER, INITRAMFS

FOREIGN = ("vfio-pci", "pci-pf-stub")


@dataclass(eq=False, repr=False)
class Options:
    """The options for binding or releasing the selected GPUs.

    The *driver* attribute is "nvidia", or "none" to release the GPUs. *edit_boot* allows boot file edits. 'assume' is the value of the
    check_mode_assume module option. *unresponsive* is one of plan.UNRESPONSIVE_POLICIES.
    """

    driver: str = "nvidia"
    edit_boot: bool = True
    assume: Sequence[str] = ()
    unresponsive: str = "fail"


@dataclass(eq=False, repr=False)
class Target:
    """The planned boot file edits with their causes, the required rebuilds, and the reasons for a reboot."""

    edits: list[FileEdit] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    rebuilds: set[str] = field(default_factory=set)
    reboot: list[str] = field(default_factory=list)


BindingPlan = Plan[Target]


def plan(inventory: Inventory, state: HostState, boot: BootFiles, selectors: Sequence[str], options: Options) -> BindingPlan:
    """Returns the plan for binding or releasing the selected GPUs. Raises EngineError with all problems."""
    result = Plan(Target())
    gpus, errors = inventory.select(selectors)
    result.errors += errors
    result.warnings += refusals.unlisted_warnings(gpus)
    binds = options.driver == "nvidia"
    assumed = binds and "driver" in options.assume  # the reboot after the driver installation binds the GPUs
    wrong = refusals.driver_error(state.driver) if binds and not assumed else None
    if wrong and wrong.code != "driver_not_loaded":
        result.errors.append(wrong)
    if options.edit_boot:
        _plan_boot(result, inventory, boot, gpus)
    loaded = state.driver.loaded is not None
    forgotten: set[tuple[str, str]] = set()  # pairs of driver and device ID
    for gpu in gpus:
        stays = gpu.driver == "nvidia" if binds else gpu.driver not in (*FOREIGN, "nouveau")
        if stays or assumed:
            continue
        if gpu.driver == "nouveau":
            if binds:
                remedy = "Run the gpu_release role to block nouveau, then reboot the host."
                result.errors.append(Refusal("the GPU is bound to nouveau", gpu.address, "nvidia", remedy, "gpu_on_nouveau"))
            else:
                result.target.reboot.append("%s is bound to nouveau, which releases a GPU only at a reboot" % gpu.address)
            continue
        if result.skips(gpu, "bind the GPU to nvidia" if binds else "release the GPU from %s" % gpu.driver, options.unresponsive):
            continue
        result.errors += _guard(gpu)
        result.steps += _release(gpu, forgotten)
        if binds:
            if not loaded:
                loaded = True
                result.steps.append(Step("modprobe", None, None, "load the nvidia module"))
            result.steps.append(Step("bind", gpu.address, gpu.address, "bind the GPU to nvidia"))
    result.refuse()
    return result


def _release(gpu: Gpu, forgotten: set[tuple[str, str]]) -> list[Step]:
    """Returns the steps that unbind a GPU from its driver. *forgotten* contains the IDs that earlier steps remove from a driver's ID list."""
    steps, pf, driver = [], gpu.address, gpu.driver
    if driver in FOREIGN and (driver, gpu.device_id) not in forgotten:
        forgotten.add((driver, gpu.device_id))
        number = gpu.device_id.replace("0x", "")
        steps.append(Step("forget_id", pf, None, "remove the ID 10de:%s from %s" % (number, driver), driver=driver, number=number))
    if gpu.driver_override:
        steps.append(Step("clear_override", pf, pf, "clear driver_override (%s)" % gpu.driver_override))
    if driver:
        steps.append(Step("unbind", pf, pf, "unbind the GPU from %s" % driver, driver=driver))
    return steps


def plan_back(boot: BootFiles, edits: Sequence[FileEdit], warnings: Sequence[str]) -> BindingPlan:
    """Returns the plan that restores the original boot files. *edits* and *warnings* come from backups.back()."""
    result = Plan(Target(list(edits)), warnings=list(warnings))
    _plan_edits(result, boot, back=True)
    return result


def _plan_boot(result: BindingPlan, inventory: Inventory, boot: BootFiles, gpus: Sequence[Gpu]) -> None:
    others = [gpu for gpu in inventory.gpus if gpu not in gpus and gpu.driver == "vfio-pci"]
    target = result.target
    target.causes, target.edits, touched = boot_files.causes_and_edits(boot, gpus, others)
    if touched:
        found = "vfio-pci binds to the selected GPUs by an ID that also applies to GPUs that are not selected: %s" % ", ".join(touched)
        remedy = "Select these GPUs as well, or bind these GPUs to vfio-pci individually with driverctl instead of by an ID."
        result.errors.append(Refusal(found, expected="a selection that includes all GPUs with the same ID", remedy=remedy, code="shared_id"))
    nouveau = boot_files.nouveau_edit(boot) if gpus else None
    if nouveau:
        target.edits.append(nouveau)
    for cause in target.causes:
        if not cause.editable:
            result.warnings.append("%s: '%s' belongs to a package and stays unchanged, so %s again at the next boot" % (cause.path, cause.line, cause.what))
    _plan_edits(result, boot)


def _plan_edits(result: BindingPlan, boot: BootFiles, back: bool = False) -> None:
    """Adds steps for boot file edits, and for rebuilds that new or earlier edits require.

    The *back* argument is true if the edits restore the original files.
    """
    target = result.target
    for kind, what in ((INITRAMFS, "initramfs"), (BOOTLOADER, "boot loader configuration")):
        if kind in boot.waiting:
            result.steps.append(Step("rebuild", None, None, "rebuild the %s, because an earlier run did not complete the rebuild" % what))
    kinds = [rebuild_of(edit.path) for edit in target.edits]
    target.rebuilds = {*boot.waiting, *[kind for kind in kinds if kind]}
    for edit in target.edits:
        doing, why = "remove the file" if edit.after is None else "edit the file", "; ".join(edit.why)
        result.steps.append(Step("edit", None, edit.path, why if back else "%s: %s" % (doing, why), edit=edit, back=back))


def add_rebuild(result: BindingPlan, command: Sequence[str], stale: bool) -> None:
    """Adds a final step that rebuilds the initramfs, if a rebuild is required and the host has a rebuild tool.

    The *stale* argument is true if another program changed a file that the initramfs contains.
    """
    result.target.rebuilds |= {INITRAMFS} if stale else set()
    if INITRAMFS in result.target.rebuilds and command:
        result.steps.append(Step("initramfs", None, None, "run %s" % " ".join(command), command=command))


def rebuild_of(path: str) -> str | None:
    """Returns which kind of rebuild an edit of the boot file requires, or None."""
    if path.startswith(GRUB):
        return BOOTLOADER
    return INITRAMFS if "modprobe.d" in path else None


def _guard(gpu: Gpu) -> list[Refusal]:
    if gpu.holders:
        return [refusals.passed_through(gpu)]
    # VFs survive a change of the PF's driver, but the new driver resets the GPU.
    doing = "unbinding the GPU from %s" % (gpu.driver or "no driver")
    errors = [refusals.in_use(vf.address, vf.holders, doing) for vf in gpu.vfs if vf.holders]
    return errors + [refusals.in_use(one.key, one.holders, doing) for one in gpu.vgpus if one.holders and one.uuid]
