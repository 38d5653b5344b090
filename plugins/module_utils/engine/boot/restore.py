# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores the stored layout at boot: MIG mode and VFs GPU by GPU, then GPU instances, mixed-size mode and vGPUs.

sriov-manage takes one GPU at a time: it writes the id of the model into pci-pf-stub, which takes an id only once. vGPUs are created on all GPUs
at the same time, each as soon as it offers its types. Nothing is ever removed here. One GPU's failure does not stop the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Iterable

from ..base import refusals
from ..base.clock import until
from ..base.errors import EngineError, Refusal, error
from ..base.steps import ApplyError, Step
from ..mig import apply as mig_apply, plan as mig_plan
from ..mig.selection import Request
from ..hardware.gpu import Gpu
from ..read import host, inventory as reader
from ..sriov import apply as sriov_apply, plan as sriov_plan
from ..state import layout_file
from ..state.layout_file import StoredGpu
from ..system import sriov_manage
from ..system.context import Context
from ..system.sysfs import PCI
from ..vgpu import apply as vgpu_apply, plan as vgpu_plan
from ..vgpu.layout import GpuSpec, VgpuSpec
from ..vgpu.target import Host, Options

# Steps that remove nothing.
RESTORING = ("create", "params", "mig_create", "mig_compute", "mixed")


def restore(ctx: Context, timeout: float, settle: float, out: Callable[[str], None]) -> Restore:
    """Restores everything; returns how it went. timeout: seconds for each wait; settle: seconds that vGPUs are watched."""
    stored = layout_file.read(ctx.root)
    _await_driver(ctx, stored, timeout)
    ready = ctx.clock.now()
    run = Restore(ctx, host.read(ctx), stored, timeout, out)
    created = run.create_vgpus(run.enable_gpus())
    run.after = ctx.clock.now() - ready
    run.watch(created, settle)
    return run


def _await_driver(ctx: Context, stored: Iterable[str], timeout: float) -> None:
    """Waits until the GPUs are bound to nvidia: udev and nvidia-vgpud may still be at work. One that is not there won't come."""
    paths = ["%s/%s" % (PCI, pf) for pf in stored]
    until(ctx.clock, lambda: all(ctx.sysfs.link(path + "/driver") == "nvidia" for path in paths if ctx.sysfs.exists(path)), min(timeout, 30))


def _present(inventory: reader.Inventory, pf: str) -> Gpu:
    """The GPU at an address; raises EngineError if there is none."""
    gpu = inventory.gpu(pf)
    if gpu is None:
        raise error("the GPU is not there any more", pf, remedy="If it was taken out, remove it from the layout.", code="gpu_gone")
    return gpu


@dataclass(eq=False, repr=False)
class Restore:
    """One restore: what was done, and the errors; out(text) is called with each as it happens.

    vgpus: how many of the stored ones are there. after: seconds from the driver being ready to the last of them.
    """

    ctx: Context
    state: host.HostState
    stored: dict[str, StoredGpu]
    timeout: float
    out: Callable[[str], None]
    done: list[str] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)
    vgpus: int = 0
    after: float = 0.0

    def did(self, steps: Iterable[Step]) -> None:
        """Notes steps that were done."""
        for step in steps:
            self.done.append(str(step))
            self.out(str(step))

    def failed(self, exc: EngineError) -> None:
        """Notes an EngineError; of an ApplyError also what was done before it."""
        self.did(exc.done if isinstance(exc, ApplyError) else ())
        self.errors += exc.errors
        for one in exc.errors:
            self.out("FAILED: %s" % one)

    def enable_gpus(self) -> list[str]:
        """MIG mode and VFs, GPU by GPU; returns the addresses of those that should have GPU instances or vGPUs."""
        inventory = reader.read(self.ctx, with_types=False)
        ready = []
        for pf, stored in sorted(self.stored.items()):
            try:
                self.did(self._gpu(inventory, stored))
                ready += [pf] if stored.vgpus or stored.mig else []
            except EngineError as exc:
                self.failed(exc)
        return ready

    def _gpu(self, inventory: reader.Inventory, stored: StoredGpu) -> list[Step]:
        """MIG mode and VFs of one GPU; returns the steps."""
        pf, gpu = stored.address, _present(inventory, stored.address)
        if not gpu.alive:
            raise EngineError(refusals.off_bus(gpu))
        done: list[Step] = []
        if stored.mig:
            # Ampere keeps the mode over a reboot, Hopper and later may lose it.
            reader.read_mig(self.ctx, [gpu])
            known = mig_plan.Host(inventory, self.state, mig_apply.users(inventory))
            mig = mig_plan.plan(known, {pf: Request(True)}, mig_plan.Options())
            done += mig_apply.apply(self.ctx, mig, self.timeout)
            if mig.steps:
                inventory = reader.read(self.ctx, with_types=False)
        if stored.vfs:
            options = sriov_plan.Options(num_vfs=stored.vfs, has_tool=sriov_manage.installed(self.ctx))
            sriov = sriov_plan.plan(inventory, self.state, [pf], options)
            done += sriov_apply.apply(self.ctx, sriov, self.timeout, 0)  # agents start after this; vGPUs are watched below
        return done

    def create_vgpus(self, waiting: list[str]) -> list[Step]:
        """GPU instances, mixed-size mode and vGPUs, of each GPU as soon as it offers its types; returns the steps that created vGPUs."""
        created: list[Step] = []

        def all_created() -> bool:
            seen = reader.read(self.ctx, with_types=False)
            found = {pf: seen.gpu(pf) for pf in waiting}
            come = [pf for pf, gpu in found.items() if gpu is None or reader.types_there(self.ctx, gpu)]
            if come:
                created.extend(self._vgpus_of(come))
                waiting[:] = [pf for pf in waiting if pf not in come]
            return not waiting

        if waiting and not until(self.ctx.clock, all_created, self.timeout):
            created += self._vgpus_of(waiting)  # the plan reports what is missing
        return created

    def _vgpus_of(self, pfs: Iterable[str]) -> list[Step]:
        """GPU instances, mixed-size mode and vGPUs of some GPUs; returns the steps that created vGPUs."""
        inventory = reader.read(self.ctx)
        steps: list[Step] = []
        for stored in [self.stored[pf] for pf in pfs]:
            try:
                steps += self._plan_gpu(inventory, stored)
                self.vgpus += len(stored.vgpus)
            except EngineError as exc:
                self.failed(exc)
        outcome = vgpu_apply.run(self.ctx, steps, self.timeout)
        if outcome.failed:
            self.failed(outcome.failed)
            self.vgpus -= len([step for step in outcome.failed.not_done if step.kind == "create"])
        else:
            self.did(outcome.done)
        return [step for step in outcome.done if step.kind == "create"]

    def _plan_gpu(self, inventory: reader.Inventory, stored: StoredGpu) -> list[Step]:
        """The steps that restore one GPU's vGPUs."""
        pf, gpu = stored.address, _present(inventory, stored.address)
        if stored.mixed:
            reader.read_mixed(self.ctx, [gpu])
        existing, path = {vgpu.uuid for vgpu in inventory.mdevs}, layout_file.PATH
        specs = [VgpuSpec(one.type, one.uuid, None if one.uuid in existing else one.index, path, one.params or None) for one in stored.vgpus]
        spec = GpuSpec(specs, stored.mixed, stored.mig or None)
        plan = vgpu_plan.plan(Host(inventory, self.state, self.stored), {pf: spec}, Options(persist=False))
        return [step for step in plan.steps if step.lane == pf and step.kind in RESTORING]

    def watch(self, created: list[Step], settle: float) -> None:
        """Watches the new vGPUs; those that vanish were not done."""
        try:
            vgpu_apply.watch(self.ctx, vgpu_apply.Outcome(created, None, self.ctx.clock.now()), settle)
        except ApplyError as exc:
            gone = list(map(str, exc.not_done))
            self.vgpus -= len(gone)
            self.done[:] = [text for text in self.done if text not in gone]
            self.failed(EngineError(exc.errors))
