# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores the stored layout at boot: MIG mode and VFs, then GPU instances, mixed-size mode, and vGPUs.

GPUs do not wait for each other: the vGPUs of each GPU are created as soon as the GPU offers vGPU types. If a program uses a GPU, the restore retries
this GPU until the deadline, which is the same for all GPUs. Only sriov-manage runs on one GPU at a time, and each run waits for the VFs of the previous
GPU. The reason is that sriov-manage writes the model's device ID to pci-pf-stub, which accepts each ID only once, and which also binds to unbound VFs
with the same ID. The restore removes nothing, so vGPUs outside the stored layout remain.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Callable, Iterable, Sequence

from . import conflicts
from ..base import refusals
from ..base.clock import until
from ..base.errors import EngineError, Refusal, error, raise_if_any
from ..base.steps import ApplyError, Step
from ..checks import in_use
from ..mig import apply as mig_apply, instances as mig_instances, plan as mig_plan
from ..mig.selection import Request
from ..runs import fabric
from ..hardware.gpu import Gpu
from ..read import host, inventory as reader
from ..sriov import apply as sriov_apply, plan as sriov_plan
from ..sriov.plan import STRANDED
from ..state import layout_file
from ..state.layout_file import StoredGpu, StoredVgpu
from ..system import sriov_manage
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..vgpu import apply as vgpu_apply, plan as vgpu_plan
from ..vgpu.layout import GpuSpec, VgpuSpec, plain_params
from ..vgpu.target import Host, Options

# The step kinds that the restore performs. No step removes anything.
RESTORING = ("create", "params", "mig_create", "mig_compute", "mixed")
# BIND, STEP, RETRY, LEAST, and REST are in seconds. BIND limits the wait for a driver to bind to a GPU.
# STEP limits one step, and the wait for vGPU types. RETRY is the maximum interval between two attempts on a GPU that is in use.
# LEAST is the minimum time for the restore after a long wait for the host's lock. REST limits the steps in progress at the deadline.
BIND, STEP, RETRY = 30.0, 120.0, 5.0
LEAST, REST = 60.0, 180.0
# The codes of errors that do not recur after the programs that use the GPU exit.
_BUSY = ("unbind_lock", "mig_pending")


def restore(ctx: Context, timeout: float, settle: float, out: Callable[[str], None]) -> Restore:
    """Restores the stored layout and returns the outcome.

    The *timeout* argument is the time limit in seconds for all GPUs combined. New vGPUs are monitored for 'settle' seconds.
    """
    run = Restore(ctx, layout_file.read(ctx.root), timeout, out)
    run.create_all()
    run.activate()
    run.watch(settle)
    return run


class _Busy(EngineError):
    """The exception for a GPU that programs are using."""


@dataclass(eq=False, repr=False)
class _Pending:
    """A GPU in the stored layout whose vGPUs are not yet restored. All times are clock values in seconds.

    The *enabled* attribute is the time at which the GPU's VFs appeared. *since* is the time at which the GPU was first found in use, and *busy*
    contains the errors from the last attempt. *again* is the time of the next attempt. *pause* is the interval between the next attempt and the
    following attempt.
    """

    stored: StoredGpu
    enabled: float | None = None
    since: float | None = None
    busy: list[Refusal] = field(default_factory=list)
    again: float = 0.0
    pause: float = 0.5


@dataclass(eq=False, repr=False)
class Restore:
    """A restore with its completed steps and errors. out(text) is called as soon as a step completes or an error occurs.

    The *missing* attribute lists the stored vGPUs that do not exist after the restore. *after* is the time in seconds from the moment when the
    driver was ready until the last vGPU was created.
    """

    ctx: Context
    stored: dict[str, StoredGpu]
    timeout: float
    out: Callable[[str], None]
    done: list[str] = field(default_factory=list)
    errors: list[Refusal] = field(default_factory=list)
    missing: list[StoredVgpu] = field(default_factory=list)
    after: float = 0.0

    def __post_init__(self) -> None:
        self._begun = self._at = self.ctx.clock.now()
        self._ready: float | None = None  # the time at which the first GPU was bound to the driver
        self._state: host.HostState | None = None
        self._pending = [_Pending(one) for dummy, one in sorted(self.stored.items()) if one.vfs or one.vgpus or one.mig]
        self._running: list[Future[vgpu_apply.Outcome]] = []
        self._created: list[Step] = []
        # The inventory of each GPU and the open files of all processes, cached for one round. Usage is checked again right before each change.
        self._seen: dict[str, reader.Inventory] = {}
        self._files: OpenFiles | None = None

    @property
    def vgpus(self) -> int:
        """The number of stored vGPUs that exist."""
        return sum(len(one.vgpus) for one in self.stored.values()) - len(self.missing)

    def _most(self) -> float:
        """Returns the time limit for one step in seconds. Each step ends at most REST seconds after the deadline."""
        return max(1.0, min(STEP, self._begun + self.timeout + REST - self.ctx.clock.now()))

    def _read(self, pf: str, with_types: bool) -> reader.Inventory:
        """Returns the inventory of one GPU. The required time does not depend on the number of GPUs on the host."""
        self._files = self._files or OpenFiles(self.ctx.sysfs)
        return reader.read_alone(self.ctx, pf, self._files, with_types)

    def _inventory(self, pf: str) -> reader.Inventory:
        """Returns the inventory of one GPU without vGPU types. The inventory is read once per round, and again after each change."""
        self._seen[pf] = self._seen.get(pf) or self._read(pf, with_types=False)
        return self._seen[pf]

    def did(self, steps: Iterable[Step]) -> None:
        """Records and prints completed steps."""
        for step in steps:
            self._seen.clear()
            self.done.append(str(step))
            self.out(str(step))

    def failed(self, exc: EngineError) -> None:
        """Records the errors of an EngineError. For an ApplyError, also records the completed steps."""
        self.did(exc.done if isinstance(exc, ApplyError) else ())
        self.errors += exc.errors
        for one in exc.errors:
            self.out("FAILED: %s" % one)

    def create_all(self) -> None:
        """Restores the VFs and vGPUs of all GPUs until the deadline, then reports the GPUs that were not ready."""
        with ThreadPoolExecutor(max(1, len(self._pending))) as pool:
            if not until(self.ctx.clock, lambda: self._round(pool), self.timeout):
                self._create(pool, [one for one in self._pending if one.enabled is not None])  # the planner reports vGPUs that cannot be created
                for one in self._pending:
                    self.failed(self._late(one))
        self._collect()
        self.after = self._at - self._ready if self._created and self._ready is not None else 0.0

    def _round(self, pool: ThreadPoolExecutor) -> bool:
        """Tries to prepare each pending GPU once, and creates vGPUs on all GPUs that offer vGPU types. Returns whether the restore is complete."""
        self._seen, self._files = {}, None
        for one in list(self._pending):
            if one.enabled is None and one.again <= self.ctx.clock.now() < self._begun + self.timeout:
                self._enable(one)
                self._create_offered(pool)
        self._create_offered(pool)
        if not self._pending:
            wait(self._running)
        self._collect()
        return not self._pending and not self._running

    def _facts(self) -> host.HostState:
        """Returns the host's state. Until the driver is loaded, each call reads the state again."""
        if self._state is None or not self._state.driver.loaded:
            self._state = host.at_boot(self.ctx)
        return self._state

    def _enable(self, one: _Pending) -> None:
        """Tries once to set the MIG mode of a GPU and to enable its VFs.

        A busy GPU is retried later, and any other error is reported. vGPUs are still created if some of the GPU's VFs work.
        """
        pf, clock = one.stored.address, self.ctx.clock
        gpu = self._inventory(pf).gpu(pf)
        # A GPU without a driver can become ready soon, while udev, the kernel module, or nvidia-vgpud is still working.
        if gpu and gpu.alive and gpu.driver is None and clock.now() < self._begun + min(BIND, self.timeout / 2):
            return
        self._ready = clock.now() if self._ready is None and gpu and gpu.driver == "nvidia" else self._ready
        if gpu and gpu.driver not in ("nvidia", *STRANDED) and not (one.stored.vgpus or one.stored.mig):
            self.out("%s: the GPU is bound to %s and has no stored vGPUs, so the restore does not change the GPU" % (pf, gpu.driver))
            self._pending.remove(one)
            return
        try:
            self._vfs(one.stored)
        except EngineError as exc:
            if isinstance(exc, _Busy) or any(problem.code in _BUSY for problem in exc.errors):
                one.since = clock.now() if one.since is None else one.since
                one.busy, one.again, one.pause = exc.errors, clock.now() + one.pause, min(one.pause * 1.5, RETRY)
                self.did(exc.done if isinstance(exc, ApplyError) else ())
                return
            self.failed(exc)
            self._seen.clear()
            gpu = self._inventory(pf).gpu(pf)
            if gpu is None or gpu.driver != "nvidia" or not any(vf.usable for vf in gpu.vfs):
                self._pending.remove(one)
                return
        one.enabled = clock.now()
        if not one.stored.vgpus and not one.stored.mig:
            self._pending.remove(one)

    def _vfs(self, stored: StoredGpu) -> None:
        """Sets the MIG mode of one GPU and enables its VFs."""
        pf, gpu = stored.address, _present(self._inventory(stored.address), stored.address)
        if not gpu.alive:
            raise EngineError(refusals.off_bus(gpu))
        if stored.mig:
            if gpu.driver in STRANDED:  # nvidia-smi reports the MIG mode only for GPUs that are bound to the nvidia driver
                raise_if_any(refusals.no_vfs_yet(gpu, self._facts()))
                self.did(sriov_apply.repair(self.ctx, gpu, self._most()))
            self._mig(self._inventory(pf), pf)
        if stored.vfs:
            gpu = _present(self._inventory(pf), pf)  # the GPU's state after the MIG mode change
            options = sriov_plan.Options(num_vfs=_number(gpu, stored), has_tool=sriov_manage.installed(self.ctx), leave_used=True)
            plan = sriov_plan.plan(self._inventory(pf), self._facts(), [pf], options)
            self.did(sriov_apply.apply(self.ctx, plan, self._most(), 0, lock=0))  # the VFs are not monitored here, because cloud agents start after the restore
            for text in plan.warnings:
                self.out(text)

    def _mig(self, inventory: reader.Inventory, pf: str) -> None:
        """Sets the MIG mode of one GPU. Ampere GPUs keep the MIG mode across reboots, but Hopper and later GPUs do not always keep the mode."""
        gpu = _present(inventory, pf)
        reader.read_mig(self.ctx, [gpu])
        known = mig_plan.Host(inventory, self._facts(), mig_apply.users(inventory))
        try:
            plan = mig_plan.plan(known, {pf: Request(True)}, mig_plan.Options())
        except EngineError as exc:
            if not gpu.vgpus and {one.code for one in exc.errors} == {"in_use"}:
                raise _Busy(exc.errors) from exc
            raise
        self.did(mig_apply.apply(self.ctx, plan, self._most()))

    def _create_offered(self, pool: ThreadPoolExecutor) -> None:
        """Creates vGPUs on GPUs that offer vGPU types, and on GPUs for which the wait for vGPU types has timed out."""
        waiting = [one for one in self._pending if one.enabled is not None]
        if waiting:
            now = self.ctx.clock.now()
            found = [(one, self._inventory(one.stored.address).gpu(one.stored.address)) for one in waiting]
            late = [one for one in waiting if one.enabled is not None and now >= one.enabled + STEP]
            self._create(pool, [one for one, gpu in found if gpu is None or one in late or reader.types_there(self.ctx, gpu)])

    def _create(self, pool: ThreadPoolExecutor, ready: Sequence[_Pending]) -> None:
        """Creates GPU instances, sets mixed-size mode, and creates vGPUs, on several GPUs in parallel."""
        for one in ready:
            self._pending.remove(one)
            try:
                steps = self._plan_gpu(self._read(one.stored.address, with_types=True), one.stored)
            except EngineError as exc:
                self.failed(exc)
                continue
            # Steps that run nvidia-smi are not run in parallel, because nvidia-smi works on only one GPU at a time.
            if self.ctx.side_by_side and not any(step.kind in mig_instances.KINDS for step in steps):
                self._running.append(pool.submit(vgpu_apply.run, self.ctx, steps, self._most()))
            else:
                self._finished(vgpu_apply.run(self.ctx, steps, self._most()))

    def _collect(self) -> None:
        """Records the outcomes of finished threads."""
        for one in [one for one in self._running if one.done()]:
            self._running.remove(one)
            self._finished(one.result())

    def _finished(self, outcome: vgpu_apply.Outcome) -> None:
        if outcome.failed:
            self.failed(outcome.failed)
        else:
            self.did(outcome.done)
        self._created += [step for step in outcome.done if step.kind == "create"]
        self._at = max(self._at, outcome.at)

    def _plan_gpu(self, inventory: reader.Inventory, stored: StoredGpu) -> list[Step]:
        """Returns the steps that restore the vGPUs of one GPU. Reports each vGPU that cannot be restored."""
        pf, gpu = stored.address, _present(inventory, stored.address)
        if stored.mixed is not None:  # if no mixed-size mode is stored, the mode of a GPU without vGPUs stays unchanged
            reader.read_mixed(self.ctx, [gpu])
        existing = {vgpu.uuid for vgpu in inventory.mdevs}
        found = {one.key: conflicts.taken(inventory, gpu, one) if one.uuid in existing else conflicts.blocked(gpu, one) for one in stored.vgpus}
        wrong = {key: problem for key, problems in found.items() for problem in problems}
        if wrong:
            self.failed(EngineError(wrong.values()))
        there = [(one, None if one.uuid in existing else one.index) for one in stored.vgpus if one.key not in wrong]
        if not there and wrong:
            return []
        known = Host(inventory, self._facts(), self.stored)

        def steps() -> list[Step]:
            used = {vgpu.key: plain_params(vgpu.params) for vgpu in gpu.vgpus if vgpu.holders}  # a running VM keeps the parameters of its vGPU
            specs = [VgpuSpec(one.type, one.uuid, index, layout_file.PATH, used.get(one.key, one.params) or None) for one, index in there]
            spec = GpuSpec(specs, bool(stored.mixed), stored.mig or None)
            plan = vgpu_plan.plan(known, {pf: spec}, Options(persist=False, keeps=True), listed_only=True)
            return [step for step in plan.steps if step.lane == pf and step.kind in RESTORING]

        return in_use.settled(self.ctx, inventory, steps, in_use.touched)

    def _late(self, one: _Pending) -> EngineError:
        """Returns the error for a GPU that was not ready at the deadline."""
        pf, now = one.stored.address, self.ctx.clock.now()
        gpu = self._inventory(pf).gpu(pf)
        if one.since is None:
            remedy = "Fix the cause of the errors above, then run 'vgpuctl restore'."
            return error("the restore reached its time limit (%d s) before this GPU was restored" % self.timeout, pf, "the VFs and vGPUs", remedy, "no_time")
        if gpu and one.busy[0].code == "unbind_lock":
            return sriov_apply.lock_refused(self.ctx, gpu, now - one.since)
        return EngineError(one.busy)

    def activate(self) -> None:
        """Activates fabric partitions for existing whole-card vGPUs on a host with NVSwitches."""
        wait = max(1.0, min(fabric.START, self._begun + self.timeout + REST - self.ctx.clock.now()))
        run, done, failed = fabric.converge(self.ctx, self.stored, wait)
        self.did(done)
        for text in run.plan.warnings:
            self.out(text)
        for one in failed:
            self.failed(EngineError(one.errors))  # the completed steps are already recorded

    def watch(self, settle: float) -> None:
        """Monitors new vGPUs, and reports an error for each vGPU that disappears. Afterwards, records which stored vGPUs are missing."""
        try:
            vgpu_apply.watch(self.ctx, vgpu_apply.Outcome(self._created, None, self._at), settle)
        except ApplyError as exc:
            gone = list(map(str, exc.not_done))
            self.done[:] = [text for text in self.done if text not in gone]
            self.failed(EngineError(exc.errors))
        there = {vgpu.key for vgpu in reader.read(self.ctx, with_types=False).vgpus} if self.stored else ()
        self.missing = [one for gpu in self.stored.values() for one in gpu.vgpus if one.key not in there]


def _present(inventory: reader.Inventory, pf: str) -> Gpu:
    """Returns the GPU at an address, or raises EngineError if the host has no such GPU."""
    gpu = inventory.gpu(pf)
    if gpu is None:
        raise error("the host no longer has this GPU", pf, remedy="If the GPU was removed from the host, remove the GPU from the layout.", code="gpu_gone")
    return gpu


def _number(gpu: Gpu, stored: StoredGpu) -> int:
    """Returns the number of VFs to enable.

    The current number of VFs is kept if every stored vGPU has its VF, or if VFs are in use.
    """
    there = {vf.index for vf in gpu.vfs}
    enough = all(one.index in there for one in stored.vgpus)
    return gpu.num_vfs if gpu.num_vfs and (enough or sriov_plan.vgpu_guard(gpu, "restoring its VFs")) else stored.vfs
