# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the host's vGPUs, libvirt's VMs and a wish to steps. Pure: nothing is read or written here.

What a VM has and still wants, it keeps; a vGPU that another VM has, defined or running, is nobody else's.
"""

from __future__ import annotations

from ..base.errors import Trouble, raise_if_any
from ..base.steps import Step
from ..hardware import catalog, vgpu_types
from ..hardware.address import is_address, parse as parse_address
from ..system.libvirt_xml import Hostdev


class Options:
    """exclusive: other vGPUs of these VMs go. live: a running VM gets them, and loses them, now. assume: missing ones are still to come (check mode)."""

    def __init__(self, exclusive=True, live=False, assume=False):
        self.exclusive = exclusive
        self.live = live
        self.assume = assume


class Plan:
    """steps, what each VM then has [(VM, key, type)], sentences of what the user should know."""

    def __init__(self):
        self.steps = []
        self.attached = []
        self.warnings = []


class _Host:
    """The vGPUs by key, and which VM has which."""

    def __init__(self, inventory, domains):
        self.vgpus = {vgpu.key: (gpu, vgpu) for gpu in inventory.gpus for vgpu in gpu.vgpus}
        self.by_parent = {vgpu.parent: key for key, (dummy, vgpu) in self.vgpus.items()}
        self.vfs = {vf.address for gpu in inventory.gpus for vf in gpu.vfs}
        self.mdevs = {vgpu.uuid for vgpu in inventory.mdevs}
        self.domains = {one.name: one for one in domains}

    def ours(self, hostdev):
        """Whether it is a vGPU of this host, or was one: an mdev that is nowhere any more, or a VF of our GPUs."""
        if hostdev.kind == "mdev":
            return hostdev.key in self.vgpus or hostdev.key not in self.mdevs
        return hostdev.key in self.vfs or hostdev.key in self.vgpus

    def kind(self, key):
        """How libvirt calls such a device."""
        return "mdev" if self.vgpus[key][1].uuid else "pci"

    def fits(self, key, wish):
        """Whether the vGPU is one of those that a wish by type means."""
        gpu, vgpu = self.vgpus[key]
        if vgpu_types.short_name(vgpu.type or "").lower() != vgpu_types.short_name(wish.type).lower():
            return False
        if not wish.gpu:
            return True
        if is_address(wish.gpu):
            return gpu.address == parse_address(wish.gpu)
        return (gpu.uuid or "").lower() == wish.gpu.lower() or catalog.same_model(gpu.name, wish.gpu)


def plan(inventory, domains, wishes, options):
    """The steps; raises EngineError with all that stands against them."""
    host = _Host(inventory, domains)
    made = Plan()
    raise_if_any(_unknown(host, wishes))
    chosen, troubles = _choose(host, wishes, options)
    raise_if_any(troubles)
    for wish in wishes:
        _steps_of(host, wish, chosen[wish.name], options, made)
    # What goes from one VM may be what comes to another.
    made.steps.sort(key=lambda step: step.kind != "detach-device")
    return made


def _unknown(host, wishes):
    found = []
    for wish in wishes:
        domain = host.domains.get(wish.name)
        if domain is None:
            found.append(
                Trouble(
                    "libvirt has no VM of that name; it has %s" % (", ".join(sorted(host.domains)[:20]) or "none"),
                    device=wish.name,
                    wanted="a VM that is defined",
                    remedy="Define it first ('virsh define'), or mend %s.name." % wish.where,
                    code="unknown_vm",
                )
            )
        elif domain.defined is None:
            found.append(
                Trouble(
                    "it has no definition: it is gone when it stops",
                    device=wish.name,
                    wanted="a VM that is defined",
                    remedy="Define it ('virsh dumpxml %s > %s.xml; virsh define %s.xml')." % ((wish.name,) * 3),
                    code="transient_vm",
                )
            )
    return found


def _choose(host, wishes, options):
    """Which vGPU each wish gets: {VM: [(wish, key or None)]}. None: one that is still to come."""
    chosen, troubles = {wish.name: [] for wish in wishes}, []
    taken = {}  # key: VM that has it or gets it
    for name, domain in host.domains.items():
        keeps = domain.live or []
        if name not in chosen or not options.exclusive:
            keeps = keeps + (domain.defined or [])
        for hostdev in keeps:
            taken.setdefault(hostdev.key, name)
    open_wishes = []
    for domain in wishes:
        for wish in domain.vgpus:
            if wish.type:
                open_wishes.append((domain, wish))
                continue
            key = wish.uuid if wish.uuid else host.by_parent.get(wish.vf, wish.vf)
            wrong = _not_his(host, domain, wish, key, taken, options)
            troubles += wrong
            if not wrong:
                taken[key] = domain.name
                chosen[domain.name].append((wish, key if key in host.vgpus else None))
    left = []
    for domain, wish in open_wishes:
        used = {key for dummy, key in chosen[domain.name]}
        mine = host.domains[domain.name]
        has = [one.key for one in (mine.defined or []) + (mine.live or [])]
        kept = [key for key in has if key in host.vgpus and key not in used and host.fits(key, wish) and taken.get(key, domain.name) == domain.name]
        if kept:
            taken[kept[0]] = domain.name
            chosen[domain.name].append((wish, kept[0]))
        else:
            left.append((domain, wish))
    for domain, wish in left:
        key = _free(host, domain, wish, taken)
        if key is None and not options.assume:
            troubles.append(_none_free(host, domain, wish, taken))
        if key:
            taken[key] = domain.name
        chosen[domain.name].append((wish, key))
    for domain in wishes:
        order = {id(wish): number for number, wish in enumerate(domain.vgpus)}
        chosen[domain.name].sort(key=lambda one, order=order: order[id(one[0])])
    return chosen, troubles + [one for domain in wishes for wish, key in chosen[domain.name] for one in _no_display(host, wish, key)]


def _not_his(host, domain, wish, key, taken, options):
    """Why a VM can't have the vGPU that it names."""
    if key not in host.vgpus:
        if options.assume:
            return []
        what = "there is no vGPU %s" % key if wish.uuid else "there is no vGPU on %s" % wish.vf
        remedy = "'nvidia-vgpu status' lists them; vgpu_layout makes them."
        return [Trouble(what, device=wish.where, wanted="a vGPU of this host", remedy=remedy, code="no_such_vgpu")]
    if taken.get(key, domain.name) != domain.name:
        return [
            Trouble(
                "the VM %s has it" % host.domains[taken[key]] if taken[key] in host.domains else "the VM %s gets it" % taken[key],
                device=key,
                wanted="a vGPU for %s that no other VM has" % domain.name,
                remedy="Take it from that VM first (an entry with the rest of its vGPUs), or name another one.",
                code="vgpu_taken",
            )
        ]
    others = _others(host, key, domain)
    if others:
        return [
            Trouble(
                "it is in use by %s" % ", ".join(map(str, others)),
                device=key,
                wanted="a free vGPU for %s" % domain.name,
                remedy="End that, or name another vGPU.",
                code="in_use",
            )
        ]
    return []


def _others(host, key, domain):
    """Who has the vGPU open and is not this VM."""
    return [holder for holder in host.vgpus[key][1].holders if holder.vm != domain.name]


def _free(host, domain, wish, taken):
    """The first vGPU, in order of GPU and VF, that the wish means and nobody has."""
    for key, dummy in sorted(host.vgpus.items(), key=lambda one: (one[1][0].address, one[1][1].index or 0, one[0])):
        if key not in taken and host.fits(key, wish) and not _others(host, key, domain):
            return key
    return None


def _none_free(host, domain, wish, taken):
    fitting = [key for key in host.vgpus if host.fits(key, wish)]
    where = " on %s" % wish.gpu if wish.gpu else ""
    if not fitting:
        there = sorted({vgpu_types.short_name(vgpu.type or "") for dummy, vgpu in host.vgpus.values()} - {""})
        return Trouble(
            "there is no %s%s for %s; the host has %s" % (wish.type, where, domain.name, ", ".join(there) or "no vGPU"),
            device=wish.where,
            wanted="a free %s" % wish.type,
            remedy="Make it (vgpu_layout), or name another type.",
            code="no_such_vgpu",
        )
    told = ["%s (%s)" % (key, taken.get(key) or ", ".join(map(str, _others(host, key, domain)))) for key in sorted(fitting)]
    return Trouble(
        "none of the %d %s%s is free for %s: %s" % (len(fitting), wish.type, where, domain.name, ", ".join(told[:8]) + (" …" if told[8:] else "")),
        device=wish.where,
        wanted="a free %s" % wish.type,
        remedy="Make more of them (vgpu_layout), or take one from another VM.",
        code="none_free",
    )


def _no_display(host, wish, key):
    if key is None or host.kind(key) == "mdev" or not wish.display:
        return []
    return [
        Trouble(
            "its framework is the vendor-specific VFIO, whose vGPUs libvirt gives no display",
            device=key,
            wanted="display with a mediated device",
            remedy="Leave display out.",
            code="bad_display",
        )
    ]


def _wanted(host, wish, key, has):
    """The device as it is to be defined. What the user says nothing of stays as it is."""
    old = has or Hostdev(host.kind(key), key)
    display = old.display if wish.display is None else wish.display
    ramfb = old.ramfb if wish.ramfb is None else wish.ramfb
    if host.kind(key) != "mdev":
        display = ramfb = None
    return Hostdev(host.kind(key), key, False, display, ramfb)


def _steps_of(host, domain, chosen, options, made):
    mine = host.domains[domain.name]
    has = {one.key: one for one in mine.defined}
    running = {one.key: one for one in mine.live or []}
    keeps = set()
    for wish, key in chosen:
        if key is None:
            made.steps.append(Step("assume", None, domain.name, "attach a vGPU that is still to come (%s)" % (wish.type or wish.uuid or wish.vf)))
            continue
        keeps.add(key)
        made.attached.append((domain.name, key, host.vgpus[key][1].type))
        _bring(host, mine, _wanted(host, wish, key, has.get(key)), has.get(key), running, options, made)
    if options.exclusive:
        for key in sorted(set(has) | set(running)):
            one = has.get(key) or running[key]
            if key not in keeps and host.ours(one):
                _take(host, mine, one, key in has, key in running, options, made)


def _step(verb, domain, hostdev, text, live=False):
    return Step(verb, domain.name, domain.name, text, hostdev=hostdev, live=live)


def _named(host, key):
    type_name = host.vgpus[key][1].type if key in host.vgpus else None
    return "%s (%s)" % (key, vgpu_types.short_name(type_name)) if type_name else key


def _bring(host, domain, wanted, has, running, options, made):
    what = _named(host, wanted.key)
    if has is None:
        made.steps.append(_step("attach-device", domain, wanted, "attach %s" % what))
    elif has.managed or (has.display, has.ramfb) != (wanted.display, wanted.ramfb):
        why = "managed='no' with it" if has.managed else "with display %s, ramfb %s" % (_word(wanted.display), _word(wanted.ramfb))
        made.steps.append(_step("detach-device", domain, has, "detach %s, to attach it again %s" % (what, why)))
        made.steps.append(_step("attach-device", domain, wanted, "attach %s %s" % (what, why)))
    if not domain.running or wanted.key in running:
        return
    if options.live:
        made.steps.append(_step("attach-device", domain, wanted, "attach %s to the running VM" % what, live=True))
    else:
        made.warnings.append("%s runs: it gets %s at its next start" % (domain.name, what))


def _take(host, domain, hostdev, defined, running, options, made):
    what = _named(host, hostdev.key)
    if defined:
        made.steps.append(_step("detach-device", domain, hostdev, "detach %s" % what))
    if running and options.live:
        made.steps.append(_step("detach-device", domain, hostdev, "detach %s from the running VM" % what, live=True))
    elif running:
        made.warnings.append("%s runs: it has %s until it stops" % (domain.name, what))


def _word(switch):
    return {None: "as libvirt has it", True: "on", False: "off"}[switch]
