# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Binds GPUs to a driver, unbinds GPUs, and edits boot files."""

from __future__ import annotations

import errno
import os
from typing import Container, Sequence

from ..base import refusals
from ..base.clock import until
from ..base.errors import EngineError, error
from ..base.steps import Step, execute
from ..system import files
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, PCI_DRIVERS, SysfsError
from . import backups, rebuilds
from .boot_files import FileEdit
from .plan import BindingPlan, rebuild_of

# Seconds to wait for another program's device probe to finish, after the kernel rejected the collection's own probe.
_PROBE = 5.0
# Time limit in seconds for rebuilding the initramfs files of all kernels.
_REBUILD = 1800.0


def apply(ctx: Context, plan: BindingPlan, timeout: float) -> list[Step]:
    """Performs and verifies the steps of a plan, and returns the steps."""
    return plan.finish(lambda: execute(plan.steps, lambda step: _perform(ctx, step, timeout)))


def _perform(ctx: Context, step: Step, timeout: float) -> None:
    device = str(step.device)
    if step.kind == "edit":
        _edit(ctx.root, step.args["edit"], step.args["back"])
    elif step.kind == "initramfs":
        _initramfs(ctx, step.args["command"])
    elif step.kind == "forget_id":
        forget_id(ctx, step.args["driver"], step.args["number"])
    elif step.kind == "clear_override":
        clear_override(ctx, device)
    elif step.kind == "unbind":
        # A VM might have opened the device after planning. Unbinding a device that a VM uses would block in the kernel until the VM shuts down.
        refuse_holders(ctx, device, "unbinding the GPU from %s" % step.args["driver"])
        unbind(ctx, device, step.args["driver"], timeout)
    elif step.kind == "modprobe":
        modprobe(ctx, timeout)
    elif step.kind == "bind":
        bind(ctx, device, timeout)


def _edit(root: str, edit: FileEdit, back: bool) -> None:
    """Edits a boot file. If *back* is true, the edit restores the original file, and the backup record is dropped afterwards."""
    kind = rebuild_of(edit.path)
    if kind:
        rebuilds.mark(root, kind)
    if not back:
        backups.keep(root, edit.path, edit.after)
    if edit.after is None:
        files.remove(root, edit.path)
    else:
        files.write_atomic(root, edit.path, edit.after)
    if back:
        backups.forget(root, edit.path)


def _initramfs(ctx: Context, command: Sequence[str]) -> None:
    """Rebuilds the initramfs. Until success, the rebuild is marked as pending, because even an incomplete initramfs is newer than the edited file."""
    rebuilds.begin(ctx.root, rebuilds.INITRAMFS)
    answer = ctx.command(command, _REBUILD, keeps_lock=True)
    if answer.rc:
        found = "the initramfs could not be rebuilt, so the next boot would use the old initramfs: %s" % answer.tail()
        remedy = "Fix the reported error, such as a full /boot. Then rerun the playbook, which repeats the rebuild."
        raise error(found, "initramfs", "exit status 0 of '%s'" % " ".join(command), remedy, "initramfs_failed")
    if os.path.isdir(ctx.root + "/boot"):
        files.sync_to_disk(ctx, ["/boot"], "/boot")
    rebuilds.done(ctx.root, rebuilds.INITRAMFS)


def refuse_holders(ctx: Context, address: str, doing: str) -> None:
    """Raises EngineError if a process uses the device through VFIO."""
    holders = OpenFiles(ctx.sysfs).of_device("%s/%s" % (PCI, address))
    if holders:
        raise EngineError(refusals.in_use(address, holders, doing))


def _write_driver_file(ctx: Context, driver: str, file: str, value: str, fine: Container[int]) -> None:
    """Writes a value to a driver's sysfs file. *fine* lists errno values that are not treated as errors."""
    try:
        ctx.sysfs.write("%s/%s/%s" % (PCI_DRIVERS, driver, file), value)
    except SysfsError as exc:
        if exc.number not in fine:
            raise


def forget_id(ctx: Context, driver: str, number: str) -> None:
    """Removes a device ID from a driver's dynamic ID list. A missing ID is not an error."""
    _write_driver_file(ctx, driver, "remove_id", "10de %s" % number, (errno.ENODEV, errno.ENOENT))


def clear_override(ctx: Context, address: str) -> None:
    """Clears a device's driver_override, if set."""
    path = "%s/%s/driver_override" % (PCI, address)
    if ctx.sysfs.read_or(path, "(null)") not in ("", "(null)"):
        ctx.sysfs.write(path, "\n")


def unbind(ctx: Context, address: str, driver: str, timeout: float) -> None:
    """Unbinds a device from a driver, and waits until the device has no driver or another driver."""
    _write_driver_file(ctx, driver, "unbind", address, (errno.ENODEV,))
    link = "%s/%s/driver" % (PCI, address)
    if not until(ctx.clock, lambda: ctx.sysfs.link(link) != driver, timeout):
        remedy = "Run 'fuser -v /dev/vfio/*' to find the process that uses the device. If no process uses the device, find the cause in the output of 'dmesg'."
        raise error("the device is still bound to %s %d s after the unbind request" % (driver, timeout), address, "no driver", remedy, "unbind_failed")


def bind(ctx: Context, address: str, timeout: float) -> None:
    """Binds a device to the nvidia driver, and waits until the device is bound."""
    link = "%s/%s/driver" % (PCI, address)

    def bound() -> bool:
        return ctx.sysfs.link(link) == "nvidia"

    if bound():
        return
    reason = ""
    try:
        ctx.sysfs.write(PCI_DRIVERS + "/nvidia/bind", address)
    except SysfsError as exc:
        # The kernel returns EBUSY or ENODEV if udev or the module bound the device first, or if the probe failed. The driver link shows the cause.
        reason, timeout = " (%s)" % exc.errors[0].found, min(timeout, _PROBE)
    if not until(ctx.clock, bound, timeout):
        found = "the nvidia driver did not bind to the device%s, and the device is bound to %s" % (reason, ctx.sysfs.link(link) or "no driver")
        remedy = "Find the cause in the NVRM lines of 'dmesg'. The usual causes are a wrong module flavor, a GPU that fell off the bus, and a disabled IOMMU."
        raise error(found, address, "nvidia", remedy, "bind_failed")


def modprobe(ctx: Context, timeout: float) -> None:
    """Loads the nvidia kernel module, and verifies that the module is loaded."""
    answer = ctx.command(["modprobe", "nvidia"], timeout)
    if answer.rc or not ctx.sysfs.exists("/sys/module/nvidia"):
        found = "the module cannot be loaded: %s" % (answer.tail() or "exit status %d" % answer.rc)
        remedy = (
            "If modprobe printed 'Key was rejected', sign the module for Secure Boot. 'No such device' means that no GPU is free for the module. "
            "After 'Exec format' or 'not found', build the module for the running kernel. In all cases, 'dmesg' shows details."
        )
        raise error(found, "the nvidia module", "a loaded nvidia module", remedy, "modprobe_failed")
