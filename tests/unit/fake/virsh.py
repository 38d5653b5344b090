# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A fake virsh on the files of a fake libvirt: list, attach-device, detach-device."""

from __future__ import annotations

import os
from xml.etree import ElementTree

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libvirt_xml
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

DOMAIN = "<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><devices><emulator>/usr/bin/qemu</emulator></devices></domain>"


class Libvirt:
    """Stands for the daemon and its program. silent: it does not answer. stubborn: running guests keep what is to be detached."""

    def __init__(self, host):
        self.host = host
        self.silent = False
        self.stubborn = False
        self.lies = False
        self._real = host.command
        host.ctx.command = self.command

    def define(self, name, *hostdevs, running=False):
        """A VM with these devices, which runs with them if it runs."""
        element = ElementTree.fromstring(DOMAIN % name)
        for one in hostdevs:
            element.find("devices").append(ElementTree.fromstring(one))
        text = ElementTree.tostring(element, encoding="unicode")
        self.host.put("%s/%s.xml" % (libvirt_xml.DEFINED, name), text)
        if running:
            self.host.put("%s/%s.xml" % (libvirt_xml.RUNNING, name), "<domstatus state='running'>%s</domstatus>" % text)
        return self

    def has(self, name, running=False):
        """Keys of the devices that a VM has."""
        (one,) = [one for one in libvirt_xml.all_domains(self.host.root)[0] if one.name == name]
        return [device.key for device in (one.live if running else one.defined)]

    def element(self, name, number=0):
        """The XML of a device of a VM's definition."""
        return ElementTree.fromstring(self.host.get("%s/%s.xml" % (libvirt_xml.DEFINED, name))).findall("devices/hostdev")[number]

    def command(self, argv, timeout, env=None, keeps_lock=False):
        """Stands for system.command.run."""
        if os.path.basename(argv[0]) != "virsh":
            return self._real(argv, timeout, env, keeps_lock)
        self.host.calls.append(list(argv))
        if self.silent:
            return Result(1, "error: failed to connect to the hypervisor\n")
        verb, rest = argv[3], argv[4:]
        if verb == "list":
            return Result(0, "".join("%s\n" % one.name for one in libvirt_xml.all_domains(self.host.root)[0]) + "\n")
        try:
            self.host._count("%s %s" % (verb, rest[0]), "virsh")
        except (OSError, EngineError):
            return Result(1, "error: cannot do that now\n")
        return Result(0, "done\n") if self.lies else self._change(verb, *rest)

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
            devices.append(expected)
        elif not there:
            return Result(1, "error: device not found\n")
        elif not (self.stubborn and where == "--live"):
            devices.remove(there[0])
        self.host.put(file, ElementTree.tostring(top, encoding="unicode"))
        return Result(0, "Device done successfully\n")
