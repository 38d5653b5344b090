# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds users of devices that are about to be removed, in sources other than /proc.

nvidia-smi reports vGPUs of running VMs, and libvirt defines the devices of stopped VMs.
"""

from __future__ import annotations

import os
from typing import Callable, Collection, Iterable, Sequence, TypeVar

from .. import frameworks
from ..base import refusals
from ..base.clock import until
from ..base.errors import Refusal
from ..base.steps import Step
from ..frameworks.framework import LINGER
from ..hardware import address
from ..hardware.gpu import Gpu, Holder, Vgpu
from ..read.inventory import Inventory, read_gi
from ..state import install_mark
from ..system import libvirt_xml, nvidia_smi
from ..system.context import Context
from ..system.nvidia_smi import Active

Made = TypeVar("Made")

_ASK = "nvidia-smi vgpu -q"
_NO_ANSWER = "run 'nvidia-smi vgpu -q -i %s' manually, and find NVRM and Xid messages in the output of 'dmesg'"
_OTHER_DRIVER = "reboot the host, because nvidia-smi fails if the driver on disk differs from the loaded driver. Then rerun the playbook"
_UNCLEAR = "stop the VM, or attach the VM's vGPU through libvirt, which identifies the vGPU"


def settled(ctx: Context, inventory: Inventory, make: Callable[[], Made], keys: Callable[[Made], Collection[str]]) -> Made:
    """Returns a plan from make() that does not change any vGPU for which nvidia-smi reports a user.

    Users that nvidia-smi reports are added to the inventory, on which make() bases its plan. keys(plan) returns the keys (Vgpu.key) of the vGPUs that
    the plan changes.
    """
    made, deadline = make(), ctx.clock.now() + LINGER  # nvidia-smi lists a VM for a few seconds after the VM shuts down
    while ask_driver(ctx, inventory, keys(made), deadline):
        made = make()  # the new plan keeps devices that are in use, selects other devices, or raises EngineError
    return made


def ask_driver(ctx: Context, inventory: Inventory, keys: Collection[str], deadline: float) -> bool:
    """Adds users that nvidia-smi reports to vGPUs that seem idle, and returns whether any user was added.

    Only GPUs with a vGPU in *keys* are queried. /proc does not list every user of a vGPU, such as a process in another PID namespace. If nvidia-smi
    does not respond, vGPUs that seem idle count as in use. nvidia-smi output can be outdated until *deadline*.
    """
    found = False
    for gpu in inventory.gpus:
        idle = [vgpu for vgpu in gpu.vgpus if not vgpu.holders]
        if not any(vgpu.key in keys for vgpu in idle):
            continue
        users = _last_users(ctx, gpu, idle, keys, deadline)
        for vgpu in idle:
            if vgpu.key in users:
                vgpu.holders, found = [users[vgpu.key]], True
        read_gi(ctx, [gpu], [gpu.address])
    return found


def _last_users(ctx: Context, gpu: Gpu, idle: Sequence[Vgpu], keys: Collection[str], deadline: float) -> dict[str, Holder]:
    """Waits until no vGPU in *keys* has a user or the deadline passes, and returns the last result of _users()."""
    last: dict[str, Holder] = {}

    def free() -> bool:
        nonlocal last
        last = _users(ctx, gpu, idle)
        return last.keys().isdisjoint(keys)

    until(ctx.clock, free, deadline - ctx.clock.now())
    return last


def _users(ctx: Context, gpu: Gpu, idle: Sequence[Vgpu]) -> dict[str, Holder]:
    """Returns the users of vGPUs that seem idle, keyed by vGPU. A vGPU has a user if an nvidia-smi entry refers or might refer to the vGPU."""
    active, silent = nvidia_smi.active(ctx, gpu.address)
    if silent and not nvidia_smi.binary(ctx) and install_mark.is_open(ctx.root, install_mark.DRIVER):
        return {}  # an interrupted installation removed nvidia-smi and stopped the service that VMs require to start
    if silent:
        remedy = _OTHER_DRIVER if "version mismatch" in silent else _NO_ANSWER % gpu.address
        answer = Holder(None, "a VM, because '%s -i %s' returned no answer (%s)" % (_ASK, gpu.address, silent), remedy=remedy)
        return {vgpu.key: answer for vgpu in idle}
    found = {vgpu.key: Holder(None, _ASK, one.vm) for one in active for vgpu in idle if one.uuid and one.uuid == vgpu.uuid}
    certain = set(found)
    for one in _unexplained([one for one in active if not one.uuid], gpu):
        candidates = _candidates(ctx, gpu, [vgpu for vgpu in idle if vgpu.key not in certain], one)
        user = Holder(None, _ASK, one.vm)
        if len(candidates) == 1:
            certain.add(candidates[0].key)
        else:
            some = "%s: the VM uses one of the %d %s vGPUs on this GPU that seem idle" % (user, len(candidates), one.type or "")
            user = Holder(None, some, one.vm, _UNCLEAR)
        found.update((vgpu.key, user) for vgpu in candidates)
    return found


def _unexplained(nameless: Sequence[Active], gpu: Gpu) -> list[Active]:
    """Returns nvidia-smi entries that have no UUID and do not belong to a vGPU with a known user.

    nvidia-smi entries are matched to vGPUs by type, and by GPU instance and VM if known.
    """
    left = list(nameless)
    for vgpu in [one for one in gpu.vgpus if one.holders]:
        names = {holder.vm for holder in vgpu.holders if holder.vm}
        mine = [one for one in left if _same_type(one, vgpu) and _same_instance(one, vgpu) and (not names or one.vm is None or one.vm in names)]
        mine = [one for one in mine if one.vm in names] or mine
        if mine:
            left.remove(mine[0])
    return left


def _same_type(one: Active, vgpu: Vgpu) -> bool:
    return one.type_id == vgpu.type_id or one.type == vgpu.type


def _same_instance(one: Active, vgpu: Vgpu) -> bool:
    return None in (one.instance, vgpu.gi) or one.instance == vgpu.gi


def _candidates(ctx: Context, gpu: Gpu, idle: Sequence[Vgpu], one: Active) -> list[Vgpu]:
    """Returns the seemingly idle vGPUs to which an nvidia-smi entry without a UUID might refer.

    If the driver or libvirt identifies the vGPU of the entry's VM, returns only the identified vGPU.
    """
    found = [vgpu for vgpu in idle if _same_type(one, vgpu)] or list(idle)
    found = [vgpu for vgpu in found if _same_instance(one, vgpu)] or found
    framework = frameworks.of(ctx, gpu.framework)
    if not one.vm or not framework:
        return found
    live = [device.key for domain in libvirt_xml.domains(ctx)[0] if domain.name == one.vm for device in domain.live or ()]
    return [vgpu for vgpu in found if framework.vm(vgpu.key) == one.vm or vgpu.key in live] or found


def touched(steps: Iterable[Step]) -> list[str]:
    """Returns the keys of seemingly idle vGPUs that the steps change, remove, or recreate."""
    return [step.args["key"] for step in steps if step.kind == "params" or step.kind == "remove" and not step.args["forced"]]


def removed(steps: Iterable[Step]) -> list[str]:
    """Returns the keys of the vGPUs that the steps remove and do not recreate."""
    back = {step.args["uuid"] or step.device for step in steps if step.kind == "create"}
    return [step.args["key"] for step in steps if step.kind == "remove" and step.args["key"] not in back]


def jobs(inventory: Inventory, doing: str) -> list[Refusal]:
    """Returns the error for programs that use GPUs through NVIDIA's driver. The driver must not be changed while such programs run."""
    found = inventory.jobs()
    return [refusals.in_use("NVIDIA's driver", found, doing)] if found else []


def defined(ctx: Context) -> set[str]:
    """Returns the keys (UUIDs and PCI addresses) of devices in libvirt's VM definitions, including stopped VMs."""
    return {key for domain in libvirt_xml.domains(ctx)[0] for key in domain.devices}


def domain_warnings(ctx: Context, keys: Collection[str], doing: str) -> list[str]:
    """Returns a warning for each device in *keys* (addresses or UUIDs) that a stopped libvirt VM requires at its next start."""
    if not keys:
        return []
    domains, unreadable = libvirt_xml.domains(ctx)
    text = "%s: %s, but the device is attached to the stopped libvirt VM %s. Remove the device from the VM's definition. Otherwise, the VM will not start."
    names = {key: ", ".join(one.name for one in domains if key in one.devices and not one.running) for key in keys}
    return [text % (key, doing, names[key]) for key in keys if names[key]] + unreadable


def in_the_way(users: Iterable[tuple[Holder, list[str]]], may_disturb: Iterable[object]) -> list[tuple[Holder, list[str]]]:
    """Returns the users that must not be interrupted, as (Holder, devices) pairs.

    A user may be interrupted if *may_disturb* contains the user or all of the user's devices.
    """
    named = {address.parse(word) if address.is_address(word) else word for word in map(str, may_disturb)}
    plain = {word.lower() for word in named}

    def covered(holder: Holder, devices: Sequence[str]) -> bool:
        if holder.remedy:  # the user is unknown
            return False
        program = None if holder.vm else os.path.basename(holder.command.split(" ")[0])
        return holder.vm in named or program in named or bool(devices) and all(device.lower() in plain for device in devices)

    return [(holder, devices) for holder, devices in users if not covered(holder, devices)]
