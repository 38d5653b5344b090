# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Binds GPUs to a driver and releases them, and writes boot files."""

from __future__ import annotations

import errno

from ..base import refusals
from ..base.clock import until
from ..base.errors import Trouble, raise_if_any
from ..base.steps import Step, execute
from ..system import files
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import Sysfs, SysfsError
from . import backups, rebuilds
from .boot_files import FileEdit
from .plan import PCI, BindingPlan, rebuild_of

DRIVERS = "/sys/bus/pci/drivers"


def apply(ctx: Context, plan: BindingPlan, timeout: float) -> list[Step]:
    """Does the steps and verifies each."""
    return plan.finish(lambda: execute(plan.steps, lambda step: _perform(ctx, step, timeout)))


def _perform(ctx: Context, step: Step, timeout: float) -> None:
    device = str(step.device)
    directory = "%s/%s" % (PCI, device)
    if step.kind == "edit":
        _edit(ctx.root, step.args["edit"], step.args["back"])
    elif step.kind == "forget_id":
        forget_id(ctx.sysfs, step.args["driver"], step.args["number"])
    elif step.kind == "clear_override":
        ctx.sysfs.write(directory + "/driver_override", "\n")
    elif step.kind == "unbind":
        # The kernel would wait in the unbind until a VM that came since the plan was made lets go.
        holders = OpenFiles(ctx.sysfs).of_device(directory)
        if holders:
            raise_if_any([refusals.in_use(device, holders, "unbinding it from %s" % step.args["driver"])])
        unbind(ctx, device, step.args["driver"], timeout)
    elif step.kind == "modprobe":
        modprobe(ctx, timeout)
    elif step.kind == "bind":
        bind(ctx, device, timeout)


def _edit(root: str, edit: FileEdit, back: bool) -> None:
    """One edit of a boot file; back: it restores the original, whose record is dropped then."""
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


def forget_id(sysfs: Sysfs, driver: str, number: str) -> None:
    """Removes an id from a driver's dynamic list; one that isn't there is fine."""
    try:
        sysfs.write("%s/%s/remove_id" % (DRIVERS, driver), "10de %s" % number)
    except SysfsError as exc:
        if exc.number not in (errno.ENODEV, errno.ENOENT):
            raise


def unbind(ctx: Context, address: str, driver: str, timeout: float) -> None:
    """Unbinds a device and waits until it is without a driver (or elsewhere)."""
    try:
        ctx.sysfs.write("%s/%s/unbind" % (DRIVERS, driver), address)
    except SysfsError as exc:
        if exc.number != errno.ENODEV:
            raise
    link = "%s/%s/driver" % (PCI, address)
    if not until(ctx.clock, lambda: ctx.sysfs.link(link) != driver, timeout):
        raise_if_any(
            [
                Trouble(
                    "it is still bound to %s %d s after the unbind" % (driver, timeout),
                    device=address,
                    wanted="no driver",
                    remedy="A process may hold it: look with 'fuser -v /dev/vfio/*' and dmesg.",
                    code="unbind_failed",
                )
            ]
        )


def bind(ctx: Context, address: str, timeout: float) -> None:
    """Binds a device to nvidia and waits until it is."""
    link = "%s/%s/driver" % (PCI, address)

    def bound() -> bool:
        return ctx.sysfs.link(link) == "nvidia"

    if bound():
        return
    reason = ""
    try:
        ctx.sysfs.write(DRIVERS + "/nvidia/bind", address)
    except SysfsError as exc:
        # EBUSY/ENODEV: udev or the module's own probe was faster, or the probe failed; the link tells.
        reason = " (%s)" % exc.troubles[0].found
    if not until(ctx.clock, bound, timeout):
        raise_if_any(
            [
                Trouble(
                    "the driver nvidia does not take it%s; it is bound to %s"
                    % (reason, ctx.sysfs.link(link) or "no driver"),
                    device=address,
                    wanted="nvidia",
                    remedy="Look into dmesg for NVRM lines: wrong module flavour, GPU off the bus, IOMMU off.",
                    code="bind_failed",
                )
            ]
        )


def modprobe(ctx: Context, timeout: float) -> None:
    """Loads the module nvidia and verifies that it is loaded."""
    answer = ctx.command(["modprobe", "nvidia"], timeout)
    if answer.rc or not ctx.sysfs.exists("/sys/module/nvidia"):
        raise_if_any(
            [
                Trouble(
                    "it can't be loaded: %s" % (answer.tail() or "rc %d" % answer.rc),
                    device="the module nvidia",
                    wanted="load the module nvidia",
                    remedy="'Key was rejected': sign it for Secure Boot. 'No such device': no GPU is free for it. "
                    "'Exec format' or 'not found': build it for the running kernel. Look into dmesg.",
                    code="modprobe_failed",
                )
            ]
        )
