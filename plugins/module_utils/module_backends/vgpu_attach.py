# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_vgpu_attach module, which attaches vGPUs to libvirt VMs."""

from __future__ import annotations

from typing import Sequence

from .. import _module
from ..engine.base.errors import error, raise_if_any
from ..engine.base.plan import Plan
from ..engine.base.steps import Step
from ..engine.fabric.plan import Card, chosen as choose
from ..engine.frameworks.mdev import Mdev
from ..engine.hardware import address, catalog
from ..engine.libvirt import apply, plan
from ..engine.libvirt.placement import Options
from ..engine.libvirt.request import DomainRequest, parse
from ..engine.read import fabric as fabric_reader, inventory as reader
from ..engine.runs import fabric
from ..engine.state import layout_file
from ..engine.system import libvirt_xml, mdevctl, virsh
from ..engine.system.sysfs import PCI

VGPU: _module.Spec = {
    **_module.options("str", "type", "gpu", "uuid", "vf"),
    **_module.options("bool", "display", "ramfb"),
    "count": {"type": "int"},
}
DOMAIN: _module.Spec = {
    "name": {"type": "str", "required": True},
    "vgpus": {"type": "list", "elements": "dict", "default": [], "options": VGPU},
}


def _line(vm: str, device: libvirt_xml.Hostdev) -> str:
    """Returns one line of the diff for a VM's device."""
    words = ["managed='yes'"] if device.managed and not device.mediated else []
    words += [name for name, value in (("display", device.display), ("ramfb", device.ramfb)) if value]
    return "%s: %s%s\n" % (vm, device.key, " (%s)" % ", ".join(words) if words else "")


def _lines(domains: Sequence[libvirt_xml.Domain], names: Sequence[str], steps: Sequence[Step]) -> str:
    """Returns the lines of the diff for the devices that the VMs have after the steps."""
    devices = {(one.name, device.key): device for one in domains if one.name in names for device in one.defined or []}
    for step in steps:
        if step.args.get("live") is False:
            devices.pop((step.device or "", step.args["hostdev"].key), None)
            if step.kind != "detach-device":
                devices[step.device or "", step.args["hostdev"].key] = step.args["hostdev"]
    return "".join(sorted(_line(vm, device) for (vm, dummy), device in devices.items()))


def _foreign(ctx: _module.Context) -> set[str]:
    """Returns the UUIDs of all mediated devices of any vendor, and of other vendors' devices that mdevctl defines.

    Intel's mediated device types have no names.
    """

    def other(parent: str) -> bool:
        return not address.is_address(parent) or ctx.sysfs.read_or("%s/%s/vendor" % (PCI, parent), catalog.NVIDIA).lower() != catalog.NVIDIA

    defined = [one for found in mdevctl.definitions(ctx.root).values() for one in found.all]
    return {*ctx.sysfs.list(Mdev.devices), *(one.uuid.lower() for one in defined if other(one.parent))}


def _cards(ctx: _module.Context, found: reader.Inventory) -> list[Card]:
    """Returns the whole-card vGPUs of a host with NVSwitches, or an empty list on other hosts."""
    if not any(fabric_reader.present(ctx, found)):
        return []
    return fabric.cards_there(reader.read(ctx), layout_file.read(ctx.root), others=True)


def _preferred(
    ctx: _module.Context, found: reader.Inventory, cards: Sequence[Card], domains: Sequence[libvirt_xml.Domain], requests: Sequence[DomainRequest]
) -> dict[str, list[str]]:
    """Returns the whole-card vGPUs of one partition to prefer for each VM with several whole-card vGPUs, keyed by VM name."""
    numbers = {one.name: len(one.vgpus) for one in requests if len(one.vgpus) > 1 and all(vgpu.type for vgpu in one.vgpus)}
    board = fabric_reader.read(ctx, found) if cards and numbers else None
    taken = {key: one.name for one in domains for key in one.devices}
    return choose(board, cards, numbers, taken) if board else {}


def _partitions(ctx: _module.Context, found: reader.Inventory, cards: Sequence[Card], made: Plan[plan.Target]) -> fabric.Run:
    """Returns the fabric plan for the VMs' planned devices. Raises EngineError if the whole-card vGPUs of a VM do not form one partition."""
    coming: dict[str, list[str]] = {}
    for vm, key, dummy in made.target.attached:
        coming.setdefault(vm, []).append(key)
    run = fabric.prepare(ctx, found, fabric.wanted(ctx, cards, coming), fabric.Options())
    raise_if_any(run.plan.errors)
    return run


def _attached(ctx: _module.Context, request: _module.Task, steps: Sequence[Step]) -> Sequence[Step]:
    if steps:
        apply.apply(ctx, request.params["connect"], steps, request.params["timeout"])
    return steps


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    connect = params["connect"]
    requests = parse(params["domains"])
    if connect.partition("?")[0] != "qemu:///system":
        expected = "qemu:///system, because session VMs store their files elsewhere and run as a user that cannot use vGPUs"
        raise error("%r is not the system instance of libvirt on this host" % connect[:80], device="connect", expected=expected, code="bad_connect")
    if requests:
        virsh.require_answer(ctx, connect)
    domains, unreadable = libvirt_xml.all_domains(ctx)
    options = Options(params["exclusive"], params["live"], request.check_mode and "vgpus" in params["check_mode_assume"], _foreign(ctx))
    found = reader.read(ctx, with_types=False)
    cards = _cards(ctx, found)
    options.preferred = _preferred(ctx, found, cards, domains, requests)
    made = plan.plan(found, domains, requests, options)
    partitions = _partitions(ctx, found, cards, made)
    attaching = list(made.steps)
    if not request.check_mode:
        fabric.apply(ctx, partitions.plan.steps, lambda: _attached(ctx, request, attaching), len(attaching))
    names = [one.name for one in requests]
    made.steps += partitions.plan.steps
    return _module.result_of_plan(
        made,
        [*partitions.plan.warnings, *unreadable],
        attached=[{"vm": name, "device": key, "type": type_name} for name, key, type_name in made.target.attached],
        diff=_module.titled_diff("vGPUs of VMs", _lines(domains, names, []), _lines(domains, names, attaching)),
    )


SPEC: _module.Spec = {
    "domains": {"type": "list", "elements": "dict", "required": True, "options": DOMAIN},
    "exclusive": {"type": "bool", "default": True},
    "live": {"type": "bool", "default": False},
    "connect": {"type": "str", "default": "qemu:///system"},
    "timeout": {"type": "int", "default": 30},
    "check_mode_assume": {**_module.STRINGS, "choices": ["vgpus"]},
}
main = _module.main_of(SPEC, work)
