# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the stored layout back at boot: MIG mode and VFs GPU by GPU, then GPU instances, mixed-size mode and vGPUs.

sriov-manage takes one GPU at a time: it writes the id of the model into pci-pf-stub, which takes an id only once.
vGPUs are made on all GPUs at the same time, each as soon as it offers its types. Nothing is ever removed here.
One GPU's failure does not stop the others.
"""

from __future__ import annotations

from ..base import refusals
from ..base.clock import until
from ..base.errors import EngineError, Trouble
from ..base.steps import ApplyError
from ..binding import plan as binding_plan
from ..mig import apply as mig_apply, plan as mig_plan
from ..read import host, inventory as reader
from ..sriov import apply as sriov_apply, plan as sriov_plan
from ..state import layout_file
from ..system import sriov_manage
from ..vgpu import apply as vgpu_apply, plan as vgpu_plan
from ..vgpu.layout import Wish, Wishes


# Steps that take nothing away.
BRINGS = ("create", "params", "mig_create", "mig_compute", "mixed")


class Report:
    """What was done, and the troubles; say(text) is told of each as it happens.

    vgpus: how many of the stored ones are there. after: seconds from the driver being ready to the last of them.
    """

    def __init__(self, say):
        self.done = []
        self.troubles = []
        self.vgpus = 0
        self.after = 0.0
        self._say = say

    def did(self, steps):
        """Notes steps that were done."""
        for step in steps:
            self.done.append(str(step))
            self._say(str(step))

    def failed(self, exc):
        """Notes an EngineError; of an ApplyError also what was done before it."""
        self.did(exc.done if isinstance(exc, ApplyError) else ())
        self.troubles += exc.troubles
        for one in exc.troubles:
            self._say("FAILED: %s" % one)


def restore(ctx, timeout, settle, say):
    """Brings everything back; returns the Report. timeout: seconds for each wait; settle: seconds that vGPUs are watched."""
    report = Report(say)
    stored = layout_file.read(ctx.root)
    _await_driver(ctx, stored, timeout)
    ready = ctx.clock.now()
    inventory, state = reader.read(ctx, with_types=False), host.read(ctx)
    waiting = []
    for pf in sorted(stored):
        try:
            report.did(_bring_gpu(ctx, inventory, state, stored[pf], pf, timeout))
        except EngineError as exc:
            report.failed(exc)
            continue
        if stored[pf].vgpus or stored[pf].mig:
            waiting.append(pf)
    made = []

    def all_made():
        seen = reader.read(ctx, with_types=False)
        come = [pf for pf in waiting if seen.gpu(pf) is None or reader.types_there(ctx, seen.gpu(pf))]
        if come:
            made.extend(_bring_vgpus(ctx, state, stored, come, timeout, report))
            waiting[:] = [pf for pf in waiting if pf not in come]
        return not waiting

    if waiting and not until(ctx.clock, all_made, timeout):
        made += _bring_vgpus(ctx, state, stored, list(waiting), timeout, report)  # what is missing the plan tells
    report.after = ctx.clock.now() - ready
    _watch(ctx, made, settle, report)
    return report


def _await_driver(ctx, stored, timeout):
    """Waits until the GPUs are bound to nvidia: udev and nvidia-vgpud may still be at work. One that is not there won't come."""

    def bound():
        places = ["%s/%s" % (binding_plan.PCI, pf) for pf in stored]
        return all(ctx.sysfs.link(place + "/driver") == "nvidia" for place in places if ctx.sysfs.exists(place))

    until(ctx.clock, bound, min(timeout, 30))


def _bring_gpu(ctx, inventory, state, wanted, pf, timeout):
    """MIG mode and VFs of one GPU; returns the steps."""
    gpu = inventory.gpu(pf)
    if gpu is None:
        raise EngineError(
            Trouble("the GPU is not there any more", device=pf, remedy="If it was taken out, remove it from the layout.", code="gpu_gone")
        )
    if not gpu.alive:
        raise EngineError(refusals.off_bus(gpu))
    done = []
    if wanted.mig:
        # Ampere keeps the mode over a reboot, Hopper and later may lose it.
        reader.read_mig(ctx, [gpu])
        plan = mig_plan.plan(inventory, state, {pf: mig_plan.Wanted(True)})
        done += mig_apply.apply(ctx, plan.steps, timeout)
        if plan.steps:
            inventory = reader.read(ctx, with_types=False)
    if wanted.vfs:
        plan = sriov_plan.plan(inventory, state, [pf], True, wanted.vfs, has_tool=sriov_manage.installed(ctx))
        done += sriov_apply.apply(ctx, plan, timeout, 0)  # agents start after this; vGPUs are watched below
    return done


def _bring_vgpus(ctx, state, stored, pfs, timeout, report):
    """GPU instances, mixed-size mode and vGPUs of some GPUs; returns the steps that made vGPUs."""
    inventory = reader.read(ctx)
    existing = {vgpu.uuid for vgpu in inventory.mdevs}
    steps = []
    for pf in pfs:
        try:
            planned = _plan_gpu(ctx, inventory, state, stored, pf, existing)
        except EngineError as exc:
            report.failed(exc)
            continue
        steps += planned
        report.vgpus += len(stored[pf].vgpus)
    brought = vgpu_apply.bring(ctx, steps, timeout)
    if brought.failed:
        report.failed(brought.failed)
        report.vgpus -= len([step for step in brought.failed.not_done if step.kind == "create"])
    else:
        report.did(brought.done)
    return [step for step in brought.done if step.kind == "create"]


def _plan_gpu(ctx, inventory, state, stored, pf, existing):
    """The steps that bring one GPU's vGPUs; existing: UUIDs of those that are there."""
    wanted = stored[pf]
    if wanted.mixed and inventory.gpu(pf):
        reader.read_mixed(ctx, [inventory.gpu(pf)])
    wishes = Wishes(
        [
            Wish(one.type, one.uuid, None if one.uuid in existing else one.index, layout_file.PATH, one.params or None)
            for one in wanted.vgpus
        ],
        wanted.mixed,
        wanted.mig or None,
    )
    plan = vgpu_plan.plan(inventory, state, {pf: wishes}, stored, {}, vgpu_plan.Options(persist=False))
    return [step for step in plan.steps if step.gpu == pf and step.kind in BRINGS]


def _watch(ctx, made, settle, report):
    """Watches the new vGPUs; those that vanish were not done."""
    try:
        vgpu_apply.watch(ctx, vgpu_apply.Brought(made, None, ctx.clock.now()), settle)
    except ApplyError as exc:
        report.vgpus -= len(exc.not_done)
        gone = [str(step) for step in exc.not_done]
        report.done[:] = [text for text in report.done if text not in gone]
        report.failed(EngineError(exc.troubles))
