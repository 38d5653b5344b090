# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_mdev module, which creates and removes single mediated devices."""

from __future__ import annotations

from typing import Sequence

from .. import _module
from ..engine.base.steps import Step
from ..engine.checks import in_use
from ..engine.read import host, inventory
from ..engine.system import mdevctl
from ..engine.vgpu import apply as vgpu_apply, mdev_devices
from ..engine.vgpu.target import Host, Options


def _lines(found: inventory.Inventory, steps: Sequence[Step]) -> str:
    rows = {vgpu.uuid: "%s %s %s\n" % (vgpu.parent, vgpu.type, vgpu.uuid) for vgpu in found.mdevs}
    for step in steps:
        if step.kind == "remove":
            rows.pop(step.args["key"], None)
        if step.kind == "create":
            rows[step.args["uuid"]] = "%s %s %s\n" % (step.device, step.args["type"], step.args["uuid"])
    return "".join(sorted(rows.values()))


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    single = [{key: params[key] for key in _DEVICE}]
    devices = mdev_devices.parse(single if params["devices"] is None else params["devices"])
    found = inventory.read(ctx)
    if not request.check_mode and any(not one.absent for one in devices):
        parents = {one.parent for one in devices}
        meant = [gpu.address for gpu in found.gpus if parents & {gpu.address, *[vf.address for vf in gpu.vfs]}]
        found = inventory.await_types(ctx, found, meant, params["timeout"])
    inventory.read_mixed(ctx, [gpu for gpu in found.gpus if gpu.alive and mdev_devices.several_types(gpu, devices)])
    options = Options(force_remove=params["force_remove"], mdevctl=_module.wants_mdevctl(request, mdevctl.binary(ctx)), persist=False)
    known = Host(found, host.read(ctx), definitions=mdevctl.definitions(ctx.root))
    plan = in_use.settled(ctx, found, lambda: mdev_devices.plan(known, devices, options), lambda made: in_use.touched(made.steps))
    if not request.check_mode:
        vgpu_apply.apply(ctx, plan, params["timeout"], params["settle"])
    return _module.result_of(
        plan.steps,
        diff={"before": _lines(found, []), "after": _lines(found, plan.steps)},
        devices=[{"uuid": one.uuid, "parent": one.slot.parent, "type": one.type.short} for one in mdev_devices.placed(plan, devices)],
        warnings=in_use.domain_warnings(ctx, in_use.removed(plan.steps), "the vGPU is removed"),
    )


_DEVICE: _module.Spec = {**_module.options("str", "uuid", "parent", "type"), **_module.STATE}
SPEC: _module.Spec = {
    **_DEVICE,
    **_module.FORCE,
    **_module.MDEVCTL,
    "devices": {"type": "list", "elements": "dict", "options": _DEVICE},
    "timeout": {"type": "int", "default": 60},
    "settle": {"type": "float", "default": 2},
}
main = _module.main_of(
    SPEC, work, mutually_exclusive=[("devices", "uuid"), ("devices", "parent"), ("devices", "type")], required_one_of=[("devices", "uuid", "parent")]
)
