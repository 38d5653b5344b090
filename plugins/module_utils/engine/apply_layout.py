# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps of a layout's plan, verifies each, and watches that the vGPUs stay."""

from __future__ import annotations

import os

from . import diagnosis, files, inventory as reader, vgpu_types
from .errors import EngineError, Trouble, trouble
from .frameworks.mdev import DEVICES, Mdev
from .holders import OpenFiles
from .steps import ApplyError, execute
from .tools import mdevctl
from .waiting import holds, until


def await_types(ctx, addresses, timeout):
    """Waits until each of the GPUs that have VFs on offers its types on all of them; returns the inventory.

    Types come after the VFs (nvidia-vgpud tells the driver); what is missing at the deadline is
    for the plan to complain about.
    """
    last = []

    def ready():
        last[:] = [reader.read(ctx, with_types=False)]
        return all(
            not gpu.vfs or gpu.driver != "nvidia" or all(vf.offers_types for vf in gpu.vfs)
            for gpu in last[0].gpus
            if gpu.address in addresses
        )

    until(ctx.clock, ready, timeout)
    return reader.read(ctx)


def apply(ctx, steps, timeout, settle):
    """Runs the steps, then watches for settle seconds that nothing made now vanishes."""
    framework = Mdev(ctx)

    def perform(step):
        if step.kind == "store":
            files.write_atomic(ctx.root, step.device, step.args["content"], 0o644)
        elif step.kind == "remove":
            _remove(ctx, framework, step, timeout)
        elif step.kind == "create":
            framework.create(
                step.device, _type_id(framework, step), step.args["type"], step.args["uuid"], timeout
            )
        elif step.kind == "undefine":
            mdevctl.undefine(ctx, step.args["uuid"], step.device)
        elif step.kind == "define":
            mdevctl.define(ctx, step.args["uuid"], step.device, _mdev_type(ctx, step.args["uuid"]))

    failed = None
    try:
        done = execute(steps, perform)
    except ApplyError as exc:
        failed, done = exc, exc.done
    created = [step for step in done if step.kind == "create"]
    vanished = _watch(ctx, framework, created, settle)
    if vanished or failed:
        raise ApplyError(
            (failed.troubles if failed else []) + [text for dummy, text in vanished],
            [step for step in done if step not in [one for one, dummy in vanished]],
            (failed.not_done if failed else []) + [one for one, dummy in vanished],
        )
    return done


def _type_id(framework, step):
    """The type's number as the parent has it now."""
    found = vgpu_types.find(step.args["type"], framework.types(step.device))
    if not found:
        raise trouble(
            "the type %s is not offered here now" % step.args["type"],
            device=step.device,
            remedy="Something turned the VF off or took it: look with 'nvidia-vgpu status'.",
            code="type_gone",
        )
    return found.id


def _mdev_type(ctx, uuid):
    """The type folder's name of a device that exists: what mdevctl writes down."""
    return os.path.basename(ctx.sysfs.target("%s/%s/mdev_type" % (DEVICES, uuid)) or "")


def _remove(ctx, framework, step, timeout):
    uuid = step.args["uuid"]
    device = "%s/%s" % (DEVICES, uuid)
    if not step.args["forced"]:
        # Somebody may have taken it since the plan was made.
        holders = OpenFiles(ctx.sysfs).of_device(device)
        if holders:
            raise EngineError(diagnosis.in_use(uuid, holders, "removing it", "force_remove"))
        framework.remove(uuid, timeout)
        return
    _remove_forced(ctx, framework, uuid, timeout)


def _remove_forced(ctx, framework, uuid, timeout):
    """The kernel blocks the write until the user lets go: a child writes, we look with a deadline."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ctx.sysfs.write("%s/%s/remove" % (DEVICES, uuid), "1")
            status = 0
        finally:
            os._exit(status)
    gone = until(ctx.clock, lambda: not framework.exists(uuid), timeout)
    os.waitpid(child, 0 if gone else os.WNOHANG)
    if not gone:
        raise trouble(
            "its user does not let go of it; the kernel removes it as soon as that process ends",
            device=uuid,
            remedy="End the process (see 'nvidia-vgpu status'), then run again.",
            code="remove_pending",
        )


def _watch(ctx, framework, created, settle):
    """Steps whose vGPU is gone or other than wanted within the time, with the trouble."""
    if not created:
        return []

    def look():
        found = []
        for step in created:
            wrong = framework.complaint(step.args["uuid"], step.device, step.args["type"])
            if wrong:
                found.append(
                    (
                        step,
                        Trouble(
                            "%s (%s) was made, but shortly after %s"
                            % (step.args["type"], step.args["uuid"], wrong),
                            device=step.device,
                            remedy="Something takes the VF away: a cloud agent that binds VFs to vfio-pci, "
                            "driverctl, or the driver itself (dmesg, 'journalctl -u nvidia-vgpu-mgr').",
                            code="vanished",
                        ),
                    )
                )
        return found

    return holds(ctx.clock, look, settle)
