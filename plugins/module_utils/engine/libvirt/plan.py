# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the host's vGPUs, libvirt's VMs and the requests to steps. Pure: nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Refusal, raise_if_any
from ..base.plan import Plan
from ..base.steps import Step
from ..read.inventory import Inventory
from ..system.libvirt_xml import Domain, Hostdev
from .placement import Host, Options, Placement
from .request import DomainRequest, VgpuRequest

_SWITCH = {None: "as libvirt has it", True: "on", False: "off"}
# The step for a running VM, and the warning where it is left alone.
_RUNNING = {
    "attach": ("attach %s to the running VM", "%s runs: it gets %s at its next start"),
    "detach": ("detach %s from the running VM", "%s runs: it has %s until it stops"),
}


@dataclass(eq=False, repr=False)
class Target:
    """What each VM then has: (VM, key, type)."""

    attached: list[tuple[str, str, str | None]] = field(default_factory=list)


def plan(inventory: Inventory, domains: Sequence[Domain], requests: Sequence[DomainRequest], options: Options) -> Plan[Target]:
    """The steps; raises EngineError with everything that stands against them."""
    host = Host(inventory, domains)
    raise_if_any(_unknown(host, requests))
    placement = Placement(host, options)
    placement.place(requests)
    raise_if_any(placement.errors)
    made = _Planner(host, options)
    for request in requests:
        made.add(request, placement.keys[request.name])
    # What is detached from one VM may be what is attached to another.
    made.plan.steps.sort(key=lambda step: step.kind != "detach-device")
    return made.plan


def _unknown(host: Host, requests: Sequence[DomainRequest]) -> list[Refusal]:
    found = []
    for request in requests:
        name, domain = request.name, host.domains.get(request.name)
        if domain is None:
            found.append(Refusal(
                "libvirt has no VM of that name; it has %s" % (", ".join(sorted(host.domains)[:20]) or "none"),
                device=name, expected="a VM that is defined", code="unknown_vm",
                remedy="Define it first ('virsh define'), or mend %s.name." % request.where,
            ))
        elif domain.defined is None:
            found.append(Refusal(
                "it has no definition: it is gone when it stops",
                device=name, expected="a VM that is defined", code="transient_vm",
                remedy="Define it ('virsh dumpxml %s > %s.xml; virsh define %s.xml')." % (name, name, name),
            ))
    return found


@dataclass(eq=False, repr=False)
class _Planner:
    """Collects the steps of one VM after another."""

    host: Host
    options: Options
    plan: Plan[Target] = field(default_factory=lambda: Plan(Target()))

    def add(self, request: DomainRequest, keys: Sequence[str | None]) -> None:
        """The steps of a VM. keys: of its vGPUs, None for one that is still to come."""
        domain = self.host.domains[request.name]
        defined, live = ({one.key: one for one in devices or []} for devices in (domain.defined, domain.live))
        for vgpu, key in zip(request.vgpus, keys):
            if key is None:
                text = "attach a vGPU that is still to come (%s)" % (vgpu.type or vgpu.uuid or vgpu.vf)
                self.plan.steps.append(Step("assume", None, domain.name, text))
                continue
            self.plan.target.attached.append((domain.name, key, self.host.vgpus[key][1].type))
            desired = self._desired(vgpu, key, defined.get(key))
            self._define(domain, desired, defined.get(key))
            if domain.running and key not in live:
                self._change_running("attach", domain, desired)
        present = {**live, **defined}
        for key in sorted(present):
            if self.options.exclusive and key not in keys and self.host.ours(present[key]):
                if key in defined:
                    self._step("detach", domain, present[key], "detach %s")
                if key in live:
                    self._change_running("detach", domain, present[key])

    def _desired(self, request: VgpuRequest, key: str, has: Hostdev | None) -> Hostdev:
        """The device as it is to be defined. What the user does not set stays as it is."""
        new = Hostdev(self.host.kind(key), key)
        if self.host.has_display(key):
            old = has or new
            new.display = old.display if request.display is None else request.display
            new.ramfb = old.ramfb if request.ramfb is None else request.ramfb
        return new

    def _step(self, word: str, domain: Domain, hostdev: Hostdev, text: str, live: bool = False) -> None:
        """Adds a step. text: with a %s for the device."""
        text %= self._named(hostdev)
        self.plan.steps.append(Step(word + "-device", domain.name, domain.name, text, hostdev=hostdev, live=live))

    def _named(self, hostdev: Hostdev) -> str:
        type_name = self.host.type_of(hostdev.key)
        return "%s (%s)" % (hostdev.key, type_name) if type_name else hostdev.key

    def _define(self, domain: Domain, desired: Hostdev, has: Hostdev | None) -> None:
        if has is None:
            self._step("attach", domain, desired, "attach %s")
        elif has.managed or (has.display, has.ramfb) != (desired.display, desired.ramfb):
            why = "managed='no' with it" if has.managed else "with display %s, ramfb %s" % (_SWITCH[desired.display], _SWITCH[desired.ramfb])
            self._step("detach", domain, has, "detach %s, to attach it again " + why)
            self._step("attach", domain, desired, "attach %s " + why)

    def _change_running(self, word: str, domain: Domain, hostdev: Hostdev) -> None:
        """The step for the running VM, or the warning where it is to be left alone."""
        text, warning = _RUNNING[word]
        if self.options.live:
            self._step(word, domain, hostdev, text, live=True)
        else:
            self.plan.warnings.append(warning % (domain.name, self._named(hostdev)))
