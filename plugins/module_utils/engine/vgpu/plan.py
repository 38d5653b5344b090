# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a layout to steps: which vGPU goes on which VF, what stays, what goes. Pure.

What matches is kept; only surplus is removed, and never what somebody uses; free VFs are taken in
order of their number; a UUID follows from machine, PF and VF number: a vGPU that is created again
has the same UUID. On a framework without UUIDs the VF is what stays the same.
GPU instances of MIG and mixed-size mode come between what goes and what comes.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from ..base.errors import Trouble
from ..base.plan import Plan
from ..hardware.gpu import Gpu
from ..mig.placement import InstanceRequest, Instances, plan_instances
from ..read.inventory import Inventory
from .gpu_plan import guard_removal, plan_gpu
from .layout import GpuSpec, plain_params
from .order import add_steps
from .target import GpuRequest, GpuTarget, Host, LayoutPlan, Options, Target


def plan(host: Host, specs: Mapping[str, GpuSpec], options: Options, troubles: Sequence[Trouble] = (), listed_only: bool = False) -> LayoutPlan:
    """The plan for the specs per GPU (layout.by_gpu); raises EngineError with all that is wrong, the given errors first.

    listed_only: GPUs without a spec are left alone, for requests that are no layout.
    """
    result = Plan(Target(), troubles=list(troubles))
    explicit = {one.uuid for spec in specs.values() for one in spec.vgpus if one.uuid}
    for gpu in host.inventory.gpus:
        if gpu.address in specs and not result.skips(gpu, "bring its vGPUs to the layout", options.unresponsive):
            plan_gpu(result, GpuRequest(gpu, specs[gpu.address], host, options, explicit))
    for gpu in host.inventory.gpus:
        if gpu.address not in specs and gpu.alive and not listed_only:
            _plan_unlisted(result, host, gpu, options)
    result.troubles += _foreign_uuids(result, host, specs)
    result.refuse()
    add_steps(result, host, options)
    return result


def _plan_unlisted(result: LayoutPlan, host: Host, gpu: Gpu, options: Options) -> None:
    """A GPU that the layout does not name: our vGPUs go, others' stay."""
    target, stored = GpuTarget(), host.stored.get(gpu.address)
    for vgpu in gpu.vgpus:
        if stored and vgpu.key in stored.keys:
            target.removed.append(vgpu)
        else:
            text = "%s: the vGPU %s(%s) was not made by vgpu.kvm and its GPU is not in the layout; it stays"
            result.warnings.append(text % (vgpu.parent, vgpu.uuid + " " if vgpu.uuid else "", vgpu.type))
    result.troubles += guard_removal(target.removed, options)
    if stored and stored.mig is not None and gpu.mig and gpu.mig.current:
        if len(target.removed) == len(gpu.vgpus):  # somebody else's vGPUs keep their GPU instances
            target.instances = plan_instances(gpu, InstanceRequest([], [], gpu.mig.profiles))[0]
        target.mig = []
    result.target.gpus[gpu.address] = target


def _foreign_uuids(result: LayoutPlan, host: Host, specs: Mapping[str, GpuSpec]) -> list[Trouble]:
    """UUIDs that the user gives and that exist elsewhere on the host."""
    targets = list(result.target.gpus.values())
    fine = {vgpu.uuid for target in targets for vgpu in target.removed}
    fine |= {one.uuid for target in targets for one in target.placed or () if one.vgpu}
    for gpu in host.inventory.gpus:
        if gpu.address in specs and result.target.of(gpu.address).placed is None:  # nothing is decided there
            elsewhere = {(one.uuid, one.index) for one in specs[gpu.address].vgpus if one.index is not None}
            fine |= {vgpu.uuid for vgpu in gpu.vgpus if all(uuid != vgpu.uuid or index == vgpu.index for uuid, index in elsewhere)}
    existing = {vgpu.uuid: vgpu for vgpu in host.inventory.mdevs}
    return [
        Trouble(
            "the UUID %s exists already, as %s on %s" % (one.uuid, existing[one.uuid].type, existing[one.uuid].parent),
            device=pf, wanted="a UUID that is free on this host", code="uuid_elsewhere",
        )
        for pf, spec in sorted(specs.items()) for one in spec.vgpus if one.uuid in existing and one.uuid not in fine
    ]


def lines(inventory: Inventory, target: Target | None = None) -> str:
    """The host's vGPUs for a diff, one a line, GPU instances and mixed-size mode; with a target: as they will be."""
    rows = []
    for gpu in inventory.gpus:
        planned = target.of(gpu.address) if target else GpuTarget()
        change = planned.instances or Instances()
        going = [one.id for one in change.destroy]
        instances = gpu.mig.instances if gpu.mig and (gpu.mig.current or planned.instances) else []
        names = [one.profile for one in instances if one.id not in going] + [one.name for one in change.create]
        if names:
            rows.append("%s GPU instances: %s" % (gpu.address, " ".join(sorted(names))))
        if planned.mixed if planned.sets_mixed else gpu.mixed and gpu.mixed[1]:
            rows.append("%s mixed sizes" % gpu.address)
        vgpus = [
            (one.slot.index, one.slot.parent, one.type.short, one.key, one.present_params if one.params is None else one.params)
            for one in planned.placed or ()
        ]
        if planned.placed is None:
            staying = [vgpu for vgpu in gpu.vgpus if vgpu not in planned.removed]
            vgpus = [(vgpu.index, vgpu.parent, vgpu.type, vgpu.key, plain_params(vgpu.params)) for vgpu in staying]
        for dummy, parent, type_name, key, params in sorted(vgpus, key=lambda row: (row[0] or 0, row[3])):
            rows.append("%s %s%s%s" % (parent, type_name, "" if key == parent else " " + key, " " + params if params else ""))
    return "".join(row + "\n" for row in rows)
