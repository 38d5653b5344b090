# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel driver a PF is to be bound to. Pure.

Release, as the kernel's PCI core wants it: take the id from vfio-pci's list (so that neither
the PF nor its VFs are taken again), clear driver_override, unbind, then bind.
"""

from __future__ import annotations

from ..base import refusals
from ..base.errors import Trouble, raise_if_any
from ..base.steps import Step, passed_over, refusal
from . import boot_files
from .rebuilds import BOOTLOADER, INITRAMFS

PCI = "/sys/bus/pci/devices"
FOREIGN = ("vfio-pci", "pci-pf-stub")


class DriverPlan:
    """Steps, and what must follow them."""

    def __init__(self):
        self.steps = []
        self.edits = []
        self.causes = []
        self.warnings = []
        self.lost = []
        self.initramfs = False
        self.bootloader = False
        self.reboot = []


def plan(inventory, state, boot, selectors, driver, edit_boot, assume=(), lost_gpus="fail"):
    """What it takes for the GPUs to be on the driver: nvidia, or none (released). lost_gpus: see steps.LOST_WORDS."""
    result = DriverPlan()
    gpus, troubles = inventory.select(selectors)
    if driver == "nvidia" and "driver" not in assume:
        wrong = refusals.driver_trouble(state.driver)
        if wrong and wrong.code != "driver_not_loaded":
            troubles.append(wrong)
    if edit_boot:
        troubles += _plan_boot(result, inventory, boot, gpus)
    loaded = state.driver.loaded is not None
    removed = set()
    for gpu in gpus:
        if gpu.driver == driver or (driver == "none" and gpu.driver not in FOREIGN + ("nouveau",)):
            continue
        if driver == "nvidia" and "driver" in assume:
            continue  # the boot after the installation binds it
        if gpu.driver == "nouveau":
            if driver == "nvidia":
                troubles.append(_on_nouveau(gpu))
            else:
                result.reboot.append("%s is on nouveau, which is left only by a reboot" % gpu.address)
            continue
        if passed_over(result, gpu, "bring it to nvidia" if driver == "nvidia" else "release it from %s" % gpu.driver, lost_gpus):
            continue
        troubles += _guard(gpu)
        if gpu.driver in FOREIGN and (gpu.driver, gpu.device_id) not in removed:
            removed.add((gpu.driver, gpu.device_id))
            result.steps.append(_forget_step(gpu))
        if gpu.driver_override:
            result.steps.append(
                Step("clear_override", gpu.address, gpu.address, "clear driver_override (%s)" % gpu.driver_override)
            )
        if gpu.driver:
            result.steps.append(
                Step("unbind", gpu.address, gpu.address, "unbind from %s" % gpu.driver, driver=gpu.driver)
            )
        if driver == "nvidia":
            if not loaded:
                loaded = True
                result.steps.append(Step("modprobe", None, None, "load the module nvidia"))
            result.steps.append(Step("bind", gpu.address, gpu.address, "bind to nvidia"))
    raise_if_any(refusal(troubles, result.steps))
    return result


def plan_back(boot, edits, warnings):
    """What it takes to have the boot files as they were before their first edit. edits, warnings: of backups.back."""
    result = DriverPlan()
    result.warnings += warnings
    result.edits = edits
    _plan_edits(result, boot, back=True)
    return result


def _plan_boot(result, inventory, boot, gpus):
    others = [
        gpu for gpu in inventory.gpus if gpu not in gpus and gpu.driver == "vfio-pci"
    ]
    result.causes, result.edits, touched = boot_files.causes_and_edits(boot, gpus, others)
    troubles = [
        Trouble(
            "%s is on vfio-pci by the same id as the selected GPUs, but is not selected"
            % ", ".join(touched),
            wanted="all GPUs of one id released together",
            remedy="Select them too, or bind those to vfio-pci one by one (driverctl) "
            "in place of an id for all.",
            code="shared_id",
        )
    ] if touched else []
    if gpus:
        nouveau = boot_files.nouveau_edit(boot)
        if nouveau:
            result.edits.append(nouveau)
    for cause in result.causes:
        if not cause.editable:
            result.warnings.append(
                "%s: '%s' belongs to a package; %s again at the next boot" % (cause.path, cause.line, cause.what)
            )
    _plan_edits(result, boot)
    return troubles


def _plan_edits(result, boot, back=False):
    """Steps for the edits, and what must be made anew after them or after those of an earlier run. back: they put the originals back."""
    for kind, what in ((INITRAMFS, "initramfs"), (BOOTLOADER, "boot loader's configuration")):
        if kind in boot.waiting:
            result.steps.append(Step("rebuild", None, None, "make the %s anew, which an earlier run left undone" % what))
    result.initramfs = INITRAMFS in boot.waiting
    result.bootloader = BOOTLOADER in boot.waiting
    for edit in result.edits:
        result.initramfs = result.initramfs or rebuild_of(edit.path) == INITRAMFS
        result.bootloader = result.bootloader or rebuild_of(edit.path) == BOOTLOADER
        text = "remove it" if edit.after is None else "edit it"
        result.steps.append(
            Step("edit", None, edit.path, "; ".join(edit.why) if back else "%s: %s" % (text, "; ".join(edit.why)), edit=edit, back=back)
        )


def rebuild_of(path):
    """What must be made anew after an edit of a boot file, or None."""
    if path.startswith(boot_files.GRUB):
        return BOOTLOADER
    return INITRAMFS if "modprobe.d" in path else None


def _on_nouveau(gpu):
    return Trouble(
        "the GPU is bound to nouveau",
        device=gpu.address,
        wanted="nvidia",
        remedy="Keep nouveau from loading (role gpu_release does) and reboot.",
        code="gpu_on_nouveau",
    )


def _guard(gpu):
    if gpu.holders:
        return [refusals.passed_through(gpu)]
    # VFs stay when the PF changes its driver, but the new driver resets the GPU.
    doing = "taking the GPU from %s" % (gpu.driver or "no driver")
    troubles = [refusals.in_use(vf.address, vf.holders, doing) for vf in gpu.vfs if vf.holders]
    return troubles + [refusals.in_use(one.key, one.holders, doing) for one in gpu.vgpus if one.holders and one.uuid]


def _forget_step(gpu):
    number = gpu.device_id.replace("0x", "")
    return Step(
        "forget_id",
        gpu.address,
        None,
        "take the id 10de:%s from %s" % (number, gpu.driver),
        driver=gpu.driver,
        number=number,
    )
