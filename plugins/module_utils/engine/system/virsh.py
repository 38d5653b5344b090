# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes libvirt definitions, always with virsh. Device XML is built with an XML library, never with string operations."""

from __future__ import annotations

import copy
import re
from typing import Sequence
from xml.etree import ElementTree

from ..base.errors import error
from ..hardware import address
from . import files, libvirt_xml
from .context import Context
from .libvirt_xml import Domain, Hostdev


def hostdev_xml(hostdev: Hostdev) -> str:
    """Returns a device's libvirt XML: the existing or a new element with the desired display, ramfb, and managed attributes.

    A VF is never managed, because libvirt would unbind the VF from nvidia, which destroys the VF's vGPU.
    For a mediated device, the managed attribute has no effect.
    """
    element = _new_element(hostdev) if hostdev.element is None else copy.deepcopy(hostdev.element)
    element.tail = None
    if not hostdev.mediated:
        element.set("managed", "no")
    for name, value in (("display", hostdev.display), ("ramfb", hostdev.ramfb)):
        if value is not None:
            element.set(name, "on" if value else "off")
    return ElementTree.tostring(element, encoding="unicode")


def _new_element(hostdev: Hostdev) -> ElementTree.Element:
    element = ElementTree.Element("hostdev", {"mode": "subsystem", "type": hostdev.kind, "managed": "no"})
    source = ElementTree.SubElement(element, "source")
    if hostdev.mediated:
        element.set("model", "vfio-pci")
        ElementTree.SubElement(source, "address", {"uuid": hostdev.key})
    else:
        parts = re.split("[:.]", address.parse(hostdev.key))
        ElementTree.SubElement(source, "address", {name: "0x" + part for name, part in zip(("domain", "bus", "slot", "function"), parts)})
    return element


def require_answer(ctx: Context, uri: str, timeout: float = 60) -> None:
    """Raises EngineError if libvirt does not respond."""
    answer = ctx.command(["virsh", "--connect", uri, "list", "--all", "--uuid"], timeout)
    if answer.rc == 127:
        remedy = "Install libvirt-clients (Debian, Ubuntu) or libvirt-client (RHEL), and install the libvirt daemon."
        raise error("virsh is not installed", expected="libvirt on this host", remedy=remedy, code="virsh_missing")
    if answer.rc:
        check = "Start libvirtd or virtqemud, or correct the URI in the connect option (the vgpu_libvirt_uri variable). Then rerun."
        raise error("libvirt did not respond: %s" % (answer.tail(2) or "rc %d" % answer.rc), uri, "a running libvirt daemon", check, "libvirt_silent")


def change(ctx: Context, uri: str, verb: str, vm: Domain, hostdev: Hostdev, live: bool) -> None:
    """Runs attach-device or detach-device for the VM's definition or, with ``live``, for the running VM.

    The VM is identified by UUID. virsh interprets an argument as an ID, then a UUID, then a name, and a name can equal another VM's ID or UUID.
    """
    with files.handed([hostdev_xml(hostdev)]) as paths:
        _run(ctx, uri, [verb, vm.uuid, *paths, "--live" if live else "--config"], vm, hostdev)


def redefine(ctx: Context, uri: str, vm: Domain, key: str, hostdev: Hostdev) -> None:
    """Changes one device in the VM's definition with a single write.

    If a run were killed between detach and attach, the VM would lack the device.
    """
    defined = files.read_text(ctx.root, "%s/%s.xml" % (libvirt_xml.DEFINED, vm.name))
    text = libvirt_xml.replaced(defined or "", key, hostdev_xml(hostdev))
    if text is None:
        found, remedy = "the VM's definition no longer contains %s" % key, "Rerun to read the definition again."
        raise error(found, vm.name, "the device to change", remedy, "changed_meanwhile")
    with files.handed([text]) as paths:
        _run(ctx, uri, ["define", *paths], vm, hostdev)


def _run(ctx: Context, uri: str, words: Sequence[str], vm: Domain, hostdev: Hostdev, timeout: float = 120) -> None:
    answer = ctx.command(["virsh", "--connect", uri, *words], timeout, keeps_lock=True)
    if answer.rc:
        found = "'virsh %s' for VM %s and device %s failed: %s" % (words[0], vm.uuid, hostdev.key, answer.tail(3) or "rc %d" % answer.rc)
        remedy = "Find the cause in the journal of libvirtd (or virtqemud) or, for a running VM, in /var/log/libvirt/qemu/%s.log." % vm.name
        raise error(found, vm.name, remedy=remedy, code="virsh_failed")
