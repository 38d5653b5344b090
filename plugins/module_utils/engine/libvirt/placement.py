# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which vGPU each request of a VM gets. Pure.

A VM keeps what it has and what still fits. A vGPU that another VM has, defined or running, is not available.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Refusal
from ..hardware import vgpu_types
from ..hardware.gpu import Holder
from ..read.inventory import Inventory
from ..system.libvirt_xml import Domain, Hostdev
from .request import DomainRequest, VgpuRequest


@dataclass(eq=False, repr=False)
class Options:
    """exclusive: other vGPUs of these VMs are detached. live: running VMs, too. assume: missing vGPUs are still to come (check mode)."""

    exclusive: bool = True
    live: bool = False
    assume: bool = False


class Host:
    """The vGPUs by key, and the VMs by name. mdevs: UUIDs of all mediated devices, other vendors' too."""

    def __init__(self, inventory: Inventory, domains: Sequence[Domain]) -> None:
        self.vgpus = {vgpu.key: (gpu, vgpu) for gpu in inventory.gpus for vgpu in gpu.vgpus}
        self.vfs = {vf.address for gpu in inventory.gpus for vf in gpu.vfs}
        self.mdevs = {vgpu.uuid for vgpu in inventory.mdevs}
        self.domains = {one.name: one for one in domains}

    def ours(self, hostdev: Hostdev) -> bool:
        """Whether it is a vGPU of this host, or was one: an mdev that no longer exists, or a VF of our GPUs."""
        return hostdev.key in self.vgpus or (hostdev.key not in self.mdevs if hostdev.mediated else hostdev.key in self.vfs)

    def kind(self, key: str) -> str:
        """libvirt's word for such a device."""
        return "mdev" if self.has_display(key) else "pci"

    def has_display(self, key: str) -> bool:
        """Whether libvirt can attach a display to it: only a mediated device."""
        return bool(self.vgpus[key][1].uuid)

    def type_of(self, key: str) -> str:
        """The short name of a vGPU's type; empty if it is unknown."""
        return vgpu_types.short_name(self.vgpus[key][1].type or "") if key in self.vgpus else ""

    def fits(self, key: str, request: VgpuRequest) -> bool:
        """Whether the vGPU is one of those that a request by type means."""
        gpu = self.vgpus[key][0]
        if self.type_of(key).lower() != vgpu_types.short_name(request.type or "").lower():
            return False
        return not request.gpu or gpu.answers_to(request.gpu)

    def other_users(self, key: str, vm: str) -> list[Holder]:
        """Who has the vGPU open and is not this VM."""
        return [holder for holder in self.vgpus[key][1].holders if holder.vm != vm]


@dataclass(eq=False, repr=False)
class Placement:
    """Places requests. taken: the VM that has a vGPU, or gets it. keys: of each VM's requests in their order, None for one that is still to come."""

    host: Host
    options: Options
    taken: dict[str, str] = field(default_factory=dict)
    keys: dict[str, list[str | None]] = field(default_factory=dict)
    errors: list[Refusal] = field(default_factory=list)

    def place(self, requests: Sequence[DomainRequest]) -> None:
        """Places all requests: by name first, then those that keep what the VM has, then any free vGPU."""
        self.keys = {one.name: [None] * len(one.vgpus) for one in requests}
        # VMs keep what they run with, and what is defined unless it is to be detached.
        for name, domain in self.host.domains.items():
            stays = name not in self.keys or not self.options.exclusive
            for hostdev in (domain.live or []) + ((domain.defined or []) if stays else []):
                self.taken.setdefault(hostdev.key, name)
        numbered = [(one.name, number, request) for one in requests for number, request in enumerate(one.vgpus)]
        on_vf = {vgpu.parent: key for key, (dummy, vgpu) in self.host.vgpus.items()}
        for vm, number, request in [one for one in numbered if not one[2].type]:
            named = request.uuid or on_vf.get(request.vf or "", request.vf or "")
            wrong = self._not_available(vm, request, named)
            if wrong:
                self.errors.append(wrong)
            else:
                self._attach(vm, number, named)
        by_type = [one for one in numbered if one[2].type]
        for vm, number, request in by_type:
            self._attach(vm, number, self._kept(vm, request))
        for vm, number, request in by_type:
            key = self.keys[vm][number] or self._free(vm, request)
            if key is None and not self.options.assume:
                self.errors.append(self._none_free(vm, request))
            self._attach(vm, number, key)
        for vm, number, request in numbered:
            key = self.keys[vm][number]
            if key and request.display and not self.host.has_display(key):
                self.errors.append(Refusal(
                    "its framework is the vendor-specific VFIO, whose vGPUs have no display in libvirt",
                    device=key, expected="display with a mediated device", remedy="Leave display out.", code="bad_display",
                ))

    def _attach(self, vm: str, number: int, key: str | None) -> None:
        if key:
            self.taken[key] = vm
        self.keys[vm][number] = key if key in self.host.vgpus else None

    def _kept(self, vm: str, request: VgpuRequest) -> str | None:
        """A vGPU that fits and that the VM has already."""
        domain = self.host.domains[vm]
        own = [one.key for one in (domain.defined or []) + (domain.live or []) if one.key in self.host.vgpus and one.key not in self.keys[vm]]
        return next((key for key in own if self.host.fits(key, request) and self.taken.get(key, vm) == vm), None)

    def _free(self, vm: str, request: VgpuRequest) -> str | None:
        """The first vGPU, in order of GPU and VF, that the request means and nobody has."""
        fitting = [(gpu.address, vgpu.index or 0, key) for key, (gpu, vgpu) in self.host.vgpus.items() if self.host.fits(key, request)]
        return next((key for dummy, dummy2, key in sorted(fitting) if key not in self.taken and not self.host.other_users(key, vm)), None)

    def _not_available(self, vm: str, request: VgpuRequest, key: str) -> Refusal | None:
        """Why a VM can't have the vGPU that it names."""
        if key not in self.host.vgpus and self.options.assume:
            return None
        if key not in self.host.vgpus:
            return Refusal(
                "there is no vGPU %s" % key if request.uuid else "there is no vGPU on %s" % request.vf,
                device=request.where, expected="a vGPU of this host", code="no_such_vgpu",
                remedy="'vgpuctl status' lists them; vgpu_layout creates them.",
            )
        owner, others = self.taken.get(key, vm), self.host.other_users(key, vm)
        if owner != vm:
            return Refusal(
                "the VM %s has it" % self.host.domains[owner] if owner in self.host.domains else "the VM %s gets it" % owner,
                device=key, expected="a vGPU for %s that no other VM has" % vm, code="vgpu_taken",
                remedy="Take it from that VM first (an entry with the rest of its vGPUs), or name another one.",
            )
        if others:
            return Refusal(
                "it is in use by %s" % ", ".join(map(str, others)),
                device=key, expected="a free vGPU for %s" % vm, remedy="End that, or name another vGPU.", code="in_use",
            )
        return None

    def _none_free(self, vm: str, request: VgpuRequest) -> Refusal:
        fitting = sorted(key for key in self.host.vgpus if self.host.fits(key, request))
        what = "%s on %s" % (request.type, request.gpu) if request.gpu else request.type
        if not fitting:
            there = ", ".join(sorted({self.host.type_of(key) for key in self.host.vgpus} - {""}))
            return Refusal(
                "there is no %s for %s; the host has %s" % (what, vm, there or "no vGPU"),
                device=request.where, expected="a free %s" % request.type, remedy="Create it (vgpu_layout) or name another one.", code="no_such_vgpu",
            )
        users = ["%s (%s)" % (key, self.taken.get(key) or ", ".join(map(str, self.host.other_users(key, vm)))) for key in fitting]
        return Refusal(
            "none of the %d %s is free for %s: %s" % (len(fitting), what, vm, ", ".join(users[:8]) + (" …" if users[8:] else "")),
            device=request.where, expected="a free %s" % request.type, code="none_free",
            remedy="Create more of them (vgpu_layout), or detach one from another VM.",
        )
