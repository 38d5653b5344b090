# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads libvirt domains that have host devices: defined VMs (/etc), running VMs (/run), and saved VMs (/var/lib).

The source is libvirt's files, so libvirt does not need to be running.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Iterator
from xml.etree import ElementTree
from xml.parsers import expat

from ..base.errors import EngineError
from ..hardware import address
from . import files
from .context import Context

DEFINED = "/etc/libvirt/qemu"
RUNNING = "/run/libvirt/qemu"
SAVED = "/var/lib/libvirt/qemu/save"
SNAPSHOTS = "/var/lib/libvirt/qemu/snapshot"
_SWITCH: dict[str | None, bool] = {"on": True, "off": False}
# A saved VM's file starts with the magic number, the version, the XML length, and 80 more bytes, followed by the XML and a zero byte.
_SAVE_MAGIC, _SAVE_HEADER = b"LibvirtQemud", 92
_MOST_XML = 16 << 20
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COMMAND_LINE = "{http://libvirt.org/schemas/domain/qemu/1.0}commandline/{http://libvirt.org/schemas/domain/qemu/1.0}arg"
# This pattern matches a VFIO device in QEMU arguments, which can be JSON.
_VFIO = re.compile(r"""\b(?:host|sysfsdev)["']?\s*[=:]\s*["']?([^\s,"'}]+)""")


@dataclass(eq=False, repr=False)
class Hostdev:
    """A host device in a VM.

    ``kind`` is mdev or pci. ``key`` is a UUID, or a PCI address in sysfs format. ``display`` and ``ramfb`` are None if not set in the XML.
    ``element`` is the XML element with all of libvirt's settings, or None for a new device.
    """

    kind: str
    key: str
    managed: bool = False
    display: bool | None = None
    ramfb: bool | None = None
    element: ElementTree.Element | None = None

    @property
    def mediated(self) -> bool:
        """Returns whether the device is a mediated device."""
        return self.kind == "mdev"


@dataclass(eq=False, repr=False)
class Definition:
    """The contents of a VM's XML.

    ``fixed`` contains the keys of devices on QEMU's command line, which libvirt does not manage. ``graphics`` is true if a <graphics> element exists.
    ``ramfb`` is true if a <video> element has the type ramfb. ``memory`` is true if the XML is from a saved state that contains the VM's memory.
    """

    name: str
    uuid: str
    devices: list[Hostdev]
    fixed: list[str]
    graphics: bool
    ramfb: bool
    memory: bool


@dataclass(eq=False, repr=False)
class Domain:
    """A libvirt VM.

    ``defined`` contains the devices in the VM's definition, or is None without a definition. ``live`` contains the running VM's devices, or is None.
    ``saved`` maps device keys to the saved state that needs the device. ``suspended`` is true if the VM's next start resumes a managed save.
    See Definition for ``fixed``, ``graphics``, and ``ramfb``.
    """

    name: str
    defined: list[Hostdev] | None = None
    live: list[Hostdev] | None = None
    uuid: str = ""
    saved: dict[str, str] = field(default_factory=dict)
    suspended: bool = False
    fixed: list[str] = field(default_factory=list)
    graphics: bool = False
    ramfb: bool = False

    @property
    def running(self) -> bool:
        """Returns whether the VM is running."""
        return self.live is not None

    @property
    def devices(self) -> dict[str, bool]:
        """Returns whether libvirt manages (managed='yes') each device, keyed by PCI address or UUID. Devices attached after VM startup come last."""
        other = dict.fromkeys([*self.fixed, *self.saved], False)
        return {**other, **{one.key: one.managed for one in (self.defined or []) + (self.live or [])}}

    def __str__(self) -> str:
        return "%s (%s)" % (self.name, "running" if self.running else "not running")

    def as_dict(self) -> dict[str, Any]:
        """Returns the VM as a dictionary for the module result."""
        devices = [{"device": key, "managed": managed} for key, managed in sorted(self.devices.items())]
        return {"name": self.name, "running": self.running, "devices": devices}


def parse(text: str) -> Definition:
    """Parses the XML of a defined, running, or saved domain. Raises ValueError for other text."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as exc:
        raise ValueError(str(exc)) from exc
    domain = root if root.tag == "domain" else root.find("domain")
    if domain is None:
        raise ValueError("the file has no <domain> element")
    devices = []
    for one in domain.iterfind("devices/hostdev"):
        kind = one.get("type", "")
        key = _device(kind, one.find("source/address"))
        if key:
            display, ramfb = (_SWITCH.get(one.get(name)) for name in ("display", "ramfb"))
            devices.append(Hostdev(kind, key, one.get("managed") == "yes", display, ramfb, element=one))
    memory = root.find("memory") if root.tag == "domainsnapshot" else None
    return Definition(
        name=domain.findtext("name") or "",
        uuid=(domain.findtext("uuid") or "").strip().lower(),
        devices=devices,
        fixed=[key for arg in domain.iterfind(_COMMAND_LINE) for key in _vfio_devices(arg.get("value", ""))],
        graphics=domain.find("devices/graphics") is not None,
        ramfb=any(one.get("type") == "ramfb" for one in domain.iterfind("devices/video/model")),
        memory=memory is not None and memory.get("snapshot") in ("internal", "external"),
    )


def replaced(text: str, key: str, element: str) -> str | None:
    """Returns a domain's XML with one device's element replaced and all other text unchanged.

    Returns None if the domain does not have the device.
    """
    try:
        devices = list(ElementTree.fromstring(text).iterfind("devices/hostdev"))
    except (ElementTree.ParseError, ValueError):
        return None
    data = text.encode("utf-8", "surrogateescape")
    for one, (begin, end) in zip(devices, _spans(data, ["domain", "devices", "hostdev"])):
        if _device(one.get("type", ""), one.find("source/address")) == key:
            return (data[:begin] + element.encode() + data[end:]).decode("utf-8", "surrogateescape")
    return None


def _spans(data: bytes, path: list[str]) -> list[tuple[int, int]]:
    """Returns the start and end positions of the elements at an XML path, in text order."""
    parser = expat.ParserCreate("utf-8")
    found: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []

    def start(name: str, dummy: object) -> None:
        opened.append((name, parser.CurrentByteIndex))

    def end(dummy: str) -> None:
        names = [name for name, dummy2 in opened]
        begin, after = opened.pop()[1], parser.CurrentByteIndex
        if names == path:
            found.append((begin, data.index(b">", after) + 1 if data[after:after + 2] == b"</" else after))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(data, True)
    return found


def _device(kind: str, source: ElementTree.Element | None) -> str | None:
    """Returns the key of a <hostdev> element: a mediated device's UUID, or a PCI address. Returns None for other devices."""
    if source is not None and kind == "mdev":
        return (source.get("uuid") or "").strip().lower() or None
    if source is None or kind != "pci":
        return None
    try:
        text = "%x:%x:%x.%x" % tuple(int(source.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function"))
    except ValueError:
        return None
    return address.parse(text) if address.is_address(text) else None


def _vfio_devices(argument: str) -> Iterator[str]:
    """Yields the keys of devices that a QEMU argument specifies by address or sysfs directory."""
    for path in _VFIO.findall(argument):
        word = path.rstrip("/").rpartition("/")[2].lower()
        if _UUID.fullmatch(word):
            yield word
        elif address.is_address(word):
            yield address.parse(word)


def _saved_xml(root: str, path: str) -> str:
    """Returns the XML in the file for a VM that was saved with its memory. Raises ValueError for other files."""
    with open(root + path, "rb") as handle:
        header = handle.read(_SAVE_HEADER)
        if len(header) < _SAVE_HEADER or not header.startswith(_SAVE_MAGIC):
            raise ValueError("the file is not a saved VM")
        version, length = struct.unpack_from("=II", header, 16)
        if version > 0xFFFF:
            raise ValueError("the VM was saved on a host with a different byte order")
        return handle.read(min(length, _MOST_XML)).split(b"\0")[0].decode("utf-8", "replace")


def domains(ctx: Context) -> tuple[list[Domain], list[str]]:
    """Returns all domains that have host devices, sorted by name, and warnings about unreadable files."""
    found, warnings = all_domains(ctx)
    return [one for one in found if one.devices], warnings


def _sources(root: str, warnings: list[str]) -> Iterator[tuple[str, str]]:
    """Yields (directory, path) for all files that describe VMs. Adds a warning if only root can read the saved VM directory."""
    for directory in (DEFINED, RUNNING):
        for path in files.names(root, directory, ".xml"):
            yield directory, path
    try:
        for path in files.names(root, SAVED, ".save"):
            yield SAVED, path
        for directory in files.names(root, SNAPSHOTS):
            for path in files.names(root, directory, ".xml"):
                yield SNAPSHOTS, path
    except PermissionError as exc:
        warnings.append("%s: only root can read this directory, so the devices of saved VMs are unknown" % (exc.filename or SAVED)[len(root):])


def all_domains(ctx: Context) -> tuple[list[Domain], list[str]]:
    """Returns all domains, sorted by name, and warnings about unreadable files."""
    return ctx.once("domains", lambda: _read(ctx.root))


def _read(root: str) -> tuple[list[Domain], list[str]]:
    found: dict[str, Domain] = {}
    warnings: list[str] = []
    for directory, path in _sources(root, warnings):
        if not os.path.isfile(root + path):
            continue
        try:
            made = parse(_saved_xml(root, path) if directory == SAVED else files.read_text(root, path) or "")
        except FileNotFoundError:
            continue  # libvirt has removed the file, because the saved VM was started
        except (ValueError, EngineError, OSError) as exc:
            warnings.append("%s: the file cannot be read as the libvirt XML of a VM (%s), so the VM's devices are unknown" % (path, exc))
            continue
        name = made.name or os.path.splitext(os.path.basename(path))[0]
        _add(found.setdefault(name, Domain(name)), made, directory, path)
    return [found[name] for name in sorted(found)], warnings


def _add(one: Domain, made: Definition, directory: str, path: str) -> None:
    """Adds one file's content to a Domain."""
    if directory == RUNNING:
        one.live = made.devices
    elif directory == DEFINED:
        one.defined, one.graphics, one.ramfb = made.devices, made.graphics, made.ramfb
    elif directory == SAVED or made.memory:
        one.suspended = one.suspended or directory == SAVED
        state = "in the managed save" if directory == SAVED else "in the snapshot %s" % os.path.splitext(os.path.basename(path))[0]
        for key in [device.key for device in made.devices] + made.fixed:
            one.saved.setdefault(key, state)
    if directory in (RUNNING, DEFINED):
        one.uuid = made.uuid or one.uuid
        one.fixed = list(dict.fromkeys(one.fixed + made.fixed))
