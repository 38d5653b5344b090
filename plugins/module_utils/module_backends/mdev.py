# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single mediated devices, from options to the result."""

from __future__ import annotations

from .. import _module
from ..engine.checks import in_use
from ..engine.read import host, inventory
from ..engine.system import mdevctl
from ..engine.vgpu import apply as vgpu_apply, mdev_devices, plan as vgpu_plan


def _lines(found, steps):
    rows = {vgpu.uuid: "%s %s %s\n" % (vgpu.parent, vgpu.type, vgpu.uuid) for vgpu in found.mdevs}
    for step in steps:
        if step.kind == "remove":
            rows.pop(step.args["key"], None)
        if step.kind == "create":
            rows[step.args["uuid"]] = "%s %s %s\n" % (step.device, step.args["type"], step.args["uuid"])
    return "".join(sorted(rows.values()))


def work(module, ctx):
    params = module.params
    items = params["devices"]
    if items is None:
        items = [{key: params[key] for key in ("uuid", "parent", "type", "state")}]
    wanted = mdev_devices.parse(items)
    found = inventory.read(ctx)
    if not module.check_mode and any(not one.absent for one in wanted):
        found = inventory.await_types(
            ctx, found, [gpu.address for gpu in found.gpus if _named(gpu, wanted)], params["timeout"]
        )
    options = vgpu_plan.Options(
        params["force_remove"], _module.wants_mdevctl(module, mdevctl.binary(ctx))
    )
    state, definitions = host.read(ctx), mdevctl.definitions(ctx.root)
    result = mdev_devices.plan(found, state, wanted, definitions, options)
    if in_use.ask_driver(ctx, found, in_use.removed(result.steps)):
        result = mdev_devices.plan(found, state, wanted, definitions, options)
    if not module.check_mode:
        vgpu_apply.apply(ctx, result.steps, params["timeout"], params["settle"])
    return {
        "changed": bool(result.steps),
        "actions": _module.sentences(result.steps),
        "diff": {"before": _lines(found, []), "after": _lines(found, result.steps)},
        "devices": [
            {"uuid": uuid, "parent": parent, "type": one.short} for uuid, parent, one in result.devices
        ],
        "warnings": in_use.domain_warnings(ctx, in_use.removed(result.steps), "the vGPU goes"),
    }


def _named(gpu, wanted):
    addresses = {gpu.address} | {vf.address for vf in gpu.vfs}
    return any(one.parent in addresses for one in wanted)


_DEVICE = {
    "uuid": {"type": "str"},
    "parent": {"type": "str"},
    "type": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
SPEC = dict(
    _DEVICE,
    devices={"type": "list", "elements": "dict", "options": _DEVICE},
    force_remove={"type": "list", "elements": "str", "default": []},
    timeout={"type": "int", "default": 60},
    settle={"type": "float", "default": 2},
    **dict(_module.LOCK, **_module.MDEVCTL)
)
