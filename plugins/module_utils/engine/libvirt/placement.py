# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assigns a vGPU to each request of a VM, with as few changes as possible for all requests. Reads and writes nothing.

A vGPU of another VM (defined, running or saved) is available only if this plan detaches it from that VM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Mapping, Sequence

from ..base.errors import Refusal
from ..hardware import vgpu_types
from ..hardware.gpu import Holder
from ..read.inventory import Inventory
from ..system.libvirt_xml import Domain, Hostdev
from . import matching
from .request import DomainRequest, VgpuRequest


@dataclass(eq=False, repr=False)
class Options:
    """exclusive: other vGPUs of these VMs are detached. live: running VMs are changed, too. assume: missing vGPUs are created later (check mode).

    foreign: UUIDs of mediated devices that do not belong to the selected GPUs and are not in the inventory.
    preferred: keys of the vGPUs that a VM preferably gets among those with equal costs, by VM.
    """

    exclusive: bool = True
    live: bool = False
    assume: bool = False
    foreign: Collection[str] = ()
    preferred: Mapping[str, Collection[str]] = field(default_factory=dict)


class Host:
    """The vGPUs by key, in order of GPU and VF, and the VMs by name. mdevs: UUIDs of all mediated devices, including other vendors'.

    means: keys of the vGPUs that a device of a VM includes: the vGPU itself, or those on the VF or GPU.
    """

    def __init__(self, inventory: Inventory, domains: Sequence[Domain], foreign: Collection[str] = ()) -> None:
        found = [(gpu, vgpu) for gpu in inventory.gpus for vgpu in gpu.vgpus]
        found.sort(key=lambda one: (one[0].address, one[1].index or 0, one[1].key))
        self.vgpus = {vgpu.key: (gpu, vgpu) for gpu, vgpu in found}
        self.vfs = {vf.address for gpu in inventory.gpus for vf in gpu.vfs}
        self.mdevs = {*(vgpu.uuid for vgpu in inventory.mdevs), *foreign}
        self.domains = {one.name: one for one in domains}
        self.means: dict[str, list[str]] = {}
        for key in self.vgpus:
            for name in self.names(key):
                self.means.setdefault(name, []).append(key)

    def names(self, key: str) -> list[str]:
        """The devices of a VM that include this vGPU: itself, its VF, its GPU."""
        gpu, vgpu = self.vgpus[key]
        return list(dict.fromkeys((key, vgpu.parent, gpu.address)))

    def ours(self, hostdev: Hostdev) -> bool:
        """Whether the device is or was a vGPU of this host: a VF of our GPUs, or a mediated device, existing or not."""
        return hostdev.key in self.vgpus or (hostdev.key not in self.mdevs if hostdev.mediated else hostdev.key in self.vfs)

    def kind(self, key: str) -> str:
        """libvirt's type of the device."""
        return "mdev" if self.has_display(key) else "pci"

    def has_display(self, key: str) -> bool:
        """Whether libvirt supports a display for the vGPU: only for a mediated device."""
        return bool(self.vgpus[key][1].uuid)

    def type_of(self, key: str) -> str:
        """The short name of a vGPU's type; empty if it is unknown."""
        return vgpu_types.short_name(self.vgpus[key][1].type or "") if key in self.vgpus else ""

    def fitting(self, request: VgpuRequest) -> list[str]:
        """The vGPUs that match a request, including those in use."""
        if request.uuid:
            return [request.uuid] if request.uuid in self.vgpus else []
        if request.vf:
            return [key for key, (dummy, vgpu) in self.vgpus.items() if vgpu.parent == request.vf]
        short = vgpu_types.short_name(request.type or "").lower()
        fits = [key for key in self.vgpus if self.type_of(key).lower() == short]
        return [key for key in fits if not request.gpu or self.vgpus[key][0].answers_to(request.gpu)]

    def other_users(self, key: str, vm: str) -> list[Holder]:
        """The processes that have the vGPU open, except this VM."""
        return [holder for holder in self.vgpus[key][1].holders if holder.vm != vm]

    def desired(self, request: VgpuRequest, key: str, has: Hostdev | None) -> Hostdev:
        """The desired definition of the device. Settings that the user leaves out are kept. Without a display there is no ramfb."""
        new = Hostdev(self.kind(key), key, element=has.element if has else None)
        if self.has_display(key):
            old = has or new
            new.display = old.display if request.display is None else request.display
            new.ramfb = False if old.ramfb and request.display is False else old.ramfb
            new.ramfb = new.ramfb if request.ramfb is None else request.ramfb
        return new


def is_same(has: Hostdev, desired: Hostdev) -> bool:
    """Whether a device of a VM needs no change. libvirt treats a missing display as off, and ignores managed='yes' for a mediated device."""
    switches = [(bool(one.display), bool(one.ramfb)) for one in (has, desired)]
    return switches[0] == switches[1] and (has.mediated or not has.managed)


@dataclass(eq=False, repr=False)
class Owner:
    """A VM that has a vGPU and keeps it. direct: as this vGPU, which can stay attached; otherwise on the command line, or with its VF or GPU."""

    vm: str
    text: str
    direct: bool


@dataclass(eq=False, repr=False)
class Row:
    """A request of a VM. number: the position among the VM's requests; candidates: the vGPUs that it may get."""

    vm: str
    number: int
    request: VgpuRequest
    candidates: list[str] = field(default_factory=list)


@dataclass(eq=False, repr=False)
class Placement:
    """Assigns vGPUs to requests. keys: for each VM's requests in order, None for a vGPU that is created later. owners: the VM that keeps a vGPU."""

    host: Host
    options: Options
    keys: dict[str, list[str | None]] = field(default_factory=dict)
    owners: dict[str, list[Owner]] = field(default_factory=dict)
    errors: list[Refusal] = field(default_factory=list)

    def place(self, requests: Sequence[DomainRequest]) -> None:
        """Assigns all requests together, with the fewest changes. errors: of requests without a vGPU."""
        self.keys = {one.name: [None] * len(one.vgpus) for one in requests}
        self._find_owners()
        rows = [Row(one.name, number, request) for one in requests for number, request in enumerate(one.vgpus)]
        rows.sort(key=lambda row: bool(row.request.type))  # errors of named vGPUs are reported first
        for row in rows:
            fitting = self.host.fitting(row.request)
            row.candidates = [key for key in fitting if self._is_available(key, row.vm)]
            wrong = self._wrong(row, fitting)
            if wrong:
                self.errors.append(wrong)
        numbers = {key: number for number, key in enumerate(self.host.vgpus)}
        keys = list(numbers)
        costs = [{numbers[key]: self._cost(row, key, len(rows)) for key in row.candidates} for row in rows]
        got = matching.match(costs)
        rivals = set()
        for index, row in enumerate(rows):
            number = got[index]
            self.keys[row.vm][row.number] = None if number is None else keys[number]
            if number is None and row.candidates:
                rivals.add(tuple(matching.rivals(costs, got, index)))
        for several in [[rows[index] for index in one] for one in sorted(rivals)]:
            if not (self.options.assume and any(row.request.type for row in several)):  # otherwise a vGPU that is created later is used
                self.errors.append(self._contradiction(several))

    def _find_owners(self) -> None:
        """Records the owners: a defined or attached device stays, unless this plan detaches it."""
        for name, domain in self.host.domains.items():
            for hostdev, live in [(one, True) for one in domain.live or ()] + [(one, False) for one in domain.defined or ()]:
                changes = name in self.keys and self.options.exclusive and self.host.ours(hostdev)
                if not changes or live and not self.options.live:
                    self._owns(hostdev.key, name, str(domain), direct=True)
            for key, state in domain.saved.items():
                self._owns(key, name, "%s (%s)" % (name, state), direct=True)
            for key in domain.fixed:
                self._owns(key, name, "%s (on QEMU's command line)" % name, direct=False)

    def _owns(self, device: str, vm: str, text: str, direct: bool) -> None:
        for key in self.host.means.get(device, ()):
            self.owners.setdefault(key, []).append(Owner(vm, text, direct and device == key))

    def _is_available(self, key: str, vm: str) -> bool:
        return not self._blockers(key, vm) and not self.host.other_users(key, vm)

    def _cost(self, row: Row, key: str, rows: int) -> int:
        """The cost of assigning a vGPU to a VM, in additional steps. Of equal costs, running VMs preferably keep their current devices."""
        domain, extra = self.host.domains[row.vm], 2 if self.options.exclusive else 1  # 2: another vGPU is detached, too
        defined = next((one for one in domain.defined or () if one.key == key), None)
        is_live = not domain.running or key in [one.key for one in domain.live or ()]
        steps = extra if defined is None else int(not is_same(defined, self.host.desired(row.request, key, defined)))
        steps += 0 if is_live or not self.options.live else extra
        other = key not in self.options.preferred.get(row.vm, (key,))
        return (steps * (rows + 1) + int(not is_live)) * (rows + 1) + int(other)

    def _blockers(self, key: str, vm: str) -> list[str]:
        """The VMs that prevent this one from getting a vGPU, as text. The VM itself, if it has the vGPU in a form that can't be changed here."""
        return list(dict.fromkeys(one.text for one in self.owners.get(key, ()) if one.vm != vm or not one.direct))

    def _wrong(self, row: Row, fitting: Sequence[str]) -> Refusal | None:
        """The error of a request that can't get any vGPU, regardless of other requests."""
        request = row.request
        if request.vf and len(fitting) > 1:
            return Refusal(
                "there are %d vGPUs on %s" % (len(fitting), request.vf), device=request.where, expected="one vGPU that the request names",
                remedy="Name the vGPU by uuid (%s), or request a type with gpu." % ", ".join(fitting[:8]), code="ambiguous_vf",
            )
        if row.candidates or self.options.assume and (request.type or not fitting):
            return None
        return self._none_free(row, fitting) if request.type else self._not_available(row, fitting)

    def _not_available(self, row: Row, fitting: Sequence[str]) -> Refusal:
        """The error of a VM that can't get the named vGPU."""
        request, vm = row.request, row.vm
        if not fitting:
            return Refusal(
                "there is no vGPU %s" % request.uuid if request.uuid else "there is no vGPU on %s" % request.vf,
                device=request.where, expected="a vGPU of this host", code="no_such_vgpu",
                remedy="'vgpuctl status' lists vGPUs, and vgpu_layout creates them.",
            )
        key = fitting[0]
        owners = self._blockers(key, vm)
        if owners:
            return Refusal(
                "the VM %s has it" % owners[0] if len(owners) == 1 else "the VMs %s have it" % ", ".join(owners),
                device=key, expected="a vGPU for %s that no other VM has" % vm, code="vgpu_taken",
                remedy="Detach the vGPU from that VM first (an entry with its other vGPUs; for a saved state, start the VM or delete the state), "
                "or name another vGPU.",
            )
        return Refusal(
            "it is in use by %s" % ", ".join(map(str, self.host.other_users(key, vm))),
            device=key, expected="a free vGPU for %s" % vm, remedy="Stop its user, or name another vGPU.", code="in_use",
        )

    def _none_free(self, row: Row, fitting: Sequence[str]) -> Refusal:
        request, vm = row.request, row.vm
        what = _what(request)
        if not fitting:
            there = ", ".join(sorted({self.host.type_of(key) for key in self.host.vgpus} - {""}))
            return Refusal(
                "there is no %s for %s; the host has %s" % (what, vm, there or "no vGPU"),
                device=request.where, expected="a free %s" % request.type, remedy="Create it (vgpu_layout) or name another one.", code="no_such_vgpu",
            )
        return Refusal(
            "none of the %d %s is free for %s (%s)" % (len(fitting), what, vm, _few([self._taken(key, vm) for key in fitting])),
            device=request.where, expected="a free %s" % request.type, code="none_free",
            remedy="Create more vGPUs (vgpu_layout), or detach one from another VM.",
        )

    def _taken(self, key: str, vm: str) -> str:
        return "%s: %s" % (key, ", ".join([*self._blockers(key, vm), *map(str, self.host.other_users(key, vm))]))

    def _contradiction(self, rows: Sequence[Row]) -> Refusal:
        """The error of requests that exceed the vGPUs available for them."""
        keys = [key for key in self.host.vgpus if any(key in row.candidates for row in rows)]
        asked = ["%s: %s for %s" % (row.request.where, _what(row.request), row.vm) for row in rows]
        others = {key: row.vm for row in rows for key in self.host.fitting(row.request) if key not in keys}
        taken = "; not free: %s" % _few([self._taken(key, vm) for key, vm in others.items()]) if others else ""
        return Refusal(
            "%d requests (%s) share %d vGPUs: %s%s" % (len(rows), _few(asked), len(keys), _few(keys), taken),
            device=rows[0].request.where, expected="one vGPU for each request", code="none_free",
            remedy="Create more vGPUs (vgpu_layout), or change one of these requests.",
        )


def _few(words: Sequence[str]) -> str:
    return ", ".join(words[:8]) + (" …" if words[8:] else "")


def _what(request: VgpuRequest) -> str:
    """A request as text."""
    if request.type:
        return "%s on %s" % (request.type, request.gpu) if request.gpu else request.type
    return request.uuid or "the vGPU on %s" % request.vf
