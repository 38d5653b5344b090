# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explicit mediated devices: uuid, parent and type, or a device that must not be. Pure."""

from __future__ import annotations

from ..base import refusals
from ..base.errors import EngineError, Trouble, raise_if_any
from ..base.steps import Step
from ..hardware import address, vgpu_types
from . import order
from .layout import check_uuid
from .placement import stable_uuid
from .plan import Options


class Device:
    """One wished device. parent is an address in sysfs' spelling or None; absent: it must not be."""

    def __init__(self, where, uuid, parent, type_name, absent):
        self.where = where
        self.uuid = uuid
        self.parent = parent
        self.type = type_name
        self.absent = absent


class MdevPlan:
    """Steps, and the devices as they will be: (uuid, parent, type) each."""

    def __init__(self):
        self.steps = []
        self.devices = []


def parse(devices):
    """Devices from the module's list; raises EngineError with all that is wrong."""
    found, troubles, seen = [], [], {}
    for number, item in enumerate(devices):
        where = "devices[%d]" % number
        absent = item.get("state") == "absent"
        uuid = parent = None
        try:
            if item.get("uuid"):
                uuid = check_uuid(item["uuid"], where)
            if item.get("parent"):
                parent = address.parse(item["parent"])
        except EngineError as exc:
            for one in exc.troubles:
                one.device = where
            troubles += exc.troubles
            continue
        if absent and not uuid:
            troubles.append(Trouble("a device to be removed has no uuid", device=where, wanted="its uuid"))
        if not absent and not (parent and item.get("type")):
            troubles.append(Trouble("parent or type is missing", device=where, wanted="parent: a VF or PF, and type"))
        if uuid and uuid in seen:
            troubles.append(
                Trouble("the UUID %s stands at %s too" % (uuid, seen[uuid]), device=where, wanted="each UUID once", code="duplicate_uuid")
            )
        seen[uuid] = where
        found.append(Device(where, uuid, parent, item.get("type"), absent))
    raise_if_any(troubles)
    return found


def plan(inventory, state, wanted, definitions, options=None):
    """The plan for explicit devices; raises EngineError with all that is wrong."""
    options = options or Options()
    result = MdevPlan()
    troubles = []
    existing = {vgpu.uuid: vgpu for vgpu in inventory.mdevs}
    busy = {}
    for vgpu in inventory.mdevs:
        busy.setdefault(vgpu.parent, set()).add(vgpu.uuid)
    removals, creations = [], []
    for device in wanted:
        if device.absent:
            troubles += _plan_removal(device, existing, busy, options, removals)
    taken = set(existing) | {device.uuid for device in wanted if device.uuid}
    named = {device.uuid for device in wanted}
    # Devices with a VF of their own first: one by PF must not take their VF.
    for device in sorted(
        [one for one in wanted if not one.absent], key=lambda one: inventory.gpu(one.parent) is not None
    ):
        troubles += _plan_device(
            device, inventory, state, existing, busy, taken, named, creations, result
        )
    troubles += _check_gpus(inventory, existing, removals, creations)
    raise_if_any(troubles)
    for vgpu in removals:
        result.steps.append(
            Step("remove", _gpu_of(inventory, vgpu.parent), vgpu.parent, "remove %s (%s)" % (vgpu.type, vgpu.uuid), key=vgpu.uuid, forced=bool(vgpu.holders))
        )
    for device in wanted:
        if device.absent and options.mdevctl and device.uuid in definitions:
            result.steps.append(order.undefine(_gpu_of(inventory, definitions[device.uuid].parent), definitions[device.uuid]))
    for gpu, parent, vgpu_type, uuid in creations:
        result.steps.append(
            Step("create", gpu.address, parent, "create %s (%s)" % (vgpu_type.short, uuid), uuid=uuid, type_id=vgpu_type.id, type=vgpu_type.short)
        )
    for uuid, parent, vgpu_type in result.devices if options.mdevctl else ():
        result.steps += order.define(_gpu_of(inventory, parent), uuid, parent, vgpu_type.id, definitions.get(uuid))
    return result


def _plan_removal(device, existing, busy, options, removals):
    vgpu = existing.get(device.uuid)
    if not vgpu:
        return []
    if device.parent and device.parent != vgpu.parent:
        return [
            Trouble(
                "the device %s to be removed is on %s" % (device.uuid, vgpu.parent),
                device=device.where,
                wanted="parent %s, or no parent given" % device.parent,
                code="uuid_elsewhere",
            )
        ]
    if vgpu.holders and vgpu.uuid not in options.force_remove:
        return [refusals.in_use("%s (%s on %s)" % (vgpu.uuid, vgpu.type, vgpu.parent), vgpu.holders, "removing it", "force_remove")]
    removals.append(vgpu)
    busy[vgpu.parent].discard(vgpu.uuid)
    return []


def _owner(inventory, parent):
    """The GPU whose PF or VF the address is, and whether it is the PF."""
    for gpu in inventory.gpus:
        if gpu.address == parent:
            return gpu, True
        if parent in [vf.address for vf in gpu.vfs]:
            return gpu, False
    return None, False


def _gpu_of(inventory, parent):
    """Address of the GPU that steps at a parent belong to; the parent itself where it is of no GPU that is there."""
    gpu = _owner(inventory, parent)[0]
    return gpu.address if gpu else parent


def _plan_device(device, inventory, state, existing, busy, taken, named, creations, result):
    gpu, is_pf = _owner(inventory, device.parent)
    if gpu is None:
        have = ", ".join("%s (%d VFs)" % (one.address, len(one.vfs)) for one in inventory.gpus)
        return [
            Trouble(
                "%s is no NVIDIA GPU and no VF of one; this host has %s" % (device.parent, have or "no NVIDIA GPU"),
                device=device.where,
                wanted="a PF, or a VF that is on",
                remedy="VFs are turned on by nvidia_sriov.",
                code="unknown_parent",
            )
        ]
    if gpu.framework == "vendor_vfio":
        return [refusals.vendor_vfio(gpu)]
    if not gpu.types:
        return refusals.no_types(gpu, state)
    vgpu_type = vgpu_types.find(device.type, gpu.types)
    if not vgpu_type:
        near = vgpu_types.nearest(device.type, gpu.types) or [one.short for one in gpu.types]
        return [
            Trouble(
                "the type %r is not offered by %s (%s)" % (device.type, gpu.address, gpu.name),
                device=device.where,
                wanted="nearest: " + ", ".join(near),
                code="unknown_type",
            )
        ]
    parents = [vf.address for vf in gpu.vfs if vf.offers_types] if is_pf and gpu.sriov else [device.parent]
    there = _existing_for(device, existing, parents, vgpu_type, named, result)
    if isinstance(there, Trouble):
        return [there]
    if there:
        result.devices.append((there.uuid, there.parent, vgpu_type))
        return []
    free = [parent for parent in parents if not (gpu.sriov and busy.get(parent))]
    if not free:
        return [_no_free(device, gpu, parents, busy, existing)]
    parent = free[0]
    index = next((vf.index for vf in gpu.vfs if vf.address == parent), len(busy.get(parent, ())))
    uuid = device.uuid or stable_uuid(state.machine_id, gpu.address, index, taken)
    taken.add(uuid)
    busy.setdefault(parent, set()).add(uuid)
    creations.append((gpu, parent, vgpu_type, uuid))
    result.devices.append((uuid, parent, vgpu_type))
    return []


def _existing_for(device, existing, parents, vgpu_type, named, result):
    """The vGPU that is the wished one already; a Trouble where the UUID is something else."""
    if device.uuid in existing:
        vgpu = existing[device.uuid]
        if vgpu.parent in parents and vgpu.type == vgpu_type.short:
            return vgpu
        return Trouble(
            "the UUID %s exists already, as %s on %s" % (vgpu.uuid, vgpu.type, vgpu.parent),
            device=device.where,
            wanted="%s on %s" % (vgpu_type.short, device.parent),
            remedy="Remove that device first (state: absent), or take another UUID.",
            code="uuid_elsewhere",
        )
    if device.uuid:
        return None
    used = [uuid for uuid, dummy, dummy2 in result.devices]
    for vgpu in existing.values():
        if vgpu.parent in parents and vgpu.type == vgpu_type.short and vgpu.uuid not in used and vgpu.uuid not in named:
            return vgpu
    return None


def _no_free(device, gpu, parents, busy, existing):
    holder = next(iter(busy.get(parents[0], ())), None) if len(parents) == 1 else None
    if holder:
        type_name = existing[holder].type if holder in existing else "vGPU of this request"
        found = "the VF %s holds %s (%s) already" % (parents[0], holder, type_name)
    else:
        found = "all %d usable VFs of %s hold a vGPU" % (len(parents), gpu.address)
    return Trouble(found, device=device.where, wanted="a free VF for %s" % device.type, code="vf_busy")


def _check_gpus(inventory, existing, removals, creations):
    """One framebuffer size and max_instance per GPU, over what stays and what comes."""
    troubles = []
    going = {vgpu.uuid for vgpu in removals}
    for gpu in inventory.gpus:
        new = [one for owner, dummy, one, dummy2 in creations if owner is gpu]
        if not new:
            continue
        by_short = {one.short: one for one in gpu.types}
        stay = [by_short[vgpu.type] for vgpu in gpu.vgpus if vgpu.uuid not in going and vgpu.type in by_short]
        if all(one.slices for one in new + stay):
            continue  # each in a GPU instance of its own, which the driver counts
        sizes = sorted({(one.framebuffer_mib, one.short) for one in new + stay})
        if len({size for size, dummy in sizes}) > 1:
            troubles.append(
                Trouble(
                    "vGPUs of different framebuffer sizes would share the GPU: %s" % ", ".join(name for dummy, name in sizes),
                    device=gpu.address,
                    wanted="one framebuffer size per GPU",
                    remedy="Module nvidia_vgpu knows mixed_sizes: true, for GPUs that support that.",
                    code="two_sizes",
                )
            )
            continue
        most = min([one.max_instances for one in new if one.max_instances] or [len(new + stay)])
        if len(new + stay) > most:
            troubles.append(
                Trouble(
                    "%d vGPUs of %s would be on the GPU" % (len(new + stay), new[0].short),
                    device=gpu.address,
                    wanted="at most %d (max_instance of the type: %s MiB of framebuffer each)" % (most, new[0].framebuffer_mib),
                    code="too_many",
                )
            )
    return troubles
