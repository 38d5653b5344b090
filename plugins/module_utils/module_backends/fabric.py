# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_fabric module, which manages Fabric Manager on a host with NVSwitches."""

from __future__ import annotations

from functools import partial

from .. import _module
from ..engine.base.errors import EngineError, raise_if_any
from ..engine.base.steps import Step
from ..engine.checks import in_use
from ..engine.fabric import apply, service
from ..engine.fabric.plan import takes_card
from ..engine.read import fabric as fabric_reader, host, inventory
from ..engine.runs import fabric as fabric_run
from ..engine.state import fabric_record
from ..engine.vgpu import layout


def needed(request: _module.Task, ctx: _module.Context, found: inventory.Inventory) -> bool:
    """Returns whether the host needs Fabric Manager because it has NVSwitches and the layout, if given, has a whole-card vGPU."""
    if not any(fabric_reader.present(ctx, found)):
        return False
    if request.params["state"] == "absent" or request.params["layout"] is None:
        return True
    specs = layout.by_gpu(layout.parse(request.params["layout"])[0], found)[0]
    return any(takes_card(gpu, one.type) for gpu in found.gpus if gpu.address in specs for one in specs[gpu.address].vgpus)


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params, found = request.params, inventory.read(ctx)
    nothing = _module.result_of([], fabric=None, installs=None, packages=[], diff={"before": "", "after": ""})
    if not needed(request, ctx, found):
        return nothing
    fabric = fabric_reader.read(ctx, found)
    if fabric is None:
        return nothing
    driver = host.read_driver(ctx, params["timeout"])
    make = partial(_plan, request, found, fabric, driver.loaded or driver.on_disk)
    plan = in_use.settled(ctx, found, make, lambda made: [vgpu.key for vgpu in found.vgpus] if service.interrupts(made) else [])
    plan.refuse()
    packages = list(fabric.record.packages)
    done: list[Step] = []
    if not request.check_mode:
        if params["state"] == "absent":  # An empty layout deactivates all partitions.
            dummy, done, failed = fabric_run.converge(ctx, {}, 0)
            raise_if_any(one for exc in failed for one in exc.errors)
        apply.set_up(ctx, plan.steps, params["timeout"])
        packages = _noted(ctx, params)
        if params["state"] == "present":
            fabric = _answering(ctx, found, params["timeout"])
    steps = [*done, *plan.steps]
    before = "FABRIC_MODE=%s, %s\n" % (fabric.manager.mode, fabric.manager.unit.get("active"))
    after = before if not steps else "".join("%s\n" % step for step in steps)
    return _module.result_of(
        steps, fabric=fabric.as_dict(), installs=plan.target.installs, packages=packages, diff={"before": before, "after": after},
    )


def _plan(request: _module.Task, found: inventory.Inventory, fabric: fabric_reader.Fabric, driver: str | None) -> service.ServicePlan:
    """Returns the plan for the Fabric Manager service. The plan does not disrupt processes that use GPUs in the inventory."""
    jobs = {gpu.address: ", ".join(map(str, found.jobs_on(gpu))) for gpu in found.gpus if found.jobs_on(gpu)}
    users = {**fabric_run.users(found), **jobs}
    if request.params["state"] == "present":
        return service.plan(fabric, driver, users, request.check_mode)
    return service.undo(fabric, users)


def _noted(ctx: _module.Context, params: dict[str, object]) -> list[str]:
    """Returns the packages that the collection installed. If state is absent, also deletes the record, and the caller uninstalls the packages."""
    record = fabric_record.read(ctx)
    before, given = list(record.packages), params["packages"]
    record.packages = sorted({*before, *map(str, given)}) if params["state"] == "present" and isinstance(given, list) else []
    if record.packages != before:
        fabric_record.write(ctx, record)
    return record.packages or before


def _answering(ctx: _module.Context, found: inventory.Inventory, timeout: float) -> fabric_reader.Fabric:
    """Waits for Fabric Manager to respond and returns the fabric. Raises EngineError if Fabric Manager does not respond in time."""
    fabric = fabric_run.awaited(ctx, found, timeout)
    if fabric is None or fabric.partitions is None:
        raise EngineError(fabric.silence if fabric and fabric.silence else [])
    return fabric


SPEC: _module.Spec = {
    **_module.STATE,
    "layout": _module.LAYOUT,
    "packages": _module.STRINGS,
    "timeout": {"type": "int", "default": 300},
}
main = _module.main_of(SPEC, work)
