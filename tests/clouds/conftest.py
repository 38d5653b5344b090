# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs nova-compute's own classes over a fake host. Only the connection to libvirt is replaced, by a class that describes the host's devices like libvirt."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from xml.sax.saxutils import escape

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

PCI = "/sys/bus/pci/devices/"
MISSING = "nova is not installed (requirements/clouds.txt): make test SESSIONS=clouds"
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"


class Binding(types.ModuleType):
    """Replaces libvirt's Python binding, which can be compiled only with an installed libvirt. Only one flag has a value other than 0."""

    VIR_CONNECT_LIST_NODE_DEVICES_INACTIVE = 1

    class libvirtError(Exception):
        """The exception that libvirt raises."""

    def __getattr__(self, name):
        if name.startswith("VIR_"):
            return 0
        raise AttributeError(name)


class Device:
    """A node device of libvirt. *create* starts a device that is defined but inactive."""

    def __init__(self, name, xml, caps, create=None):
        self._name, self._xml, self._caps, self.create = name, xml, caps, create

    def name(self):
        """Return the name of the device."""
        return self._name

    def parent(self):
        """Return a constant parent, because nova reads the parent only of network devices."""
        return "computer"

    def XMLDesc(self, flags):
        """Return the device's description."""
        assert flags == 0
        return self._xml

    def listCaps(self):
        """Return the device's capabilities."""
        return list(self._caps)


def node_name(address):
    """Return libvirt's name of a PCI function, such as pci_0000_e8_00_4."""
    return "pci_" + address.replace(":", "_").replace(".", "_")


def _numbers(address):
    domain, bus, rest = address.split(":")
    return [int(part, 16) for part in (domain, bus, *rest.split("."))]


class Connection:
    """Replaces libvirt's virConnect, with the methods that nova needs for vGPUs.

    made: XML of devices that nova creates.
    started: UUIDs of defined devices that nova starts.
    """

    def __init__(self, host):
        self.host, self.made, self.started = host, [], []

    def _function(self, address):
        sysfs, path = self.host.sysfs, PCI + address
        physfn = [sysfs.target(path + "/physfn").rpartition("/")[2]] if sysfs.exists(path + "/physfn") else []
        virtfns = [sysfs.target("%s/%s" % (path, name)).rpartition("/")[2] for name in sysfs.names(path) if name.startswith("virtfn")]
        inner = ["<%s>%d</%s>" % (name, number, name) for name, number in zip(("domain", "bus", "slot", "function"), _numbers(address))]
        inner += ["<%s id='%s'/>" % (name, sysfs.read(path + "/" + word).strip()) for name, word in (("product", "device"), ("vendor", "vendor"))]
        for kind, others in (("phys_function", physfn), ("virt_functions", virtfns)):
            words = ["<address domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%x'/>" % tuple(_numbers(one)) for one in others]
            inner += ["<capability type='%s'>%s</capability>" % (kind, "".join(words))] if words else []
        types_ = []
        if sysfs.exists(path + "/mdev_supported_types"):
            for kind in sysfs.names(path + "/mdev_supported_types"):
                name, api, left = (sysfs.read("%s/mdev_supported_types/%s/%s" % (path, kind, word)).strip()
                                   for word in ("name", "device_api", "available_instances"))
                text = "<type id='%s'><name>%s</name><deviceAPI>%s</deviceAPI><availableInstances>%s</availableInstances></type>"
                types_.append(text % (kind, escape(name), api, left))
        inner += ["<capability type='mdev_types'>%s</capability>" % "".join(types_)] if types_ else []
        xml = "<device><name>%s</name><parent>computer</parent><capability type='pci'>%s</capability></device>" % (node_name(address), "".join(inner))
        return Device(node_name(address), xml, ["pci"] + ["mdev_types"] * bool(types_))

    def _mediated(self, uuid):
        sysfs, path = self.host.sysfs, "/sys/bus/mdev/devices/" + uuid
        parent = self.host.kernel.mdevs[uuid].parent.address
        name = "mdev_%s_%s" % (uuid.replace("-", "_"), node_name(parent)[4:])
        kind = sysfs.target(path + "/mdev_type").rpartition("/")[2]
        inner = "<type id='%s'/><uuid>%s</uuid><iommuGroup number='1'/>" % (kind, uuid)
        text = "<device><name>%s</name><parent>%s</parent><capability type='mdev'>%s</capability></device>"
        return Device(name, text % (name, node_name(parent), inner), ["mdev"])

    def _mdevs(self):
        sysfs, top = self.host.sysfs, "/sys/bus/mdev/devices"
        return sysfs.names(top) if sysfs.exists(top) else []

    def listAllDevices(self, flags=0):
        """Return all devices. With *flags*, return only devices that are defined in mdevctl but do not exist."""
        if flags:
            there, defined = self._mdevs(), [one.uuid for one in mdevctl.definitions(self.host.root).values()]
            return [Device("mdev_" + one, "", ["mdev"], lambda _, uuid=one: self.started.append(uuid)) for one in defined if one not in there]
        return [self._function(one) for one in self.host.sysfs.names("/sys/bus/pci/devices")] + [
            self._mediated(one) for one in self._mdevs()
        ]

    def listDevices(self, cap, flags=0):
        """Return the names of the devices with a capability."""
        return [one.name() for one in self.listAllDevices(flags) if cap in one.listCaps()]

    def nodeDeviceLookupByName(self, name):
        """Return the device with this name."""
        return {one.name(): one for one in self.listAllDevices()}[name]

    def nodeDeviceCreateXML(self, xml, flags=0):
        """Record the XML of a device that nova creates."""
        assert flags == 0
        self.made.append(xml)

    def listAllDomains(self, flags=0):
        """Return an empty list: the fake host has no VMs."""
        assert flags == 0
        return []


@pytest.fixture(autouse=True)
def libvirt_binding():
    """Provide the module that nova imports as libvirt. Skip the test if nova is not installed."""
    if importlib.util.find_spec("nova") is None:
        pytest.skip(MISSING)
    sys.modules.setdefault("libvirt", Binding("libvirt"))


@pytest.fixture
def make_host(tmp_path):
    """Return a function that builds fake hosts, each in its own directory."""

    def make(**arguments):
        directory = tmp_path / ("host%d" % len(list(tmp_path.iterdir())))
        directory.mkdir()
        return Host(directory, **arguments)

    return make
