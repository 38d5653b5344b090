# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans single mediated devices: a UUID, parent, and type, or a device to remove. This module does not access the host.

The planner converts devices to GPU requests, and plans the requests like a layout. A GPU's other vGPUs are not changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ..base import refusals
from ..base.errors import EngineError, Refusal, raise_if_any
from ..hardware import vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from . import plan as layout_plan
from .gpu_plan import guard_removal
from .layout import GpuSpec, VgpuSpec, check_ids, duplicate
from .target import Host, LayoutPlan, Options, Placed


@dataclass(eq=False, repr=False)
class Device:
    """One requested device.

    ``where`` is the device's entry in the request. ``parent`` is an address in sysfs format, or None. ``absent`` requests removal of the device.
    """

    where: str
    uuid: str | None
    parent: str | None
    type: str | None
    absent: bool


def parse(devices: Sequence[Mapping[str, Any]]) -> list[Device]:
    """Returns the devices listed in the module options. Raises EngineError with all errors."""
    found: list[Device] = []
    errors: list[Refusal] = []
    seen: dict[str, str] = {}
    for number, item in enumerate(devices):
        where = "devices[%d]" % number
        absent = item.get("state") == "absent"
        try:
            uuid, parent = check_ids(item.get("uuid"), item.get("parent"), where)
        except EngineError as exc:
            errors += exc.errors
            continue
        if absent and not uuid:
            errors.append(Refusal("a device to remove has no uuid", device=where, expected="the uuid of the device"))
        if not absent and not (parent and item.get("type")):
            errors.append(Refusal("parent or type is missing", device=where, expected="a VF or a PF as the parent, and a type"))
        if uuid and uuid in seen:
            errors.append(duplicate(uuid, where, seen[uuid]))
        if uuid:
            seen[uuid] = where
        found.append(Device(where, uuid, parent, item.get("type"), absent))
    raise_if_any(errors)
    return found


def plan(host: Host, devices: Sequence[Device], options: Options) -> LayoutPlan:
    """Plans single mediated devices. Raises EngineError with all errors."""
    requests = _Requests(host, devices)
    # Removals come first, followed by devices on VFs, and then devices on a PF, which use the remaining VFs.
    pfs = [gpu.address for gpu in host.inventory.gpus]
    for device in sorted(devices, key=lambda one: (not one.absent, one.parent in pfs)):
        if device.absent:
            requests.remove(device)
        else:
            requests.add(device)
    requests.keep_others()
    errors = requests.errors + guard_removal(requests.orphans, options)
    result = layout_plan.plan(host, requests.specs, options, errors, listed_only=True)
    # A GPU that fell off the bus causes the run to fail, because the module has no option to skip the GPU.
    raise_if_any(one.problem for one in result.failing)
    result.steps[:0] = [layout_plan.remove(vgpu.parent, vgpu) for vgpu in requests.orphans]
    if options.mdevctl:
        absent = {device.uuid for device in devices if device.absent} - {step.args["uuid"] for step in result.steps if step.kind == "undefine"}
        for definition in [one for found in host.definitions.values() for one in found.all if one.uuid in absent]:
            gpu = requests.owner(definition.parent)
            result.steps.append(layout_plan.undefine(gpu.address if gpu else definition.parent, definition))
    return result


def several_types(gpu: Gpu, devices: Sequence[Device]) -> bool:
    """Returns whether the GPU may get vGPUs of several types, for which mixed-size mode is relevant."""
    own = [gpu.address] + [vf.address for vf in gpu.vfs]
    return len({vgpu.type for vgpu in gpu.vgpus} | {one.type for one in devices if not one.absent and one.parent in own}) > 1


def placed(result: LayoutPlan, devices: Sequence[Device]) -> list[Placed]:
    """Returns the planned devices in request order."""
    found = {one.spec.where: one for target in result.target.gpus.values() for one in target.placed or ()}
    return [found[device.where] for device in devices if not device.absent]


@dataclass(eq=False, repr=False)
class _Requests:
    """The converted requests: specs keyed by GPU, errors, and ``orphans``, which are vGPUs to remove that are not on any of the host's GPUs."""

    host: Host
    devices: Sequence[Device]
    specs: dict[str, GpuSpec] = field(default_factory=dict)
    orphans: list[Vgpu] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)

    def owner(self, parent: str | None) -> Gpu | None:
        """Returns the GPU whose PF or VF has the given address, or None."""
        return next((gpu for gpu in self.host.inventory.gpus if parent in [gpu.address] + [vf.address for vf in gpu.vfs]), None)

    def _spec_of(self, gpu: Gpu) -> GpuSpec:
        return self.specs.setdefault(gpu.address, GpuSpec(removes=set(), mixed=bool(gpu.mixed and gpu.mixed[1])))

    def _unnamed(self, gpu: Gpu) -> list[Vgpu]:
        """Returns the GPU's vGPUs that match no requested device."""
        named = {one.uuid for one in self.devices} | {one.uuid for one in self._spec_of(gpu).vgpus}
        return [vgpu for vgpu in gpu.vgpus if vgpu.uuid not in named]

    def remove(self, device: Device) -> None:
        """Adds a request to remove a device."""
        vgpu = next((one for one in self.host.inventory.mdevs if one.uuid == device.uuid), None)
        if vgpu is None:
            return
        gpu = self.owner(vgpu.parent)
        if device.parent and device.parent != vgpu.parent:
            found = "the device %s to remove has the parent %s" % (device.uuid, vgpu.parent)
            expected = "the parent %s, or a request without a parent" % device.parent
            self.errors.append(Refusal(found, device=device.where, expected=expected, code="uuid_elsewhere"))
        elif gpu is None:
            self.orphans.append(vgpu)
        else:
            spec = self._spec_of(gpu)
            spec.removes = {*(spec.removes or ()), vgpu.key}

    def add(self, device: Device) -> None:
        """Adds a request to create a device. If no UUID is given, an existing device with the same type and parent is used."""
        gpu = self.owner(device.parent)
        if gpu is None:
            have = ", ".join("%s (%d VFs)" % (one.address, len(one.vfs)) for one in self.host.inventory.gpus)
            self.errors.append(Refusal(
                "%s is neither an NVIDIA GPU nor a VF of an NVIDIA GPU, and this host has %s" % (device.parent, have or "no NVIDIA GPU"),
                device=device.where, expected="a PF or an enabled VF", remedy="Enable the VFs with the nvidia_sriov module.", code="unknown_parent",
            ))
        elif not gpu.uuids:
            self.errors.append(refusals.vendor_vfio(gpu))
        else:
            index = next((vf.index for vf in gpu.vfs if vf.address == device.parent), None)
            one = VgpuSpec(str(device.type), device.uuid, index, device.where)
            kind = vgpu_types.find(one.type, gpu.types)
            if kind and not one.uuid:
                there = [vgpu for vgpu in self._unnamed(gpu) if vgpu.type == kind.short and index in (None, vgpu.index)]
                one.uuid = there[0].uuid if there else None
            self._spec_of(gpu).vgpus.append(one)

    def keep_others(self) -> None:
        """Adds a GPU's other vGPUs to the spec if a vGPU is created, because all vGPUs share the GPU's VFs and framebuffer."""
        for gpu in [gpu for gpu in self.host.inventory.gpus if gpu.address in self.specs]:
            there, spec = [vgpu.uuid for vgpu in gpu.vgpus], self.specs[gpu.address]
            if not all(one.uuid in there for one in spec.vgpus):
                others = [vgpu for vgpu in self._unnamed(gpu) if vgpu_types.find(vgpu.type, gpu.types)]
                spec.vgpus += [VgpuSpec(vgpu.type, vgpu.uuid, vgpu.index, managed=False) for vgpu in others]
