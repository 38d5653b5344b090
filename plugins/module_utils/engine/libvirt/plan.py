# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the host's vGPUs, libvirt's VMs and the requests to steps. Pure: nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Sequence, Tuple

from ..base.errors import Trouble, raise_if_any
from ..base.plan import Plan
from ..base.steps import Step
from ..read.inventory import Inventory
from ..system.libvirt_xml import Domain, Hostdev
from .placement import Host, Options, Placement, index
from .request import DomainRequest, VgpuRequest


@dataclass
class Target:
    """What each VM then has: (VM, key, type)."""

    attached: List[Tuple[str, str, Optional[str]]] = field(default_factory=list)


def plan(inventory: Inventory, domains: Sequence[Domain], requests: Sequence[DomainRequest], options: Options) -> Plan[Target]:
    """The steps; raises EngineError with everything that stands against them."""
    host = index(inventory, domains)
    raise_if_any(_unknown(host, requests))
    placement = Placement(host, options)
    placement.place(requests)
    raise_if_any(placement.troubles)
    made = _Planner(host, options)
    for request in requests:
        keys = placement.keys[request.name]
        made.add(request, [keys[number] for number in range(len(request.vgpus))])
    # What is detached from one VM may be what is attached to another.
    made.plan.steps.sort(key=lambda step: step.kind != "detach-device")
    return made.plan


def _unknown(host: Host, requests: Sequence[DomainRequest]) -> List[Trouble]:
    found = []
    for request in requests:
        domain = host.domains.get(request.name)
        if domain is None:
            found.append(
                Trouble(
                    "libvirt has no VM of that name; it has %s" % (", ".join(sorted(host.domains)[:20]) or "none"),
                    device=request.name,
                    wanted="a VM that is defined",
                    remedy="Define it first ('virsh define'), or mend %s.name." % request.where,
                    code="unknown_vm",
                )
            )
        elif domain.defined is None:
            found.append(
                Trouble(
                    "it has no definition: it is gone when it stops",
                    device=request.name,
                    wanted="a VM that is defined",
                    remedy="Define it ('virsh dumpxml %s > %s.xml; virsh define %s.xml')." % ((request.name,) * 3),
                    code="transient_vm",
                )
            )
    return found


@dataclass
class _Planner:
    """Collects the steps of one VM after another."""

    host: Host
    options: Options
    plan: Plan[Target] = field(default_factory=lambda: Plan(Target()))

    def add(self, request: DomainRequest, keys: Sequence[Optional[str]]) -> None:
        """The steps of a VM. keys: of its vGPUs, None for one that is still to come."""
        domain = self.host.domains[request.name]
        defined = {one.key: one for one in domain.defined or []}
        live = {one.key: one for one in domain.live or []}
        for vgpu, key in zip(request.vgpus, keys):
            if key is None:
                text = "attach a vGPU that is still to come (%s)" % (vgpu.type or vgpu.uuid or vgpu.vf)
                self.plan.steps.append(Step("assume", None, domain.name, text))
                continue
            self.plan.target.attached.append((domain.name, key, self.host.vgpus[key][1].type))
            self._attach(domain, self._desired(vgpu, key, defined.get(key)), defined.get(key))
        if self.options.exclusive:
            for key in sorted(set(defined) | set(live)):
                one = defined.get(key) or live[key]
                if key not in keys and self.host.ours(one):
                    self._detach(domain, one)

    def _desired(self, request: VgpuRequest, key: str, has: Optional[Hostdev]) -> Hostdev:
        """The device as it is to be defined. What the user does not set stays as it is."""
        old = has or Hostdev(self.host.kind(key), key)
        if not self.host.has_display(key):
            return Hostdev(self.host.kind(key), key)
        display = old.display if request.display is None else request.display
        ramfb = old.ramfb if request.ramfb is None else request.ramfb
        return Hostdev(self.host.kind(key), key, False, display, ramfb)

    def _step(self, verb: str, domain: Domain, hostdev: Hostdev, text: str, live: bool = False) -> None:
        self.plan.steps.append(Step(verb, domain.name, domain.name, text, hostdev=hostdev, live=live))

    def _named(self, key: str) -> str:
        type_name = self.host.type_of(key)
        return "%s (%s)" % (key, type_name) if type_name else key

    def _attach(self, domain: Domain, desired: Hostdev, has: Optional[Hostdev]) -> None:
        what = self._named(desired.key)
        if has is None:
            self._step("attach-device", domain, desired, "attach %s" % what)
        elif has.managed or (has.display, has.ramfb) != (desired.display, desired.ramfb):
            why = "managed='no' with it" if has.managed else "with display %s, ramfb %s" % (_word(desired.display), _word(desired.ramfb))
            self._step("detach-device", domain, has, "detach %s, to attach it again %s" % (what, why))
            self._step("attach-device", domain, desired, "attach %s %s" % (what, why))
        if not domain.running or desired.key in [one.key for one in domain.live or []]:
            return
        if self.options.live:
            self._step("attach-device", domain, desired, "attach %s to the running VM" % what, live=True)
        else:
            self.plan.warnings.append("%s runs: it gets %s at its next start" % (domain.name, what))

    def _detach(self, domain: Domain, hostdev: Hostdev) -> None:
        what = self._named(hostdev.key)
        if hostdev.key in [one.key for one in domain.defined or []]:
            self._step("detach-device", domain, hostdev, "detach %s" % what)
        if hostdev.key not in [one.key for one in domain.live or []]:
            return
        if self.options.live:
            self._step("detach-device", domain, hostdev, "detach %s from the running VM" % what, live=True)
        else:
            self.plan.warnings.append("%s runs: it has %s until it stops" % (domain.name, what))


def _word(switch: Optional[bool]) -> str:
    return {None: "as libvirt has it", True: "on", False: "off"}[switch]
