# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Performs the steps of a fabric plan, and records the VFs for which each fabric partition is activated."""

from __future__ import annotations

from typing import Sequence

from .. import frameworks
from ..base import refusals
from ..base.errors import EngineError, error
from ..base.steps import Step, execute
from ..hardware import address
from ..read.fabric import Fabric
from ..state import fabric_record
from ..system import fabric_manager, files
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI
from . import plan as fabric_plan, service


def resume(ctx: Context, fabric: Fabric) -> bool:
    """Passes the list of active partitions to Fabric Manager, which answers no queries in restart mode until it receives this list.

    Returns whether Fabric Manager needed the list of active partitions.
    """
    if not fabric.manager.restart or fabric.silence is None or fabric.silence.code != "fabric_starting":
        return False
    fabric_manager.set_activated(ctx, sorted(fabric.record.partitions))
    return True


def run(ctx: Context, steps: Sequence[Step], timeout: float, begin: int = 0) -> list[Step]:
    """Performs the steps of a fabric plan. After a failed step, other partitions' steps still run before ApplyError is raised.

    Args:
        begin: The position of the plan's first step in the run.
    """
    return execute(steps, lambda step: _perform(ctx, step, timeout), begin=begin)


def _perform(ctx: Context, step: Step, timeout: float) -> None:
    number = step.args["partition"]
    if step.kind == fabric_plan.DEACTIVATE:
        _check_idle(ctx, step)
        fabric_manager.deactivate(ctx, number, timeout)
        _note(ctx, number, None)
        return
    _check_vgpus(ctx, step)
    fabric_manager.activate(ctx, number, step.args["vfs"], timeout)
    _note(ctx, number, step.args["vfs"])
    if not any(one.id == number and one.active for one in fabric_manager.partitions(ctx, timeout)[0]):
        remedy = "Find the cause in /var/log/fabricmanager.log and in the output of 'dmesg', fix the cause, then rerun."
        found = "Fabric Manager accepted the activation, but reports the partition as inactive"
        raise error(found, step.device, "active", remedy, "fabric_unconfirmed")


def set_up(ctx: Context, steps: Sequence[Step], timeout: float) -> list[Step]:
    """Performs the steps planned by fabric/service.py, in order."""
    return execute(steps, lambda step: _set_up(ctx, step, timeout))


def _set_up(ctx: Context, step: Step, timeout: float) -> None:
    if step.kind == service.MODE:
        _set_mode(ctx, step)
        return
    word = {service.ENABLE: "enable", service.DISABLE: "disable", service.START: "start", service.STOP: "stop", service.RESTART: "restart"}[step.kind]
    answer = ctx.command(["systemctl", word, fabric_manager.UNIT + ".service"], timeout, keeps_lock=True)
    if answer.rc:
        remedy = "Find the cause in 'journalctl -u nvidia-fabricmanager' and /var/log/fabricmanager.log, fix the cause, then rerun."
        ended = "systemctl did not finish within %d s" % timeout if answer.timed_out else "systemctl exited with status %d: %s" % (answer.rc, answer.tail(2))
        raise error(ended, step.device, "to %s" % step.text, remedy, "fabric_service_failed")
    if step.kind in (service.RESTART, service.STOP):
        record = fabric_record.read(ctx)
        record.partitions.clear()
        fabric_record.write(ctx, record)


def _set_mode(ctx: Context, step: Step) -> None:
    """Changes FABRIC_MODE in Fabric Manager's configuration file.

    The engine records the original value before the first change, and deletes the record when it restores this value.
    """
    record, text = fabric_record.read(ctx), files.read_text(ctx.root, fabric_manager.CONFIG)
    if text is None:
        expected, remedy = "Fabric Manager's configuration file", "Reinstall the Fabric Manager package."
        raise error("the file does not exist", fabric_manager.CONFIG, expected, remedy, "fabric_no_config")
    before, mode = fabric_manager.mode(ctx.root), step.args["mode"]
    if mode == fabric_manager.VGPU_MODE and record.mode_before is None:
        record.mode_before = before or "0"
        fabric_record.write(ctx, record)
    files.write_atomic(ctx.root, fabric_manager.CONFIG, fabric_manager.with_mode(text, mode))
    if mode == record.mode_before:
        record.mode_before = None
        fabric_record.write(ctx, record)


def _check_idle(ctx: Context, step: Step) -> None:
    """Raises EngineError if a process has opened one of the partition's vGPUs since the partition was planned."""
    gpus = [pf for pf in step.args["gpus"] if address.is_address(pf)]
    vfs = [(pf, name) for pf in gpus for name in ctx.sysfs.list("%s/%s" % (PCI, pf)) if name.startswith("virtfn")]
    parents = {*gpus, *(ctx.sysfs.link("%s/%s/%s" % (PCI, pf, name)) for pf, name in vfs)}
    holders = [holder for vgpu in frameworks.instances(ctx, OpenFiles(ctx.sysfs)) if vgpu.parent in parents for holder in vgpu.holders]
    if holders:
        raise EngineError(refusals.in_use(str(step.device), holders, "deactivating the partition"))


def _check_vgpus(ctx: Context, step: Step) -> None:
    """Raises EngineError if one of the partition's VFs has no vGPU because vGPU creation failed."""
    parents = {vgpu.parent for vgpu in frameworks.instances(ctx)}
    for vf in step.args["vfs"]:
        if vf not in parents:
            raise error("no vGPU exists on %s" % vf, step.device, "a vGPU on each VF of the partition", "Create this vGPU, then rerun.", "vgpus_missing")


def _note(ctx: Context, number: int, vfs: list[str] | None) -> None:
    """Records the VFs for which a partition is active, or deletes the record if the partition is inactive."""
    record = fabric_record.read(ctx)
    record.partitions.pop(number, None)
    if vfs:
        record.partitions[number] = list(vfs)
    fabric_record.write(ctx, record)
