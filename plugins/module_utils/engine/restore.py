# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the stored layout back at boot: MIG mode, VFs, GPU instances and mixed-size mode, vGPUs, GPU by GPU.

Nothing is ever removed here. One GPU's failure does not stop the others.
"""

from __future__ import annotations

from . import apply_layout, apply_mig, diagnosis, host, inventory as reader, plan_layout, plan_mig, pci_driver, sriov, store
from .errors import EngineError, Trouble
from .layout import Wish, Wishes
from .tools import sriov_manage
from .waiting import until


# Steps that take nothing away.
BRINGS = ("create", "params", "mig_create", "mig_compute", "mixed")


class Report:
    """What was done, and the troubles."""

    def __init__(self):
        self.done = []
        self.troubles = []


def restore(ctx, timeout, settle, say):
    """Brings everything back; say(text) is told of each step and trouble as it happens."""
    report = Report()
    stored = store.read(ctx.root)
    _await_driver(ctx, stored, timeout)
    for pf in sorted(stored):
        try:
            for step in _restore_gpu(ctx, stored, pf, timeout, settle):
                report.done.append(str(step))
                say(str(step))
        except EngineError as exc:
            report.troubles += exc.troubles
            for one in exc.troubles:
                say("FAILED: %s" % one)
    return report


def _await_driver(ctx, stored, timeout):
    """Waits until the GPUs are bound to nvidia: udev and nvidia-vgpud may still be at work."""

    def bound():
        return all(ctx.sysfs.link("%s/%s/driver" % (pci_driver.PCI, pf)) == "nvidia" for pf in stored)

    until(ctx.clock, bound, min(timeout, 30))


def _restore_gpu(ctx, stored, pf, timeout, settle):
    inventory = reader.read(ctx, with_types=False)
    gpu = inventory.gpu(pf)
    if gpu is None:
        raise EngineError(
            Trouble("the GPU is not there any more", device=pf, remedy="If it was taken out, remove it from the layout.", code="gpu_gone")
        )
    if not gpu.alive:
        raise EngineError(diagnosis.off_bus(gpu))
    state = host.read(ctx)
    done = []
    wanted = stored[pf]
    if wanted.mig:
        # Ampere keeps the mode over a reboot, Hopper and later may lose it.
        reader.read_mig(ctx, [gpu])
        plan = plan_mig.plan(inventory, state, {pf: plan_mig.Wanted(True)})
        done += apply_mig.apply(ctx, plan.steps, timeout)
        if plan.steps:
            inventory = reader.read(ctx, with_types=False)
    if wanted.vfs:
        plan = sriov.plan(inventory, state, [pf], True, wanted.vfs, has_tool=sriov_manage.installed(ctx))
        done += sriov.apply(ctx, plan, timeout, 0)  # agents start after this; vGPUs are watched below
    if not wanted.vgpus and not wanted.mig:
        return done
    inventory = apply_layout.await_types(ctx, [pf], timeout)
    if wanted.mixed:
        reader.read_mixed(ctx, [inventory.gpu(pf)])
    existing = {vgpu.uuid for vgpu in inventory.mdevs}
    wishes = Wishes(
        [
            Wish(one.type, one.uuid, None if one.uuid in existing else one.index, store.PATH, one.params or None)
            for one in wanted.vgpus
        ],
        wanted.mixed,
        wanted.mig or None,
    )
    plan = plan_layout.plan(
        inventory, state, {pf: wishes}, stored, {}, plan_layout.Options(persist=False)
    )
    kept = [step for step in plan.steps if step.gpu == pf and step.kind in BRINGS]
    return done + list(apply_layout.apply(ctx, kept, timeout, settle))
