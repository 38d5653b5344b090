# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs for libvirt's VMs, from options to the result."""

from __future__ import annotations

from typing import Sequence

from .. import _module
from ..engine.base.errors import error
from ..engine.base.steps import Step
from ..engine.frameworks.mdev import Mdev
from ..engine.hardware import address, catalog
from ..engine.libvirt import apply, plan
from ..engine.libvirt.placement import Options
from ..engine.libvirt.request import parse
from ..engine.read import inventory as reader
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
    """A device of a VM as the diff shows it."""
    words = ["managed='yes'"] if device.managed and not device.mediated else []
    words += [name for name, value in (("display", device.display), ("ramfb", device.ramfb)) if value]
    return "%s: %s%s\n" % (vm, device.key, " (%s)" % ", ".join(words) if words else "")


def _lines(domains: Sequence[libvirt_xml.Domain], names: Sequence[str], steps: Sequence[Step]) -> str:
    """What the VMs have once the steps are done, one device a line, for the diff."""
    devices = {(one.name, device.key): device for one in domains if one.name in names for device in one.defined or []}
    for step in steps:
        if step.args.get("live") is False:
            devices.pop((step.device or "", step.args["hostdev"].key), None)
            if step.kind != "detach-device":
                devices[step.device or "", step.args["hostdev"].key] = step.args["hostdev"]
    return "".join(sorted(_line(vm, device) for (vm, dummy), device in devices.items()))


def _foreign(ctx: _module.Context) -> set[str]:
    """Mediated devices that are there, whosever they are (types of Intel's have no name), or that mdevctl has for a parent other than NVIDIA's."""

    def other(parent: str) -> bool:
        return not address.is_address(parent) or ctx.sysfs.read_or("%s/%s/vendor" % (PCI, parent), catalog.NVIDIA).lower() != catalog.NVIDIA

    defined = [one for found in mdevctl.definitions(ctx.root).values() for one in found.all]
    return {*ctx.sysfs.list(Mdev.devices), *(one.uuid.lower() for one in defined if other(one.parent))}


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    connect = params["connect"]
    requests = parse(params["domains"])
    if connect.partition("?")[0] != "qemu:///system":
        expected = "qemu:///system: the VMs of a session have their files elsewhere, and their user can't use vGPUs"
        raise error("%r is not the system's libvirt of this host" % connect[:80], device="connect", expected=expected, code="bad_connect")
    if requests:
        virsh.require_answer(ctx, connect)
    domains, unreadable = libvirt_xml.all_domains(ctx)
    options = Options(params["exclusive"], params["live"], request.check_mode and "vgpus" in params["check_mode_assume"], _foreign(ctx))
    made = plan.plan(reader.read(ctx, with_types=False), domains, requests, options)
    if made.steps and not request.check_mode:
        apply.apply(ctx, connect, made.steps, params["timeout"])
    names = [one.name for one in requests]
    return _module.result_of_plan(
        made,
        unreadable,
        attached=[{"vm": name, "device": key, "type": type_name} for name, key, type_name in made.target.attached],
        diff=_module.titled_diff("vGPUs of VMs", _lines(domains, names, []), _lines(domains, names, made.steps)),
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
