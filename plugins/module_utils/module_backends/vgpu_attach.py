# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs for libvirt's VMs, from options to the result."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from .. import _module
from ..engine.base.errors import trouble
from ..engine.base.steps import Step
from ..engine.libvirt import apply, plan
from ..engine.libvirt.placement import Options
from ..engine.libvirt.request import parse
from ..engine.read import inventory as reader
from ..engine.system import libvirt_xml, virsh
from ..engine.system.context import Context

VGPU: Dict[str, Any] = {
    "type": {"type": "str"},
    "count": {"type": "int"},
    "gpu": {"type": "str"},
    "uuid": {"type": "str"},
    "vf": {"type": "str"},
    "display": {"type": "bool"},
    "ramfb": {"type": "bool"},
}
DOMAIN: Dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "vgpus": {"type": "list", "elements": "dict", "default": [], "options": VGPU},
}


def _lines(domains: Sequence[libvirt_xml.Domain], names: Sequence[str]) -> str:
    """What the VMs have, one device a line, for the diff."""
    return "".join(
        "%s: %s%s\n" % (one.name, device.key, " (managed='yes')" if device.managed else "")
        for one in domains
        if one.name in names
        for device in sorted(one.defined or [], key=lambda device: device.key)
    )


def _after(domains: Sequence[libvirt_xml.Domain], steps: Sequence[Step], names: Sequence[str]) -> str:
    lines = set(_lines(domains, names).splitlines(True))
    for step in steps:
        hostdev = step.args.get("hostdev")
        if hostdev is None or step.args["live"]:
            continue
        lines -= {line for line in lines if line.startswith("%s: %s" % (step.device, hostdev.key))}
        if step.kind == "attach-device":
            lines.add("%s: %s\n" % (step.device, hostdev.key))
    return "".join(sorted(lines))


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    params = request.params
    requests = parse(params["domains"])
    if not params["connect"].startswith("qemu:///"):
        raise trouble(
            "%r is not libvirt of this host" % params["connect"][:80], device="connect", wanted="qemu:///system or another qemu:/// URI", code="bad_connect"
        )
    if requests:
        virsh.require_answer(ctx, params["connect"])
    domains, unreadable = libvirt_xml.all_domains(ctx.root)
    options = Options(params["exclusive"], params["live"], request.check_mode and "vgpus" in params["assume"])
    made = plan.plan(reader.read(ctx, with_types=False), domains, requests, options)
    if made.steps and not request.check_mode:
        apply.apply(ctx, params["connect"], made.steps, params["timeout"])
    names = [one.name for one in requests]
    before = "".join(sorted(_lines(domains, names).splitlines(True)))
    return {
        "changed": bool(made.steps),
        "actions": _module.sentences(made.steps),
        "attached": [{"vm": name, "device": key, "type": type_name} for name, key, type_name in made.target.attached],
        "diff": {"before": before, "after": _after(domains, made.steps, names), "before_header": "vGPUs of VMs", "after_header": "vGPUs of VMs"},
        "warnings": made.warnings + unreadable,
    }


SPEC: Dict[str, Any] = dict(
    {
        "domains": {"type": "list", "elements": "dict", "required": True, "options": DOMAIN},
        "exclusive": {"type": "bool", "default": True},
        "live": {"type": "bool", "default": False},
        "connect": {"type": "str", "default": "qemu:///system"},
        "timeout": {"type": "int", "default": 30},
        "assume": {"type": "list", "elements": "str", "default": [], "choices": ["vgpus"]},
    },
    **_module.LOCK
)
