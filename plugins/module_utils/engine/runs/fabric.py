# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configures the NVLink fabric in one run: reads the fabric, plans partitions for whole-card vGPUs, and activates the partitions.

nvidia_vgpu, 'vgpuctl apply', and the restore at boot run this code after creating vGPUs. nvidia_vgpu_attach runs this code after attaching vGPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Collection, Iterable, Mapping, Sequence

from ..base.clock import until
from ..base.errors import EngineError
from ..base.steps import ApplyError, Step
from ..checks import in_use
from ..fabric import apply as fabric_apply, plan as fabric_plan
from ..fabric.plan import Card, FabricPlan, Request
from ..read import fabric as fabric_reader, inventory as inventory_reader
from ..read.fabric import Fabric
from ..read.inventory import Inventory
from ..state.layout_file import StoredGpu
from ..system import libvirt_xml
from ..system.context import Context

# Time limits in seconds: STEP for one activation, and START for Fabric Manager to start. On H100 and later, an activation trains no links.
STEP, START = 60.0, 60.0
# The reasons for unknown partitions that a later attempt may resolve.
_COMING = ("fabric_starting", "fabric_not_running")


@dataclass(eq=False, repr=False)
class Run:
    """The fabric plan for a run, and the fabric on which the plan is based.

    On a host without NVSwitches, ``fabric`` is None and the plan is empty.
    """

    fabric: Fabric | None
    plan: FabricPlan

    def lines(self, after: bool = False) -> str:
        """Returns the active partitions as diff text, with one partition per line."""
        if after:
            active = self.plan.target.active
        else:
            known = self.fabric.record.partitions if self.fabric else {}
            active = {one.id: known.get(one.id, []) for one in (self.fabric.partitions or () if self.fabric else ()) if one.active}
        return "".join("fabric partition %d %s\n" % (number, " ".join(vfs) or "for another user") for number, vfs in sorted(active.items()))


def cards_there(inventory: Inventory, stored: Mapping[str, StoredGpu], others: bool = False) -> list[Card]:
    """Returns the stored whole-card vGPUs that exist. ``others`` also includes existing vGPUs that are not stored."""
    known = {one.key: one for gpu in stored.values() for one in gpu.vgpus}
    return [
        Card(gpu.address, vgpu.parent, vgpu.key, known[vgpu.key].fabric if vgpu.key in known else None)
        for gpu in inventory.gpus for vgpu in gpu.vgpus
        if (others or vgpu.key in known) and fabric_plan.takes_card(gpu, vgpu.type or "")
    ]


def wanted(ctx: Context, cards: Sequence[Card], coming: Mapping[str, Iterable[str]] | None = None) -> list[Request]:
    """Returns the card groups that share partitions, according to libvirt's VMs.

    ``coming`` contains the keys of devices that VMs will get, and whose partitions must exist.
    """
    machines: dict[str, Iterable[str]] = {one.name: one.devices for one in libvirt_xml.domains(ctx)[0]} if len(cards) > 1 else {}
    return fabric_plan.requests(cards, {**machines, **(coming or {})}, coming or ())


@dataclass(eq=False, repr=False)
class Options:
    """The options for a fabric run.

    ``wait`` is the time to wait for Fabric Manager to start, in seconds. If ``wait`` is 0, the fabric is only read.
    ``coming`` is true if the run installs Fabric Manager later (check mode).
    ``staying`` contains the VFs that have a vGPU after the run. None means the VFs that currently have a vGPU.
    """

    wait: float = 0
    coming: bool = False
    staying: Collection[str] | None = None


def prepare(ctx: Context, inventory: Inventory, requests: Sequence[Request], options: Options) -> Run:
    """Plans the partitions. The host remains unchanged, except that Fabric Manager in restart mode gets the list of active partitions."""
    wait, coming = options.wait, options.coming
    if not any(fabric_reader.present(ctx, inventory)):
        return Run(None, fabric_plan.foreseen(()))
    fabric = fabric_reader.read(ctx, inventory)
    if wait and fabric and fabric.silence and fabric.silence.code in _COMING and fabric.manager.unit.get("active") in ("active", "activating"):
        fabric = awaited(ctx, inventory, wait)
    if fabric is None or fabric.partitions is None:
        made = fabric_plan.foreseen(requests if coming else ())
        if fabric and fabric.silence and requests and not coming:
            _unusable(fabric, requests, made)
        return Run(fabric, made)

    staying = [vgpu.parent for vgpu in inventory.vgpus] if options.staying is None else options.staying

    def make() -> FabricPlan:
        return fabric_plan.plan(fabric, requests, users(inventory), staying) if fabric else fabric_plan.foreseen(())

    return Run(fabric, in_use.settled(ctx, inventory, make, lambda made: _touched(inventory, made)))


def awaited(ctx: Context, inventory: Inventory, wait: float) -> Fabric | None:
    """Waits for Fabric Manager to respond, and returns the fabric."""
    last: list[Fabric | None] = []

    def there() -> bool:
        last[:] = [fabric_reader.read(ctx, inventory)]
        if last[0] and fabric_apply.resume(ctx, last[0]):
            last[:] = [fabric_reader.read(ctx, inventory)]
        return not (last[0] and last[0].silence and last[0].silence.code in _COMING)

    until(ctx.clock, there, wait, 0.5)
    return last[0]


def _unusable(fabric: Fabric, requests: Sequence[Request], made: FabricPlan) -> None:
    """Adds an error for missing partitions if the layout requests partitions, or a warning for single cards."""
    strict, silence = [one.where for one in requests if one.strict], fabric.silence
    if silence and strict:
        made.errors.append(silence)
    elif silence:
        cards = ", ".join(card.vf for one in requests for card in one.cards)
        made.warnings.append("%s CUDA cannot start in a VM with %s until the fabric partition is active (cuInit returns error 802)." % (silence, cards))


def users(inventory: Inventory) -> dict[str, str]:
    """Returns the users of each GPU and its vGPUs as text, keyed by GPU address."""
    found = {}
    for gpu in inventory.gpus:
        holders = [*gpu.holders, *[holder for vgpu in gpu.vgpus for holder in vgpu.holders]]
        if holders:
            found[gpu.address] = ", ".join(map(str, holders))
    return found


def _touched(inventory: Inventory, made: FabricPlan) -> list[str]:
    """Returns the keys of the vGPUs whose partitions the plan deactivates."""
    gpus = {pf for step in made.steps if step.kind == fabric_plan.DEACTIVATE for pf in step.args["gpus"]}
    return [vgpu.key for gpu in inventory.gpus if gpu.address in gpus for vgpu in gpu.vgpus]


def apply(ctx: Context, steps: Sequence[Step], before: Callable[[], Iterable[Step]], begin: int = 0) -> list[Step]:
    """Performs the preceding work (``before``), and then the fabric steps even if some work failed. Raises ApplyError with all failures."""
    failed: list[ApplyError] = []
    done: list[Step] = []
    for work in (before, lambda: fabric_apply.run(ctx, steps, STEP, begin)):
        try:
            done += work()
        except ApplyError as exc:
            failed.append(exc)
            done += exc.done
    if not failed:
        return done
    errors, not_done = [one for exc in failed for one in exc.errors], [one for exc in failed for one in exc.not_done]
    raise ApplyError(errors, done, not_done, [one for exc in failed for one in exc.unresponsive])


def converge(ctx: Context, stored: Mapping[str, StoredGpu], wait: float = START) -> tuple[Run, list[Step], list[EngineError]]:
    """Activates partitions for the stored vGPUs that exist. Returns the run, the completed steps, and the failures."""
    seen = inventory_reader.read(ctx, with_types=False)
    if not any(fabric_reader.present(ctx, seen)):
        return Run(None, fabric_plan.foreseen(())), [], []
    found = inventory_reader.read(ctx)  # the vGPU types show which vGPUs use a whole card
    run = prepare(ctx, found, wanted(ctx, cards_there(found, stored)), Options(wait))
    if run.plan.errors:
        return run, [], [EngineError(run.plan.errors)]
    try:
        return run, fabric_apply.run(ctx, run.plan.steps, STEP), []
    except ApplyError as exc:
        return run, exc.done, [exc]
