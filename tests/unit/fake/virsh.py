# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A fake virsh that works on the files of a fake libvirt: list, define, attach-device, and detach-device."""

from __future__ import annotations

import os
import struct
import uuid
from xml.etree import ElementTree

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libvirt_xml
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

DOMAIN = (
    "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory>"
    "<devices><emulator>/usr/bin/qemu</emulator>%s</devices></domain>"
)
GRAPHICS = "<graphics type='vnc' port='-1'/>"


def uuid_of(name):
    """Return the UUID of a VM."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


class Libvirt:
    """The fake libvirt daemon, and its program virsh.

    silent: whether the daemon does not respond.
    stubborn: whether a running VM keeps a device after virsh detaches it.
    """

    def __init__(self, host):
        self.host = host
        self.silent = False
        self.stubborn = False
        self.lies = False
        self._real = host.command
        host.ctx.command = self.command

    def xml(self, name, *hostdevs, graphics=True, id=None, more=()):
        """Return the XML of a VM with these devices. *more* contains elements outside of <devices>."""
        element = ElementTree.fromstring(DOMAIN % (name, id or uuid_of(name), GRAPHICS if graphics else ""))
        for one in hostdevs:
            element.find("devices").append(ElementTree.fromstring(one))
        for one in more:
            element.append(ElementTree.fromstring(one))
        return ElementTree.tostring(element, encoding="unicode")

    def define(self, name, *hostdevs, running=False, **words):
        """Define a VM with these devices. If *running* is true, the running VM has the same devices."""
        text = self.xml(name, *hostdevs, **words)
        self.host.put("%s/%s.xml" % (libvirt_xml.DEFINED, name), text)
        if running:
            self.host.put("%s/%s.xml" % (libvirt_xml.RUNNING, name), "<domstatus state='%s'>%s</domstatus>" % (
                "running" if running is True else running, text))
        return self

    def save(self, name, *hostdevs):
        """Write a managed save of a VM with these devices, in the format of libvirt 9.0."""
        text = self.xml(name, *hostdevs).encode() + b"\0"
        header = b"LibvirtQemudSave" + struct.pack("=19I", 2, len(text) + 1024, 0, 0, len(text), *[0] * 14)
        path = "%s/%s.save" % (libvirt_xml.SAVED, name)
        self.host.put(path, "")
        with open(self.host.root + path, "wb") as handle:
            handle.write(header + text + b"\0" * 1024 + b"QEVM\xff\xfe")
        return self

    def snapshot(self, name, title, *hostdevs, memory="internal"):
        """Write a snapshot of a VM with these devices."""
        text = "<domainsnapshot><name>%s</name><state>running</state><memory snapshot='%s'/>%s</domainsnapshot>"
        self.host.put("%s/%s/%s.xml" % (libvirt_xml.SNAPSHOTS, name, title), text % (title, memory, self.xml(name, *hostdevs)))
        return self

    def has(self, name, running=False):
        """Return the keys of a VM's devices."""
        (one,) = [one for one in libvirt_xml.all_domains(self.host.ctx)[0] if one.name == name]
        return [device.key for device in (one.live if running else one.defined)]

    def element(self, name, number=0):
        """Return the XML of a device in a VM's definition."""
        return ElementTree.fromstring(self.host.get("%s/%s.xml" % (libvirt_xml.DEFINED, name))).findall("devices/hostdev")[number]

    def command(self, argv, timeout, env=None, keeps_lock=False):
        """Run the fake virsh or another program of the host. This method replaces system.command.run."""
        if os.path.basename(argv[0]) != "virsh":
            return self._real(argv, timeout, env, keeps_lock)
        self.host.calls.append(list(argv))
        if self.silent:
            return Result(1, "error: failed to connect to the hypervisor\n")
        verb, rest = argv[3], argv[4:]
        domains = libvirt_xml.all_domains(self.host.ctx)[0]
        if verb == "list":
            return Result(0, "".join("%s\n" % one.uuid for one in domains) + "\n")
        if verb == "define":
            return self._define(rest[0])
        # virsh compares the name first with the IDs of running VMs, then with UUIDs, and then with names.
        running = [one for one in domains if one.running]
        found = [one for number, one in enumerate(running, 1) if rest[0] == str(number)]
        found += [one for one in domains if one.uuid == rest[0]] + [one for one in domains if one.name == rest[0]]
        if not found:
            return Result(1, "error: failed to get domain '%s'\n" % rest[0])
        try:
            self.host._count("%s %s" % (verb, found[0].name), "virsh")
        except (OSError, EngineError):
            return Result(1, "error: cannot do that now\n")
        return Result(0, "done\n") if self.lies else self._change(verb, found[0].name, *rest[1:])

    def _define(self, path):
        with open(path, encoding="utf-8") as handle:
            text = handle.read()
        top = ElementTree.fromstring(text)
        name, devices = top.findtext("name"), top.find("devices")
        try:
            self.host._count("define " + name, "virsh")
        except (OSError, EngineError):
            return Result(1, "error: cannot do that now\n")
        if devices.find("graphics") is None and [one for one in devices.findall("hostdev") if one.get("display") == "on"]:
            return Result(1, "error: graphics device is needed for attribute value 'display=on' in <hostdev>\n")
        if not self.lies:
            self.host.put("%s/%s.xml" % (libvirt_xml.DEFINED, name), text)
        return Result(0, "Domain '%s' defined\n" % name)

    def _change(self, verb, name, path, where):
        with open(path, encoding="utf-8") as handle:
            expected = ElementTree.fromstring(handle.read())
        file = "%s/%s.xml" % (libvirt_xml.RUNNING if where == "--live" else libvirt_xml.DEFINED, name)
        top = ElementTree.fromstring(self.host.get(file))
        devices = top.find("devices") if top.tag == "domain" else top.find("domain/devices")
        key = expected.find("source/address").attrib
        there = [one for one in devices.findall("hostdev") if one.find("source/address").attrib == key]
        if verb == "attach-device":
            if there:
                return Result(1, "error: operation failed: target already exists\n")
            if expected.get("display") == "on" and devices.find("graphics") is None:
                return Result(1, "error: graphics device is needed for attribute value 'display=on' in <hostdev>\n")
            if expected.get("type") == "mdev" and not expected.get("display"):
                expected.set("display", "off")  # libvirt's default
            devices.append(expected)
        elif not there:
            return Result(1, "error: device not found\n")
        elif not (self.stubborn and where == "--live"):
            devices.remove(there[0])
        self.host.put(file, ElementTree.tostring(top, encoding="unicode"))
        return Result(0, "Device done successfully\n")
