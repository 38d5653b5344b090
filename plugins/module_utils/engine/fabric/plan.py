# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the NVLink fabric partition for each whole-card vGPU. This module does not access the host.

Each whole-card vGPU requires an active partition for its VF, even if the VM has no other vGPU. Without an active partition, CUDA does not start in
the VM. A VM with several cards requires the partition that contains exactly these cards. Fabric Manager has a fixed list of partitions. The engine
never deactivates a partition that is in use. If this collection did not activate a partition, the engine deactivates the partition only if a
requested vGPU requires a GPU in the partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Iterable, Mapping, Sequence

from ..base.errors import Refusal
from ..base.plan import Plan
from ..base.steps import Step
from ..hardware import vgpu_types
from ..hardware.fabric import Partition
from ..hardware.gpu import Gpu
from ..read.fabric import Fabric

ACTIVATE, DEACTIVATE, ASSUME = "fabric_activate", "fabric_deactivate", "fabric_assume"
KINDS = (ACTIVATE, DEACTIVATE, ASSUME)


@dataclass(eq=False, repr=False)
class Card:
    """A vGPU that uses a whole card.

    Attributes:
        pf: The GPU address.
        vf: The VF address for the vGPU.
        key: The vGPU identifier, in the same format as Vgpu.key.
        group: The name of the layout's card group that includes this card, or None.
    """

    pf: str
    vf: str
    key: str
    group: str | None = None


@dataclass(eq=False, repr=False)
class Request:
    """A request for one partition that contains all given cards.

    Attributes:
        where: The source of the partition request, for messages.
        strict: Whether an unavailable partition is an error in the plan. If false, an unavailable partition causes a warning.
    """

    cards: list[Card]
    where: str = ""
    strict: bool = False


@dataclass(eq=False, repr=False)
class Target:
    """The state of the NVLink fabric after the plan is applied.

    Attributes:
        active: The VFs for each partition that is active after the plan is applied, keyed by partition ID.
    """

    active: dict[int, list[str]] = field(default_factory=dict)


FabricPlan = Plan[Target]


def takes_card(gpu: Gpu, type_name: str, most: int | None = None) -> bool:
    """Returns whether a vGPU type uses a whole card: the driver allows one such vGPU per GPU, or the type has the whole framebuffer.

    Args:
        most: The driver's maximum number of vGPUs of the type per GPU, or None to use the GPU's list of types.
    """
    if vgpu_types.slices_of(type_name):
        return False
    listed = vgpu_types.find(type_name, gpu.types)
    most = most or (listed.max_instances if listed else None)
    if most:
        return most == 1
    return gpu.model is not None and vgpu_types.framebuffer_of(type_name) == gpu.model.framebuffer_gib * 1024


def requests(cards: Sequence[Card], machines: Mapping[str, Iterable[str]], strict: Collection[str] = ()) -> list[Request]:
    """Returns one request for each group of cards that share a partition.

    Cards in one layout group share a partition. A VM's cards that are in no group also share a partition. Each remaining card has its own partition.

    Args:
        machines: The device keys for each VM, keyed by VM name.
        strict: The names of the VMs whose partitions must be available.
    """
    found: list[Request] = []
    left = list(cards)
    for name in dict.fromkeys(card.group for card in cards if card.group):
        mine = [card for card in left if card.group == name]
        found.append(Request(mine, "fabric: %s in the layout" % name, True))
        left = [card for card in left if card not in mine]
    for vm, keys in sorted(machines.items()):
        taken = set(keys)
        mine = [card for card in left if card.key in taken or card.vf in taken]
        if len(mine) > 1:
            found.append(Request(mine, "VM %s" % vm, vm in strict))
            left = [card for card in left if card not in mine]
    return found + [Request([card]) for card in left]


def chosen(fabric: Fabric, cards: Sequence[Card], numbers: Mapping[str, int], taken: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the keys of the preferred cards for each VM. The cards of a VM form one partition.

    VMs that request the most cards are assigned first. The result omits VMs for which no partition is free.

    Args:
        numbers: The number of cards that each VM requests, keyed by VM name.
        taken: The VM to which each assigned card belongs, keyed by card key.
    """
    found: dict[str, list[str]] = {}
    by_module = {fabric.modules[card.pf]: card for card in cards if card.pf in fabric.modules}
    given: set[str] = set()
    for vm, number in sorted(numbers.items(), key=lambda one: (-one[1], one[0])):
        for partition in fabric.partitions or ():
            mine = [by_module[module].key for module in partition.gpus if module in by_module]
            free = not given & set(mine) and all(taken.get(key, vm) == vm for key in mine)
            if len(partition.gpus) == len(mine) == number > 1 and free:
                found[vm] = mine
                given.update(mine)
                break
    return found


def foreseen(wanted: Sequence[Request]) -> FabricPlan:
    """Returns the plan for check mode if Fabric Manager is not installed and the partitions are therefore unknown."""
    made: FabricPlan = Plan(Target())
    for one in wanted:
        text = "activate the fabric partition for %s" % ("this card" if len(one.cards) == 1 else ", ".join(card.pf for card in one.cards))
        made.steps.append(Step(ASSUME, None, one.cards[0].vf, text))
    return made


def plan(fabric: Fabric, wanted: Sequence[Request], users: Mapping[str, str], staying: Collection[str]) -> FabricPlan:
    """Returns the plan, including errors, for a fabric whose partitions are known.

    Args:
        users: The user of each GPU that is in use, as message text, keyed by GPU address.
        staying: The VFs that have a vGPU after the run.
    """
    planner = _Planner(fabric, users)
    for one in wanted:
        planner.add(one)
    planner.clear(staying)
    planner.made.steps.sort(key=lambda step: (step.kind != DEACTIVATE, step.args["partition"]))
    return planner.made


@dataclass(eq=False, repr=False)
class _Planner:
    fabric: Fabric
    users: Mapping[str, str]
    made: FabricPlan = field(default_factory=lambda: Plan(Target()))
    kept: set[int] = field(default_factory=set)  # IDs of partitions that are requested or must stay active
    going: set[int] = field(default_factory=set)  # IDs of partitions that the plan deactivates

    @property
    def partitions(self) -> list[Partition]:
        return self.fabric.partitions or []

    def add(self, request: Request) -> None:
        """Adds the steps that activate the partition for one request."""
        modules = {self.fabric.modules.get(card.pf): card for card in request.cards}
        unknown = [card.pf for card in request.cards if card.pf not in self.fabric.modules]
        if unknown:
            self._report(request, Refusal(
                "the module ID of the GPU is unknown", unknown[0], "a 'Module Id' in the output of 'nvidia-smi -q', by which Fabric Manager identifies GPUs",
                "Find errors of this GPU in the output of 'nvidia-smi -q' and 'dmesg', fix the cause, then rerun.", "fabric_module_unknown",
            ))
            return
        match = next((one for one in self.partitions if set(one.gpus) == set(modules) and len(request.cards) == len(one.gpus)), None)
        if match is None:
            self._no_partition(request)
            return
        vfs = [card.vf for card in map(modules.get, match.gpus) if card]
        others = [one for one in self.partitions if one.active and one is not match and set(one.gpus) & set(match.gpus)]
        if match.active and self.fabric.record.partitions.get(match.id) not in (vfs, None):
            others.append(match)
        busy = [one for one in others if self._user(one)]
        if busy:
            self.kept.update(one.id for one in [*others, match])
            self._report(request, self._in_use(busy[0], request))
            return
        if match.active and self.fabric.record.partitions.get(match.id) is None and not self._user(match):
            others.append(match)  # the VFs for which this partition was activated are unknown
        for one in others:
            self._deactivate(one)
        self.kept.add(match.id)
        self.made.target.active[match.id] = vfs
        if not match.active or match in others:
            alone = len(vfs) == 1
            text = "activate fabric partition %d" % match.id if alone else "activate the partition for %s" % ", ".join(vfs)
            self.made.steps.append(Step(
                ACTIVATE, "fabric partition %d" % match.id, vfs[0] if alone else "fabric partition %d" % match.id, text, partition=match.id, vfs=vfs,
            ))

    def clear(self, staying: Collection[str]) -> None:
        """Adds steps that deactivate the partitions that this collection activated for vGPUs that will not exist after the run."""
        for one in self.partitions:
            if not one.active or one.id in self.kept or one.id in self.going:
                continue
            vfs = self.fabric.record.partitions.get(one.id, [])
            if vfs and not set(vfs) & set(staying) and not self._user(one):
                self._deactivate(one)
            else:
                self.made.target.active.setdefault(one.id, vfs)

    def _deactivate(self, one: Partition) -> None:
        if one.id in self.going:
            return
        self.going.add(one.id)
        device = "fabric partition %d" % one.id
        gpus = self._gpus(one)
        self.made.steps.append(Step(DEACTIVATE, device, device, "deactivate the partition (%s)" % ", ".join(gpus), partition=one.id, gpus=gpus))

    def _gpus(self, one: Partition) -> list[str]:
        return [self.fabric.address_of(module) for module in one.gpus]

    def _user(self, one: Partition) -> str:
        return next((self.users[pf] for pf in self._gpus(one) if self.users.get(pf)), "")

    def _report(self, request: Request, wrong: Refusal) -> None:
        """Adds an error to the plan if the request is strict. Otherwise, adds a warning."""
        if request.strict:
            self.made.errors.append(wrong)
        else:
            self.made.warnings.append(str(wrong))

    def _in_use(self, one: Partition, request: Request) -> Refusal:
        cards = ", ".join(card.pf for card in request.cards)
        return Refusal(
            "the partition is active for %s and is in use by %s" % (", ".join(self._gpus(one)), self._user(one)), "fabric partition %d" % one.id,
            "a partition that is not in use, as required for the partition of %s%s" % (cards, " (%s)" % request.where if request.where else ""),
            "Stop the VM or process that uses the partition, then rerun.", "in_use",
        )

    def _no_partition(self, request: Request) -> None:
        cards, several = [card.pf for card in request.cards], len(request.cards) > 1
        sizes = sorted({len(one.gpus) for one in self.partitions if len(one.gpus) > 1}, reverse=True)
        sets = "; ".join("%d: %s" % (size, " or ".join(
            "{%s}" % ", ".join(sorted(self._gpus(one))) for one in self.partitions if len(one.gpus) == size)) for size in sizes)
        found = "no fabric partition contains exactly %s%s" % (", ".join(cards), " (%s)" % request.where if request.where else "")
        expected, remedy = "one of the board's GPU sets: %s" % (sets or "none"), "Choose the GPUs of one of these sets."
        if not several:
            expected = "a partition that contains only this GPU"
            remedy = ("If the GPU was in MIG mode when Fabric Manager started, reboot the host to create the partition. "
                      "Otherwise, find the cause in /var/log/fabricmanager.log.")
        self._report(request, Refusal(found, cards[0] if not several else None, expected, remedy, "no_fabric_partition"))
        if several and not request.strict:
            for card in request.cards:  # CUDA starts if each card has its own active partition
                self.add(Request([card], request.where))
