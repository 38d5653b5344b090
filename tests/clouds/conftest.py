# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""nova-compute's own classes over a fake host: only the connection to libvirt is a stand-in, which describes the host's devices as libvirt does."""

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
    """Stands for libvirt's binding, which is compiled against an installed libvirt. One flag has a meaning here."""

    VIR_CONNECT_LIST_NODE_DEVICES_INACTIVE = 1

    class libvirtError(Exception):
        """What libvirt raises."""

    def __getattr__(self, name):
        if name.startswith("VIR_"):
            return 0
        raise AttributeError(name)


class Device:
    """A node device of libvirt. create: starts one that is defined."""

    def __init__(self, name, xml, caps, create=None):
        self._name, self._xml, self._caps, self.create = name, xml, caps, create

    def name(self):
        """Its name."""
        return self._name

    def parent(self):
        """Nothing asks for it but network devices."""
        return "computer"

    def XMLDesc(self, flags):
        """Its description."""
        assert flags == 0
        return self._xml

    def listCaps(self):
        """What it is."""
        return list(self._caps)


def node_name(address):
    """pci_0000_e8_00_4"""
    return "pci_" + address.replace(":", "_").replace(".", "_")


def _numbers(address):
    domain, bus, rest = address.split(":")
    return [int(part, 16) for part in (domain, bus, *rest.split("."))]


class Connection:
    """virConnect, as far as vGPUs need it. made: XML of the devices that nova wanted to have; started: UUIDs of those that were defined."""

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
        """All of them, or those that mdevctl defines and that are not there."""
        if flags:
            there, defined = self._mdevs(), [one.uuid for one in mdevctl.definitions(self.host.root).values()]
            return [Device("mdev_" + one, "", ["mdev"], lambda _, uuid=one: self.started.append(uuid)) for one in defined if one not in there]
        return [self._function(one) for one in self.host.sysfs.names("/sys/bus/pci/devices")] + [
            self._mediated(one) for one in self._mdevs()
        ]

    def listDevices(self, cap, flags=0):
        """Names of those with a capability."""
        return [one.name() for one in self.listAllDevices(flags) if cap in one.listCaps()]

    def nodeDeviceLookupByName(self, name):
        """One of them."""
        return {one.name(): one for one in self.listAllDevices()}[name]

    def nodeDeviceCreateXML(self, xml, flags=0):
        """Notes what nova wants to create."""
        assert flags == 0
        self.made.append(xml)

    def listAllDomains(self, flags=0):
        """There are no VMs."""
        assert flags == 0
        return []


@pytest.fixture(autouse=True)
def libvirt_binding():
    """What nova imports as libvirt. Without nova the test is skipped."""
    if importlib.util.find_spec("nova") is None:
        pytest.skip(MISSING)
    sys.modules.setdefault("libvirt", Binding("libvirt"))


@pytest.fixture
def make_host(tmp_path):
    """Builds fake hosts, each in a directory of its own."""

    def make(**arguments):
        directory = tmp_path / ("host%d" % len(list(tmp_path.iterdir())))
        directory.mkdir()
        return Host(directory, **arguments)

    return make
