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
from ..frameworks import likely_uuids
from ..hardware.gpu import Gpu
from ..mig.placement import InstanceRequest, plan_instances
from .gpu_plan import guard_removal, plan_gpu
from .layout import GpuSpec
from .order import add_steps
from .target import GpuRequest, GpuTarget, Host, LayoutPlan, Options, Target


def plan(host: Host, specs: Mapping[str, GpuSpec], options: Options, troubles: Sequence[Trouble] = ()) -> LayoutPlan:
    """The plan for the specs per GPU (layout.by_gpu); raises EngineError with all that is wrong, the given troubles first."""
    result = _plan_gpus(host, specs, options, troubles)
    for gpu in host.inventory.gpus:
        if gpu.address not in specs and gpu.alive:
            _plan_unlisted(result, host, gpu, options)
    return _finished(result, host, specs, options)


def plan_listed(host: Host, specs: Mapping[str, GpuSpec], options: Options, troubles: Sequence[Trouble] = ()) -> LayoutPlan:
    """As plan, for requests that are no layout: GPUs without a spec are left alone."""
    return _finished(_plan_gpus(host, specs, options, troubles), host, specs, options)


def _plan_gpus(host: Host, specs: Mapping[str, GpuSpec], options: Options, troubles: Sequence[Trouble]) -> LayoutPlan:
    result = Plan(Target(), troubles=list(troubles))
    state = host.state
    taken = [vgpu.uuid for vgpu in host.inventory.mdevs if vgpu.uuid]
    explicit = {one.uuid for spec in specs.values() for one in spec.vgpus if one.uuid}
    for gpu in host.inventory.gpus:
        spec = specs.get(gpu.address)
        if spec is None or result.skips(gpu, "bring its vGPUs to the layout", options.unresponsive):
            continue
        predicted = gpu.framework == "none" and "vfs" in options.assume
        uuids = likely_uuids(state.kernel) if predicted and gpu.sriov else gpu.uuids
        request = GpuRequest(
            gpu, spec, host.stored.get(gpu.address), predicted=predicted, uuids=uuids, taken=taken, explicit=explicit, machine_id=state.machine_id
        )
        plan_gpu(result, host, request, options)
    return result


def _finished(result: LayoutPlan, host: Host, specs: Mapping[str, GpuSpec], options: Options) -> LayoutPlan:
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
            result.warnings.append(
                "%s: the vGPU %s(%s) was not made by vgpu.kvm and its GPU is not in the layout; it stays"
                % (vgpu.parent, vgpu.uuid + " " if vgpu.uuid else "", vgpu.type)
            )
    result.troubles += guard_removal(target.removed, options)
    if stored and stored.mig is not None and gpu.mig and gpu.mig.current:
        if len(target.removed) == len(gpu.vgpus):  # somebody else's vGPUs keep their GPU instances
            target.instances = plan_instances(gpu, InstanceRequest([], [], gpu.mig.profiles))[0]
        target.mig = []
    result.target.gpus[gpu.address] = target


def _foreign_uuids(result: LayoutPlan, host: Host, specs: Mapping[str, GpuSpec]) -> list[Trouble]:
    """UUIDs that the user gives and that exist elsewhere on the host."""
    targets = list(result.target.gpus.values())
    going = {vgpu.uuid for target in targets for vgpu in target.removed}
    kept = {one.uuid for target in targets for one in target.placed or () if one.vgpu}
    for gpu in host.inventory.gpus:
        if gpu.address in specs and result.target.of(gpu.address).placed is None:  # nothing is decided there
            elsewhere = {(one.uuid, one.index) for one in specs[gpu.address].vgpus if one.index is not None}
            kept |= {vgpu.uuid for vgpu in gpu.vgpus if all(uuid != vgpu.uuid or index == vgpu.index for uuid, index in elsewhere)}
    existing = {vgpu.uuid: vgpu for vgpu in host.inventory.mdevs}
    return [
        Trouble(
            "the UUID %s exists already, as %s on %s" % (one.uuid, existing[one.uuid].type, existing[one.uuid].parent),
            device=pf,
            wanted="a UUID that is free on this host",
            code="uuid_elsewhere",
        )
        for pf, spec in sorted(specs.items())
        for one in spec.vgpus
        if one.uuid in existing and one.uuid not in going | kept
    ]
