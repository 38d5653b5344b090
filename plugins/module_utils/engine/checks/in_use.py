# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses what is about to be removed, beyond /proc: nvidia-smi of vGPUs that run, libvirt of VMs that are to run again."""

from __future__ import annotations

from typing import Collection, Iterable, Sequence

from ..base.clock import until
from ..base.steps import Step
from ..frameworks.framework import LINGER
from ..hardware import address
from ..hardware.gpu import Gpu, Holder, Vgpu
from ..read.inventory import Inventory
from ..system import libvirt_xml, nvidia_smi
from ..system.context import Context
from ..system.nvidia_smi import Active


def ask_driver(ctx: Context, inventory: Inventory, keys: Collection[str]) -> bool:
    """Adds the users that nvidia-smi reports to vGPUs that seem idle; returns whether one of the keys (Vgpu.key) has some.

    A process may be out of sight of /proc (another PID namespace). What nvidia-smi does not name by UUID counts for idle vGPUs of its type and GPU.
    """
    idle = [(gpu, vgpu) for gpu in inventory.gpus for vgpu in gpu.vgpus if not vgpu.holders and vgpu.key in keys]
    if not idle:
        return False
    last: dict[str, str | None] = {}

    def none() -> bool:
        nonlocal last
        last = _reported(nvidia_smi.active(ctx), idle)
        return not last

    until(ctx.clock, none, LINGER)
    for dummy, vgpu in idle:
        if vgpu.key in last:
            vgpu.holders = [Holder(None, "nvidia-smi vgpu -q", last[vgpu.key])]
    return bool(last)


def _reported(active: Sequence[Active], idle: Sequence[tuple[Gpu, Vgpu]]) -> dict[str, str | None]:
    """{key: VM's name or None} of the idle vGPUs that nvidia-smi calls active."""
    found: dict[str, str | None] = {}
    for gpu, vgpu in idle:
        nameless = [one for one in active if one.gpu == gpu.address and one.type == vgpu.type and not one.uuid]
        known = [one for one in gpu.vgpus if one.holders and one.type == vgpu.type]
        mine = [one for one in active if one.uuid and one.uuid == vgpu.uuid]
        if not mine and not vgpu.uuid and len(nameless) > len(known):
            names = {holder.vm for one in known for holder in one.holders}
            mine = [one for one in nameless if one.vm not in names] or nameless
        if mine:
            found[vgpu.key] = mine[0].vm
    return found


def removed(steps: Iterable[Step]) -> list[str]:
    """Keys of the vGPUs that these steps remove and do not create again."""
    back = {step.args["uuid"] or step.device for step in steps if step.kind == "create"}
    return [step.args["key"] for step in steps if step.kind == "remove" and step.args["key"] not in back]


def domain_warnings(ctx: Context, keys: Collection[str], doing: str) -> list[str]:
    """A sentence for each of the keys (addresses, UUIDs) that libvirt's VMs which do not run need at their next start."""
    if not keys:
        return []
    domains, unreadable = libvirt_xml.domains(ctx.root)
    text = "%s: %s, but libvirt's VM %s, which is not running, has it: it will not start until its definition is changed"
    names = {key: ", ".join(one.name for one in domains if key in one.devices and not one.running) for key in keys}
    return [text % (key, doing, names[key]) for key in keys if names[key]] + unreadable


def in_the_way(users: Iterable[tuple[Holder, list[str]]], may_disturb: Iterable[object]) -> list[tuple[Holder, list[str]]]:
    """Those of the users (Holder, devices) that may not be disturbed: neither the VM nor all of its devices are named."""
    named = {address.parse(word) if address.is_address(word) else word for word in map(str, may_disturb)}
    plain = {word.lower() for word in named}
    others = [(holder, devices) for holder, devices in users if holder.vm not in named]
    return [(holder, devices) for holder, devices in others if not devices or any(device.lower() not in plain for device in devices)]
