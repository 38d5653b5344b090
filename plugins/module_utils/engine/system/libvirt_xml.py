# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's domains with devices of the host, as defined (/etc) and as they run (/run): read from its files, so that no libvirt need answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ..base.errors import EngineError
from ..hardware import address
from . import files

DEFINED = "/etc/libvirt/qemu"
RUNNING = "/run/libvirt/qemu"
_SWITCH: dict[str | None, bool] = {"on": True, "off": False}


@dataclass(eq=False, repr=False)
class Hostdev:
    """A device of the host in a VM. kind: mdev or pci; key: UUID or PCI address in sysfs' spelling. display, ramfb: None if not in the XML."""

    kind: str
    key: str
    managed: bool = False
    display: bool | None = None
    ramfb: bool | None = None

    @property
    def mediated(self) -> bool:
        """Whether it is a mediated device."""
        return self.kind == "mdev"


@dataclass(eq=False, repr=False)
class Domain:
    """A VM. defined and live: its devices as it is defined and as it runs, None where it is not; devices: managed or not, of both, by key."""

    name: str
    defined: list[Hostdev] | None = None
    live: list[Hostdev] | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.live is not None

    @property
    def devices(self) -> dict[str, bool]:
        """For each PCI address or UUID whether libvirt manages it (managed='yes'), what was plugged in since the start last."""
        return {one.key: one.managed for one in (self.defined or []) + (self.live or [])}

    def __str__(self) -> str:
        return "%s (%s)" % (self.name, "running" if self.running else "not running")

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        devices = [{"device": key, "managed": managed} for key, managed in sorted(self.devices.items())]
        return {"name": self.name, "running": self.running, "devices": devices}


def parse(text: str) -> tuple[str, list[Hostdev]]:
    """(name, hostdevs) of a domain's XML, as defined or as it runs; raises ValueError where it is none."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as exc:
        raise ValueError(str(exc)) from exc
    domain = root if root.tag == "domain" else root.find("domain")
    if domain is None:
        raise ValueError("it has no <domain>")
    devices = []
    for one in domain.iterfind("devices/hostdev"):
        kind = one.get("type", "")
        key = _device(kind, one.find("source/address"))
        if key:
            display, ramfb = (_SWITCH.get(one.get(name)) for name in ("display", "ramfb"))
            devices.append(Hostdev(kind, key, one.get("managed") == "yes", display, ramfb))
    return (domain.findtext("name") or "").strip(), devices


def _device(kind: str, source: ElementTree.Element | None) -> str | None:
    """The key of a <hostdev>: the UUID of a mediated device, or a PCI address; None for other devices."""
    if source is not None and kind == "mdev":
        return (source.get("uuid") or "").strip().lower() or None
    if source is None or kind != "pci":
        return None
    try:
        text = "%x:%x:%x.%x" % tuple(int(source.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function"))
    except ValueError:
        return None
    return address.parse(text) if address.is_address(text) else None


def domains(root: str) -> tuple[list[Domain], list[str]]:
    """All domains that have devices, by name, and warnings of files that are no domain's."""
    found, warnings = all_domains(root)
    return [one for one in found if one.devices], warnings


def all_domains(root: str) -> tuple[list[Domain], list[str]]:
    """All domains, by name, and warnings of files that are no domain's."""
    found: dict[str, Domain] = {}
    warnings = []
    for directory in (DEFINED, RUNNING):
        for path in files.names(root, directory, ".xml"):
            if not os.path.isfile(root + path):
                continue
            try:
                name, devices = parse(files.read_text(root, path) or "")
            except (ValueError, EngineError) as exc:
                warnings.append("%s: it can't be read as libvirt's XML of a VM (%s), so the devices of that VM are not known" % (path, exc))
                continue
            name = name or os.path.basename(path)[: -len(".xml")]
            one = found.setdefault(name, Domain(name))
            if directory == RUNNING:
                one.live = devices
            else:
                one.defined = devices
    return [found[name] for name in sorted(found)], warnings
