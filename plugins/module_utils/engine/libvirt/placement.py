# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assigns vGPUs to VM requests, with as few changes as possible. This module does not access the host.

A vGPU that is attached to another VM (defined, running, or saved) is available only if the same plan detaches the vGPU from the other VM.
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
    """The options for attaching vGPUs to VMs.

    Attributes:
        exclusive: Whether vGPUs that are not requested are detached from the requested VMs.
        live: Whether running VMs are changed in addition to VM definitions.
        assume: Whether check mode assumes that the run creates missing vGPUs later.
        foreign: The UUIDs of mediated devices that do not belong to the selected GPUs and are not in the inventory.
        preferred: The keys of the vGPUs that a VM should get if several vGPUs have equal costs, keyed by VM name.
    """

    exclusive: bool = True
    live: bool = False
    assume: bool = False
    foreign: Collection[str] = ()
    preferred: Mapping[str, Collection[str]] = field(default_factory=dict)


class Host:
    """The vGPUs and VMs on a host.

    Attributes:
        vgpus: The GPU and the vGPU for each vGPU key, ordered by GPU and VF.
        vfs: The addresses of all VFs.
        mdevs: The UUIDs of all mediated devices, including other vendors' devices.
        domains: The VMs, keyed by name.
        means: The keys of the vGPUs that a device includes (the vGPU itself, or all vGPUs on a VF or GPU), keyed by device key.
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
        """Returns the keys of the devices that include a vGPU: the vGPU itself, the parent, and the GPU."""
        gpu, vgpu = self.vgpus[key]
        return list(dict.fromkeys((key, vgpu.parent, gpu.address)))

    def ours(self, hostdev: Hostdev) -> bool:
        """Returns whether a VM's device is or was a vGPU on the selected GPUs.

        The GPUs' VFs and mediated devices that no longer exist count as vGPUs.
        """
        return hostdev.key in self.vgpus or (hostdev.key not in self.mdevs if hostdev.mediated else hostdev.key in self.vfs)

    def kind(self, key: str) -> str:
        """Returns the host device type in libvirt's XML: mdev or pci."""
        return "mdev" if self.has_display(key) else "pci"

    def has_display(self, key: str) -> bool:
        """Returns whether libvirt supports a display for the vGPU, which must be a mediated device."""
        return bool(self.vgpus[key][1].uuid)

    def type_of(self, key: str) -> str:
        """Returns the short name of a vGPU's type, or an empty string if the vGPU or the type is unknown."""
        return vgpu_types.short_name(self.vgpus[key][1].type or "") if key in self.vgpus else ""

    def fitting(self, request: VgpuRequest) -> list[str]:
        """Returns the keys of the vGPUs that match a request, including vGPUs that are in use."""
        if request.uuid:
            return [request.uuid] if request.uuid in self.vgpus else []
        if request.vf:
            return [key for key, (dummy, vgpu) in self.vgpus.items() if vgpu.parent == request.vf]
        short = vgpu_types.short_name(request.type or "").lower()
        fits = [key for key in self.vgpus if self.type_of(key).lower() == short]
        return [key for key in fits if not request.gpu or self.vgpus[key][0].answers_to(request.gpu)]

    def other_users(self, key: str, vm: str) -> list[Holder]:
        """Returns the processes that use the vGPU, excluding the given VM's process."""
        return [holder for holder in self.vgpus[key][1].holders if holder.vm != vm]

    def desired(self, request: VgpuRequest, key: str, has: Hostdev | None) -> Hostdev:
        """Returns the desired definition of a device. Options that the user does not set keep their current values.

        If the user disables the display, an existing ramfb is also disabled.

        Args:
            has: The current definition of the device, or None.
        """
        new = Hostdev(self.kind(key), key, element=has.element if has else None)
        if self.has_display(key):
            old = has or new
            new.display = old.display if request.display is None else request.display
            new.ramfb = False if old.ramfb and request.display is False else old.ramfb
            new.ramfb = new.ramfb if request.ramfb is None else request.ramfb
        return new


def is_same(has: Hostdev, desired: Hostdev) -> bool:
    """Returns whether a device definition needs no change.

    libvirt treats a missing display setting as off, and ignores managed='yes' for mediated devices.
    """
    switches = [(bool(one.display), bool(one.ramfb)) for one in (has, desired)]
    return switches[0] == switches[1] and (has.mediated or not has.managed)


@dataclass(eq=False, repr=False)
class Owner:
    """A VM that keeps its vGPU.

    Attributes:
        vm: The name of the VM.
        text: The VM as message text.
        direct: Whether libvirt attaches the vGPU itself. If false, the VM has the whole VF or GPU, or the device is on QEMU's command line.
    """

    vm: str
    text: str
    direct: bool


@dataclass(eq=False, repr=False)
class Row:
    """A VM's request for one vGPU.

    Attributes:
        number: The position among the VM's requests.
        candidates: The keys of the vGPUs that can be assigned to the request.
    """

    vm: str
    number: int
    request: VgpuRequest
    candidates: list[str] = field(default_factory=list)


@dataclass(eq=False, repr=False)
class Placement:
    """Assigns vGPUs to VM requests.

    Attributes:
        keys: The keys of the vGPUs assigned to each VM, in the order of the VM's requests. None stands for a vGPU that is created later.
        owners: The VMs that keep a vGPU, keyed by vGPU key.
        errors: The errors for requests that get no vGPU.
    """

    host: Host
    options: Options
    keys: dict[str, list[str | None]] = field(default_factory=dict)
    owners: dict[str, list[Owner]] = field(default_factory=dict)
    errors: list[Refusal] = field(default_factory=list)

    def place(self, requests: Sequence[DomainRequest]) -> None:
        """Assigns a vGPU to each request, with the fewest changes in total."""
        self.keys = {one.name: [None] * len(one.vgpus) for one in requests}
        self._find_owners()
        rows = [Row(one.name, number, request) for one in requests for number, request in enumerate(one.vgpus)]
        rows.sort(key=lambda row: bool(row.request.type))  # report errors in requests for specific vGPUs first
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
            if not (self.options.assume and any(row.request.type for row in several)):  # in check mode, a later step can create a vGPU of this type
                self.errors.append(self._contradiction(several))

    def _find_owners(self) -> None:
        """Records the VMs that keep a vGPU. A VM keeps each defined or attached device that this plan does not detach."""
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
        """Returns the cost of assigning a vGPU to a VM, which mainly depends on the number of additional steps.

        If several assignments need the same number of steps, an assignment with which running VMs keep their devices costs less.
        """
        domain, extra = self.host.domains[row.vm], 2 if self.options.exclusive else 1  # exclusive: the VM's current vGPU is also detached
        defined = next((one for one in domain.defined or () if one.key == key), None)
        is_live = not domain.running or key in [one.key for one in domain.live or ()]
        steps = extra if defined is None else int(not is_same(defined, self.host.desired(row.request, key, defined)))
        steps += 0 if is_live or not self.options.live else extra
        other = key not in self.options.preferred.get(row.vm, (key,))
        return (steps * (rows + 1) + int(not is_live)) * (rows + 1) + int(other)

    def _blockers(self, key: str, vm: str) -> list[str]:
        """Returns the VMs that prevent a VM from getting a vGPU, as message text.

        The result includes the VM itself if the VM has the vGPU in a form that this collection cannot change.
        """
        return list(dict.fromkeys(one.text for one in self.owners.get(key, ()) if one.vm != vm or not one.direct))

    def _wrong(self, row: Row, fitting: Sequence[str]) -> Refusal | None:
        """Returns the error if no vGPU can be assigned to a request, regardless of other requests, or None."""
        request = row.request
        if request.vf and len(fitting) > 1:
            return Refusal(
                "%d vGPUs exist on %s" % (len(fitting), request.vf), device=request.where, expected="a request that identifies a single vGPU",
                remedy="Specify the uuid of one of these vGPUs (%s), or request a type with the gpu option." % ", ".join(fitting[:8]), code="ambiguous_vf",
            )
        if row.candidates or self.options.assume and (request.type or not fitting):
            return None
        return self._none_free(row, fitting) if request.type else self._not_available(row, fitting)

    def _not_available(self, row: Row, fitting: Sequence[str]) -> Refusal:
        """Returns the error for a request that specifies a missing or unavailable vGPU."""
        request, vm = row.request, row.vm
        if not fitting:
            return Refusal(
                "the vGPU %s does not exist" % request.uuid if request.uuid else "no vGPU exists on %s" % request.vf,
                device=request.where, expected="a vGPU on this host", code="no_such_vgpu",
                remedy="Run 'vgpuctl status' to list the vGPUs, or create the vGPU with the vgpu_layout variable.",
            )
        key = fitting[0]
        owners = self._blockers(key, vm)
        if owners:
            return Refusal(
                "the vGPU is attached to the VM %s" % owners[0] if len(owners) == 1 else "the vGPU is attached to the VMs %s" % ", ".join(owners),
                device=key, expected="a vGPU for %s that is not attached to another VM" % vm, code="vgpu_taken",
                remedy="Specify another vGPU. Alternatively, detach this vGPU with an entry for the other VM that lists only that VM's other vGPUs. "
                "If a saved state contains the vGPU, start the VM or delete the saved state.",
            )
        return Refusal(
            "the vGPU is in use by %s" % ", ".join(map(str, self.host.other_users(key, vm))),
            device=key, expected="a free vGPU for %s" % vm, remedy="Stop the VM or process that uses the vGPU, or specify another vGPU.", code="in_use",
        )

    def _none_free(self, row: Row, fitting: Sequence[str]) -> Refusal:
        request, vm = row.request, row.vm
        what = _what(request)
        if not fitting:
            there = ", ".join(sorted({self.host.type_of(key) for key in self.host.vgpus} - {""}))
            return Refusal(
                "no vGPU of the type %s exists for %s: the host has %s" % (what, vm, there or "no vGPU"),
                device=request.where, expected="a free vGPU of the type %s" % request.type,
                remedy="Create such a vGPU with the vgpu_layout variable, or request another type.", code="no_such_vgpu",
            )
        return Refusal(
            "none of the %d vGPUs of the type %s is free for %s (%s)" % (len(fitting), what, vm, _few([self._taken(key, vm) for key in fitting])),
            device=request.where, expected="a free vGPU of the type %s" % request.type, code="none_free",
            remedy="Create more vGPUs with the vgpu_layout variable, or detach a vGPU from another VM.",
        )

    def _taken(self, key: str, vm: str) -> str:
        return "%s: %s" % (key, ", ".join([*self._blockers(key, vm), *map(str, self.host.other_users(key, vm))]))

    def _contradiction(self, rows: Sequence[Row]) -> Refusal:
        """Returns the error for requests that outnumber the available vGPUs."""
        keys = [key for key in self.host.vgpus if any(key in row.candidates for row in rows)]
        asked = ["%s: %s for %s" % (row.request.where, _what(row.request), row.vm) for row in rows]
        others = {key: row.vm for row in rows for key in self.host.fitting(row.request) if key not in keys}
        taken = "; not free: %s" % _few([self._taken(key, vm) for key, vm in others.items()]) if others else ""
        return Refusal(
            "%d requests (%s) compete for %d vGPUs: %s%s" % (len(rows), _few(asked), len(keys), _few(keys), taken),
            device=rows[0].request.where, expected="one vGPU for each request", code="none_free",
            remedy="Create more vGPUs with the vgpu_layout variable, or change one of these requests.",
        )


def _few(words: Sequence[str]) -> str:
    return ", ".join(words[:8]) + (" …" if words[8:] else "")


def _what(request: VgpuRequest) -> str:
    """Returns a request as message text."""
    if request.type:
        return "%s on %s" % (request.type, request.gpu) if request.gpu else request.type
    return request.uuid or "the vGPU on %s" % request.vf
