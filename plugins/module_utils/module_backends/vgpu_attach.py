# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs for libvirt's VMs, from options to the result."""

from __future__ import annotations

from typing import Sequence

from .. import _module
from ..engine.base.errors import error
from ..engine.base.steps import Step
from ..engine.libvirt import apply, plan
from ..engine.libvirt.placement import Options
from ..engine.libvirt.request import parse
from ..engine.read import inventory as reader
from ..engine.system import libvirt_xml, virsh

VGPU: _module.Spec = {
    **_module.options("str", "type", "gpu", "uuid", "vf"),
    **_module.options("bool", "display", "ramfb"),
    "count": {"type": "int"},
}
DOMAIN: _module.Spec = {
    "name": {"type": "str", "required": True},
    "vgpus": {"type": "list", "elements": "dict", "default": [], "options": VGPU},
}


def _lines(domains: Sequence[libvirt_xml.Domain], names: Sequence[str]) -> set[str]:
    """What the VMs have, one device a line, for the diff."""
    return {
        "%s: %s%s\n" % (one.name, device.key, " (managed='yes')" if device.managed else "")
        for one in domains
        if one.name in names
        for device in one.defined or []
    }


def _after(lines: set[str], steps: Sequence[Step]) -> set[str]:
    """The lines as they will be."""
    for step in steps:
        hostdev = step.args.get("hostdev")
        if hostdev is not None and not step.args["live"]:
            line = "%s: %s" % (step.device, hostdev.key)
            lines = {one for one in lines if not one.startswith(line)}
            if step.kind == "attach-device":
                lines.add(line + "\n")
    return lines


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    connect = params["connect"]
    requests = parse(params["domains"])
    if not connect.startswith("qemu:///"):
        expected = "qemu:///system or another qemu:/// URI"
        raise error("%r is not libvirt of this host" % connect[:80], device="connect", expected=expected, code="bad_connect")
    if requests:
        virsh.require_answer(ctx, connect)
    domains, unreadable = libvirt_xml.all_domains(ctx.root)
    options = Options(params["exclusive"], params["live"], request.check_mode and "vgpus" in params["check_mode_assume"])
    made = plan.plan(reader.read(ctx, with_types=False), domains, requests, options)
    if made.steps and not request.check_mode:
        apply.apply(ctx, connect, made.steps, params["timeout"])
    lines = _lines(domains, [one.name for one in requests])
    return _module.result_of_plan(
        made,
        unreadable,
        attached=[{"vm": name, "device": key, "type": type_name} for name, key, type_name in made.target.attached],
        diff=_module.titled_diff("vGPUs of VMs", "".join(sorted(lines)), "".join(sorted(_after(lines, made.steps)))),
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
