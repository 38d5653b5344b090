# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of vGPUs for VMs with a real libvirt: accepted requests, rejected requests, and the resulting definitions."""

from __future__ import annotations

import subprocess
from xml.etree import ElementTree

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.steps import Step
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.libvirt import apply
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.libvirt_xml import Hostdev
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu_attach
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

ONE, TWO = ("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d" % number for number in (1, 2))
RICH = """<graphics type='vnc' passwd='wort'/>
<hostdev mode='subsystem' type='mdev' managed='yes' model='vfio-pci' display='off'><source><address uuid='%s'/></source>
<alias name='ua-gpu0'/><rom bar='off'/><address type='pci' domain='0x0000' bus='0x00' slot='0x09' function='0x0'/></hostdev>""" % ONE
# A QEMU argument that names a VF but adds no device. The VM can start, and its command line contains the VF's address.
PINNED = "<qemu:commandline><qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/vgpu,string=host=0000:e7:00.4'/></qemu:commandline>"


def attach(machine, *domains, **words):
    """Run nvidia_vgpu_attach and return its outcome."""
    return call(nvidia_vgpu_attach, machine.host, connect=machine.uri, domains=list(domains), **words)


def web(*vgpus, name="web1"):
    return {"name": name, "vgpus": list(vgpus)}


def elements(machine, name):
    """Return the <hostdev> elements of a definition."""
    text = machine.virsh("dumpxml", "--inactive", "--security-info", name).stdout
    return ElementTree.fromstring(text).findall("devices/hostdev")


def test_names_that_virsh_takes_for_an_id_or_a_uuid(machine):
    machine.define("first")
    machine.virsh("start", "--paused", "first")
    first = machine.domain("first").uuid
    number = machine.virsh("domid", "first").stdout.strip()
    machine.define(number)
    machine.define(first)
    machine.define(" sp ")
    assert machine.virsh("domname", number).stdout.strip() == "first", "virsh must interpret a number as a domain ID"
    outcome = attach(machine, web({"uuid": ONE}, name=number), web({"uuid": TWO}, name=first), live=True).ok
    assert machine.has(number) == [ONE] and machine.has(first) == [TWO] and machine.domain("first").devices == {}
    assert not attach(machine, web({"uuid": ONE}, name=number), web({"uuid": TWO}, name=first)).ok["changed"], outcome["actions"]
    attach(machine, web(name=number), web({"uuid": ONE}, name=" sp ")).ok
    assert machine.has(" sp ") == [ONE]


def test_a_change_keeps_all_else_of_the_device(machine):
    machine.define("web1", RICH)
    (before,) = elements(machine, "web1")
    assert not attach(machine, web({"uuid": ONE})).ok["changed"]
    attach(machine, web({"uuid": ONE, "display": True, "ramfb": True})).ok
    (after,) = elements(machine, "web1")
    assert after.attrib == {**before.attrib, "display": "on", "ramfb": "on"}
    assert [ElementTree.tostring(one).strip() for one in after] == [ElementTree.tostring(one).strip() for one in before]
    attach(machine, web({"uuid": ONE, "display": False})).ok
    assert (elements(machine, "web1")[0].get("display"), elements(machine, "web1")[0].get("ramfb")) == ("off", "off")
    assert "passwd='wort'" in machine.virsh("dumpxml", "--security-info", "web1").stdout


def test_a_managed_vf_keeps_its_address_in_the_guest(machine):
    machine.define("web1", """<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/>
        <source><address domain='0' bus='0xe7' slot='0' function='4'/></source><rom bar='off'/>
        <address type='pci' domain='0x0000' bus='0x00' slot='0x09' function='0x0'/></hostdev>""")
    vm, (before,) = machine.domain("web1"), elements(machine, "web1")
    (old,) = vm.defined
    new = Hostdev("pci", old.key, element=old.element)
    steps = [Step("change-device", "web1", "web1", "change it", vm=vm, hostdev=new, old=old, names=[old.key], live=False)]
    apply.apply(machine.host.ctx, machine.uri, steps, 10)
    (after,) = elements(machine, "web1")
    assert after.get("managed") == "no"
    assert [ElementTree.tostring(one).strip() for one in after] == [ElementTree.tostring(one).strip() for one in before]


def test_a_display_needs_graphics_and_what_libvirt_refuses_changes_nothing(machine):
    machine.define("web1", RICH.partition("\n")[2])
    refused = attach(machine, web({"uuid": ONE, "display": True}))
    assert refused.codes == ["no_graphics"] and machine.has("web1") == [ONE]
    vm, (before,) = machine.domain("web1"), elements(machine, "web1")
    (old,) = vm.defined
    new = Hostdev("mdev", ONE, display=True, element=old.element)
    steps = [Step("change-device", "web1", "web1", "change it", vm=vm, hostdev=new, old=old, names=[ONE], live=False)]
    with pytest.raises(EngineError, match="graphics device is needed"):
        apply.apply(machine.host.ctx, machine.uri, steps, 10)
    assert ElementTree.tostring(elements(machine, "web1")[0]) == ElementTree.tostring(before), "the device must be unchanged"


def test_one_ramfb_in_a_vm(machine):
    machine.define("web1")
    attach(machine, web({"uuid": ONE, "display": True, "ramfb": True})).ok
    two = [{"uuid": key, "display": True, "ramfb": True} for key in (ONE, TWO)]
    assert attach(machine, web(*two)).codes == ["bad_display"]
    second = RICH.replace("display='off'", "display='on' ramfb='on'")
    third = second.partition("\n")[2].replace(ONE, TWO).replace("ua-gpu0", "ua-gpu1").replace("0x09", "0x0a")
    done = machine.define("web2", second + third, check=False)
    assert done.returncode and "ramfb" in done.stderr, "libvirt must reject two devices with ramfb"


def test_a_managed_save_is_a_user(machine):
    machine.define("web1", more=PINNED)
    machine.define("web2")
    assert machine.domain("web1").fixed == ["0000:e7:00.4"]
    machine.virsh("start", "--paused", "web1")
    machine.virsh("managedsave", "web1")
    uuid = machine.domain("web1").uuid
    machine.define("web1", more="<uuid>%s</uuid>" % uuid)  # the new definition does not contain the device of the saved state
    one = machine.domain("web1")
    assert not one.running and one.defined == [] and one.fixed == [] and one.saved == {"0000:e7:00.4": "in the managed save"}
    refused = attach(machine, web({"uuid": ONE}, name="web2"))
    assert refused.codes == ["vgpu_taken"] and "web1 (in the managed save)" in refused.msg
    machine.virsh("managedsave-remove", "web1")
    attach(machine, web({"uuid": ONE}, name="web2")).ok


def test_a_snapshot_with_memory_is_a_user(machine):
    disk = machine.root + "/disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    drive = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>" % disk
    machine.define("web1", drive, PINNED)
    machine.define("web2")
    machine.virsh("snapshot-create-as", "web1", "cold")
    machine.virsh("start", "--paused", "web1")
    machine.virsh("snapshot-create-as", "web1", "warm")
    machine.virsh("destroy", "web1")
    one = machine.domain("web1")
    assert one.saved == {"0000:e7:00.4": "in the snapshot warm"}
    machine.define("web1", drive, "<uuid>%s</uuid>" % one.uuid)
    refused = attach(machine, web({"uuid": ONE}, name="web2"))
    assert refused.codes == ["vgpu_taken"] and "web1 (in the snapshot warm)" in refused.msg
    machine.virsh("snapshot-delete", "web1", "warm", "--metadata")
    attach(machine, web({"uuid": ONE}, name="web2")).ok


def test_a_paused_vm_runs(machine):
    machine.define("web1", more=PINNED)
    machine.define("web2")
    machine.virsh("start", "--paused", "web1")
    assert machine.domain("web1").running
    assert "web1 (on QEMU's command line)" in attach(machine, web({"uuid": ONE}, name="web2")).msg
    assert attach(machine, web({"type": "A40-24Q"}, name="web2")).ok["attached"][0]["device"] == TWO
