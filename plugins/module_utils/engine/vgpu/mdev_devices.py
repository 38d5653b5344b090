# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single mediated devices: uuid, parent and type, or a device that must not be. Pure.

Devices become requests for GPUs, which the layout's planner plans: what else is on a GPU stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ..base import refusals
from ..base.errors import EngineError, Trouble, raise_if_any
from ..hardware import address, vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from . import order
from .gpu_plan import guard_removal
from .layout import GpuSpec, VgpuSpec, check_uuid, duplicate
from .plan import plan_listed
from .target import Host, LayoutPlan, Options, Placed


@dataclass
class Device:
    """One requested device. where: its entry. parent is an address in sysfs' spelling or None; absent: it must not be."""

    where: str
    uuid: str | None
    parent: str | None
    type: str | None
    absent: bool


@dataclass
class _Requests:
    """What the devices come to: specs by GPU; vGPUs to remove that are on no GPU of the host; troubles."""

    specs: dict[str, GpuSpec] = field(default_factory=dict)
    orphans: list[Vgpu] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)


def parse(devices: Sequence[Mapping[str, Any]]) -> list[Device]:
    """Devices from the module's list; raises EngineError with all that is wrong."""
    found: list[Device] = []
    troubles: list[Trouble] = []
    seen: dict[str, str] = {}
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
            troubles.append(duplicate(uuid, where, seen[uuid]))
        if uuid:
            seen[uuid] = where
        found.append(Device(where, uuid, parent, item.get("type"), absent))
    raise_if_any(troubles)
    return found


def plan(host: Host, devices: Sequence[Device], options: Options) -> LayoutPlan:
    """The plan for single devices; raises EngineError with all that is wrong."""
    requests = _Requests()
    for device in devices:
        if device.absent:
            _remove(requests, host, device)
    for device in devices:
        if not device.absent:
            _add(requests, host, device, devices)
    for pf, spec in requests.specs.items():
        _keep_others(spec, _gpus(host)[pf], devices)
    requests.troubles += guard_removal(requests.orphans, options)
    result = plan_listed(host, requests.specs, options, requests.troubles)
    # Nothing is done beside a GPU that fell off the bus: this module has no option for that.
    raise_if_any(one.problem for one in result.failing)
    result.steps[:0] = [order.remove(vgpu.parent, vgpu) for vgpu in requests.orphans]
    if options.mdevctl:
        undefined = {step.args["uuid"] for step in result.steps if step.kind == "undefine"}
        absent = {device.uuid for device in devices if device.absent} - undefined
        left = [definition for uuid, definition in host.definitions.items() if uuid in absent]
        result.steps += [order.undefine(_lane(host, one.parent), one) for one in left]
    return result


def placed(result: LayoutPlan, devices: Sequence[Device]) -> list[Placed]:
    """The requested devices as they will be, in the order of the request."""
    found = {one.where: one for target in result.target.gpus.values() for one in target.placed or ()}
    return [found[device.where] for device in devices if not device.absent]


def _gpus(host: Host) -> dict[str, Gpu]:
    return {gpu.address: gpu for gpu in host.inventory.gpus}


def _owner(host: Host, parent: str | None) -> Gpu | None:
    """The GPU whose PF or VF the address is."""
    for gpu in host.inventory.gpus:
        if parent == gpu.address or parent in [vf.address for vf in gpu.vfs]:
            return gpu
    return None


def _lane(host: Host, parent: str) -> str:
    """Address of the GPU that steps at a parent belong to; the parent itself if no GPU of the host has it."""
    gpu = _owner(host, parent)
    return gpu.address if gpu else parent


def _spec_of(requests: _Requests, gpu: Gpu) -> GpuSpec:
    return requests.specs.setdefault(gpu.address, GpuSpec(removes=set()))


def _remove(requests: _Requests, host: Host, device: Device) -> None:
    vgpu = next((one for one in host.inventory.mdevs if one.uuid == device.uuid), None)
    if vgpu is None:
        return
    if device.parent and device.parent != vgpu.parent:
        requests.troubles.append(
            Trouble(
                "the device %s to be removed is on %s" % (device.uuid, vgpu.parent),
                device=device.where,
                wanted="parent %s, or no parent given" % device.parent,
                code="uuid_elsewhere",
            )
        )
        return
    gpu = _owner(host, vgpu.parent)
    if gpu is None:
        requests.orphans.append(vgpu)
        return
    spec = _spec_of(requests, gpu)
    spec.removes = {*(spec.removes or ()), vgpu.key}


def _add(requests: _Requests, host: Host, device: Device, devices: Sequence[Device]) -> None:
    gpu = _owner(host, device.parent)
    if gpu is None:
        have = ", ".join("%s (%d VFs)" % (one.address, len(one.vfs)) for one in host.inventory.gpus)
        requests.troubles.append(
            Trouble(
                "%s is no NVIDIA GPU and no VF of one; this host has %s" % (device.parent, have or "no NVIDIA GPU"),
                device=device.where,
                wanted="a PF, or a VF that is on",
                remedy="VFs are turned on by nvidia_sriov.",
                code="unknown_parent",
            )
        )
        return
    if not gpu.uuids:
        requests.troubles.append(refusals.vendor_vfio(gpu))
        return
    spec = _spec_of(requests, gpu)
    index = next((vf.index for vf in gpu.vfs if vf.address == device.parent), None)
    one = VgpuSpec(str(device.type), device.uuid, index, device.where)
    if not one.uuid:
        named = {other.uuid for other in devices} | {other.uuid for other in spec.vgpus}
        one.uuid = _existing(gpu, one, [vgpu for vgpu in gpu.vgpus if vgpu.uuid not in named])
    spec.vgpus.append(one)


def _existing(gpu: Gpu, spec: VgpuSpec, vgpus: Sequence[Vgpu]) -> str | None:
    """UUID of the vGPU that is the requested one already: of its type, on its VF or on any VF of the PF."""
    found = vgpu_types.find(spec.type, gpu.types)
    return next((vgpu.uuid for vgpu in vgpus if found and vgpu.type == found.short and spec.index in (None, vgpu.index)), None)


def _keep_others(spec: GpuSpec, gpu: Gpu, devices: Sequence[Device]) -> None:
    """Adds the GPU's other vGPUs to its spec if one comes to them: they share its VFs and its framebuffer."""
    there = [vgpu.uuid for vgpu in gpu.vgpus]
    if all(one.uuid in there for one in spec.vgpus):
        return
    named = {device.uuid for device in devices} | {one.uuid for one in spec.vgpus}
    for vgpu in gpu.vgpus:
        if vgpu.uuid not in named and vgpu_types.find(vgpu.type, gpu.types):
            spec.vgpus.append(VgpuSpec(vgpu.type, vgpu.uuid, vgpu.index, managed=False))
