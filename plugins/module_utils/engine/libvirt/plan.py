# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps that attach requested vGPUs to libvirt VMs and detach other vGPUs. This module does not access the host."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Iterator, Sequence

from ..base.errors import Refusal, raise_if_any
from ..base.plan import Plan
from ..base.steps import Step
from ..read.inventory import Inventory
from ..system.libvirt_xml import Domain, Hostdev
from .placement import Host, Options, Placement, is_same
from .request import DomainRequest

_SWITCH = {None: "not set", True: "on", False: "off"}
# The step text for each change to a running VM, and the warning if running VMs must not be changed.
_RUNNING = {
    "attach": ("attach %s to the running VM", "the VM %s is running, so %s is attached only at the next start of the VM"),
    "detach": ("detach %s from the running VM", "the VM %s is running, so %s remains attached until the VM stops"),
}


@dataclass(eq=False, repr=False)
class Target:
    """The result of a plan for libvirt VMs.

    Attributes:
        attached: The vGPUs that are attached after the run, as tuples of VM name, vGPU key, and vGPU type.
    """

    attached: list[tuple[str, str, str | None]] = field(default_factory=list)


def plan(inventory: Inventory, domains: Sequence[Domain], requests: Sequence[DomainRequest], options: Options) -> Plan[Target]:
    """Returns the plan for all VM requests. Raises EngineError with all refusals."""
    host = Host(inventory, domains, options.foreign)
    raise_if_any(_unknown(host, requests))
    placement = Placement(host, options)
    placement.place(requests)
    made = _Planner(host, options, Plan(Target(), errors=placement.errors))
    for request in requests:
        made.add(request, placement.keys[request.name])
    made.plan.refuse()
    # Detach all devices first, because a device that is detached from one VM can be attached to another VM.
    made.plan.steps.sort(key=lambda step: step.kind != "detach-device")
    order = {key: number for number, key in enumerate(host.vgpus)}
    made.plan.target.attached.sort(key=lambda one: order[one[1]])
    return made.plan


def _unknown(host: Host, requests: Sequence[DomainRequest]) -> list[Refusal]:
    found = []
    for request in requests:
        name, domain = request.name, host.domains.get(request.name)
        if domain is None:
            found.append(Refusal(
                "libvirt has no VM with this name (existing VMs: %s)" % (", ".join(sorted(host.domains)[:20]) or "none"),
                device=name, expected="a VM that is defined", code="unknown_vm",
                remedy="Define the VM with 'virsh define', or correct %s.name." % request.where,
            ))
        elif domain.defined is None:
            found.append(Refusal(
                "the VM has no persistent definition and disappears when the VM stops",
                device=name, expected="a VM that is defined", code="transient_vm",
                remedy="Define the VM with 'virsh dumpxml %s > vm.xml; virsh define vm.xml'." % domain.uuid,
            ))
        elif not domain.uuid:
            found.append(Refusal(
                "the VM definition has no UUID", device=name, expected="a definition that libvirt wrote", code="no_vm_uuid",
                remedy="Define the VM with 'virsh define'. Do not edit the files in /etc/libvirt/qemu, because libvirt manages these files.",
            ))
    return found


@dataclass(eq=False, repr=False)
class _Planner:
    """Collects the steps for each VM in turn."""

    host: Host
    options: Options
    plan: Plan[Target]

    def add(self, request: DomainRequest, keys: Sequence[str | None]) -> None:
        """Adds the steps for one VM.

        Args:
            keys: The keys of the vGPUs assigned to the VM, in the order of the VM's requests. None stands for a vGPU that is created later.
        """
        domain = self.host.domains[request.name]
        defined, live = ({one.key: one for one in devices or []} for devices in (domain.defined, domain.live))
        present = {**live, **defined}
        gone = [key for key in sorted(present) if self.options.exclusive and key not in keys and self.host.ours(present[key])]
        after = {key: one for key, one in defined.items() if key not in gone}
        for vgpu, key in zip(request.vgpus, keys):
            if key is None:
                text = "attach a vGPU that is created later (%s)" % (vgpu.type or vgpu.uuid or vgpu.vf)
                self.plan.steps.append(Step("assume", None, domain.name, text))
                continue
            self.plan.target.attached.append((domain.name, key, self.host.vgpus[key][1].type))
            after[key] = self.host.desired(vgpu, key, defined.get(key))
            if vgpu.display and not self.host.has_display(key):
                self.plan.errors.append(Refusal(
                    "the vGPU uses the vendor-specific VFIO framework, for which libvirt supports no display",
                    device=key, expected="a mediated device, if a display is requested", remedy="Remove the display option.", code="bad_display",
                ))
            self._define(domain, after[key], defined.get(key))
            if domain.running and key not in live:
                self._change_running("attach", domain, replace(after[key], element=None))  # the running VM might already use this PCI address
        for key in gone:
            if key in defined:
                self._step("detach", domain, present[key], "detach %s")
            if key in live:
                self._change_running("detach", domain, live[key])
        self.plan.errors += _refused_by_libvirt(domain, list(after.values()))
        if domain.suspended and any(step.lane == domain.name for step in self.plan.steps):
            text = ("the VM %s has a managed save, so the next start resumes the saved state, and the devices change only after a shutdown. "
                    "To discard the saved state, run 'virsh managedsave-remove %s'.")
            self.plan.warnings.append(text % (domain.name, domain.uuid))

    def _step(self, word: str, domain: Domain, hostdev: Hostdev, text: str, **more: Any) -> None:
        """Adds a step for one device to the plan.

        Args:
            text: The step text, with %s for the device.
        """
        names = self.host.names(hostdev.key) if hostdev.key in self.host.vgpus else [hostdev.key]
        args = {"vm": domain, "hostdev": hostdev, "names": names, "live": False, **more}
        self.plan.steps.append(Step(word + "-device", domain.name, domain.name, text % self._named(hostdev), **args))

    def _named(self, hostdev: Hostdev) -> str:
        type_name = self.host.type_of(hostdev.key)
        return "%s (%s)" % (hostdev.key, type_name) if type_name else hostdev.key

    def _define(self, domain: Domain, desired: Hostdev, has: Hostdev | None) -> None:
        if has is None:
            self._step("attach", domain, desired, "attach %s")
        elif not is_same(has, desired):
            switches = "display %s, ramfb %s" % (_SWITCH[desired.display], _SWITCH[desired.ramfb])
            self._step("change", domain, desired, "change %s to " + (switches if desired.mediated else "managed='no'"), old=has)
            if desired.key in [one.key for one in domain.live or ()]:
                self.plan.warnings.append(
                    "the VM %s is running, so the change of %s takes effect at the next start of the VM" % (domain.name, self._named(desired)))

    def _change_running(self, word: str, domain: Domain, hostdev: Hostdev) -> None:
        """Adds the step that changes a running VM, or a warning if running VMs must not be changed."""
        text, warning = _RUNNING[word]
        if self.options.live:
            self._step(word, domain, hostdev, text, live=True)
        else:
            self.plan.warnings.append(warning % (domain.name, self._named(hostdev)))


def _refused_by_libvirt(domain: Domain, devices: Sequence[Hostdev]) -> Iterator[Refusal]:
    """Yields errors in a VM definition that libvirt would reject, or with which QEMU would not start.

    Args:
        devices: The VM's devices in the new definition.
    """
    shown = [one.key for one in devices if one.display]
    if shown and not domain.graphics:
        yield Refusal(
            "the VM definition has no <graphics> element, but a display is requested for %s" % ", ".join(shown),
            device=domain.name, expected="a <graphics> element in the VM definition",
            remedy="Run 'virsh edit %s', and add <graphics type='vnc'/>. Alternatively, remove the display option." % domain.uuid, code="no_graphics",
        )
    first = [one.key for one in devices if one.ramfb]
    if len(first) + domain.ramfb > 1:
        others = " and a <video> element of type ramfb" if domain.ramfb else ""
        yield Refusal(
            "the VM would have several ramfb devices: %s%s" % (", ".join(first), others), device=domain.name,
            expected="at most one ramfb device, because the VM otherwise does not start",
            remedy="Set ramfb: true for only one vGPU of this VM.", code="bad_display",
        )
    dark = [one.key for one in devices if one.ramfb and not one.display]
    if dark:
        yield Refusal(
            "%s has ramfb='on' without a display" % ", ".join(dark), device=domain.name, expected="a display, because the VM otherwise does not start",
            remedy="Set display: true or ramfb: false.", code="bad_display",
        )
