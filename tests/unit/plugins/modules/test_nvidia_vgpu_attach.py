# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests which libvirt VM gets which vGPU, which VM keeps its vGPU, and which requests fail."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks.mdev import Mdev
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.libvirt import plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files, libvirt_xml
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu_attach
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt, uuid_of

PF, OTHER = "0000:e8:00.0", "0000:e7:00.0"
ONE, TWO, THREE, FOUR = ("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d" % number for number in (1, 2, 3, 4))
MDEV = "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"
VF = (
    "<hostdev mode='subsystem' type='pci' managed='%s'>"
    "<source><address domain='0x0000' bus='0xe8' slot='0x%02x' function='0x%d'/></source></hostdev>"
)
SOUND = "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></source></hostdev>"


@pytest.fixture
def mdevs(make_host):
    """Returns a host with two A40 GPUs. One GPU has two A40-24Q vGPUs, and the other GPU has one A40-8Q vGPU."""
    host = make_host(gpus=[(OTHER, A40), (PF, A40)]).vfs_on()
    host.add("0000:e7:00.4", "A40-24Q", ONE)
    host.add("0000:e7:00.5", "A40-24Q", TWO)
    host.add("0000:e8:00.4", "A40-8Q", THREE)
    return host


@pytest.fixture
def vendor(make_host):
    """Returns a host with an A40 and two A40-24Q vGPUs on the vendor-specific framework."""
    host = make_host(vendor_vfio=True).vfs_on()
    host.add("0000:e8:00.4", "A40-24Q", None)
    host.add("0000:e8:00.5", "A40-24Q", None)
    return host


def web(*vgpus, name="web1"):
    return {"name": name, "vgpus": list(vgpus)}


def both(host, **arguments):
    """Runs the module and returns its result. Asserts that check mode writes nothing and returns the same result, and that a second run changes nothing."""
    check = call(nvidia_vgpu_attach, host, check=True, **arguments).ok
    assert check.writes == 0
    real = call(nvidia_vgpu_attach, host, **arguments).ok
    for key in ("changed", "actions", "diff", "attached"):
        assert real[key] == check[key], key
    again = call(nvidia_vgpu_attach, host, **arguments).ok
    assert not again["changed"] and again["attached"] == real["attached"], again["actions"]
    assert again["diff"]["before"] == real["diff"]["after"]
    return real


def test_any_free_one_of_a_type(mdevs):
    virsh = Libvirt(mdevs).define("web1", SOUND).define("web2")
    real = both(mdevs, domains=[web({"type": "A40-24Q"}), web({"type": "nvidia a40-24q"}, {"type": "A40-8Q"}, name="web2")])
    assert virsh.has("web1") == ["0000:03:00.0", ONE] and virsh.has("web2") == [TWO, THREE]
    assert real["attached"][0] == {"vm": "web1", "device": ONE, "type": "A40-24Q"}
    element = virsh.element("web2")
    assert (element.get("type"), element.get("managed"), element.get("model")) == ("mdev", "no", "vfio-pci")


def test_the_vendors_framework_by_its_vf(vendor):
    virsh = Libvirt(vendor).define("web1").define("web2", VF % ("yes", 0, 5))
    both(vendor, domains=[web({"vf": "e8:00.4"}), web({"type": "A40-24Q"}, name="web2")])
    assert virsh.has("web1") == ["0000:e8:00.4"] and virsh.has("web2") == ["0000:e8:00.5"]
    assert [virsh.element(name).get("managed") for name in ("web1", "web2")] == ["no", "no"]
    outcome = call(nvidia_vgpu_attach, vendor, domains=[web({"vf": "e8:00.4", "display": True})])
    assert outcome.codes == ["bad_display"] and outcome.writes == 0


def test_what_it_has_it_keeps(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % TWO)
    assert not call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"})]).ok["changed"]
    both(mdevs, domains=[web({"type": "A40-24Q", "count": 2})])
    assert sorted(virsh.has("web1")) == [ONE, TWO]


def test_an_exact_list_takes_the_rest_and_leaves_other_devices(mdevs):
    gone = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3aff"
    virsh = Libvirt(mdevs).define("web1", SOUND, MDEV % gone, MDEV % ONE).define("web2", MDEV % TWO)
    real = both(mdevs, domains=[web()])
    assert virsh.has("web1") == ["0000:03:00.0"] and virsh.has("web2") == [TWO] and len(real["actions"]) == 2
    virsh.define("web1", MDEV % ONE)
    both(mdevs, domains=[web({"type": "A40-8Q"})], exclusive=False)
    assert sorted(virsh.has("web1")) == [ONE, THREE]


def test_other_vendors_mediated_devices_stay(mdevs, monkeypatch):
    """A mediated device from another vendor, such as Intel, can lack a type name. Only mdevctl lists the device if it is not started."""
    mdevs.add("0000:e8:00.5", "A40-8Q", FOUR)
    real, gone = Mdev.type_title, "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3aff"
    monkeypatch.setattr(Mdev, "type_title", lambda self, key: None if key == FOUR else real(self, key))
    stopped = [gone[:-1] + "1", gone[:-1] + "2"]
    for uuid, parent in zip(stopped, ("matrix", "0.0.0110")):
        mdevs.put("/etc/mdevctl.d/%s/%s" % (parent, uuid), '{"mdev_type": "vfio_ap-passthrough", "start": "manual", "attrs": []}')
    mdevs.put("/etc/mdevctl.d/0000:e9:00.4/" + gone, '{"mdev_type": "nvidia-558", "start": "manual", "attrs": []}')
    virsh = Libvirt(mdevs).define("web1", *(MDEV % one for one in [FOUR, ONE, gone, *stopped]))
    both(mdevs, domains=[web()])
    assert sorted(virsh.has("web1")) == sorted([FOUR, *stopped])


def test_from_one_vm_to_another_in_one_run(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE).define("web2")
    real = both(mdevs, domains=[web({"uuid": ONE}, name="web2"), web()])
    assert (virsh.has("web1"), virsh.has("web2")) == ([], [ONE]) and real["actions"][0].startswith("web1: detach")


def test_a_display(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE)
    both(mdevs, domains=[web({"uuid": ONE, "display": True, "ramfb": True})])
    assert (virsh.element("web1").get("display"), virsh.element("web1").get("ramfb")) == ("on", "on")
    assert not call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})]).ok["changed"], "options that are not set must not change the device"
    both(mdevs, domains=[web({"uuid": ONE, "display": False, "ramfb": False})])
    assert virsh.element("web1").get("display") == "off"


def test_a_running_vm_is_let_alone_unless_live(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE, running=True)
    real = both(mdevs, domains=[web({"type": "A40-8Q"})])
    assert virsh.has("web1") == [THREE] and virsh.has("web1", running=True) == [ONE]
    assert any("web1 is running, so %s (A40-8Q) is attached only at the next start" % THREE in one for one in real.warnings) and any(
        "remains attached until the VM stops" in one for one in real.warnings
    )
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="web2")])
    assert outcome.codes == ["unknown_vm"]
    virsh.define("web2")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="web2")])
    assert outcome.codes == ["vgpu_taken"] and "web1 (running)" in outcome.msg, "the running VM has the vGPU until it stops"
    real = both(mdevs, domains=[web({"type": "A40-8Q"})], live=True)
    assert virsh.has("web1", running=True) == [THREE] and real.warnings == []


def test_a_running_vm_gets_it_at_an_address_that_is_free(mdevs):
    defined = (MDEV % ONE).replace("</hostdev>", "<address type='pci' bus='0x07' slot='0x00'/></hostdev>")
    virsh = Libvirt(mdevs).define("web1", running=True).define("web1", defined)
    both(mdevs, domains=[web({"uuid": ONE})], live=True)
    assert virsh.has("web1", running=True) == [ONE] and virsh.element("web1").find("address") is not None
    assert "bus='0x07'" not in mdevs.get("/run/libvirt/qemu/web1.xml").replace('"', "'")


def test_a_guest_that_keeps_it_is_reported(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE, running=True)
    virsh.stubborn = True
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web()], live=True, timeout=20)
    assert outcome.codes == ["not_kept"] and "still attached 20 s after" in outcome.msg and "Shut down the guest" in outcome.msg
    assert len(outcome["actions"]) == 1 and len(outcome["not_done"]) == 1
    virsh.stubborn, virsh.lies = False, True
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-8Q"})]).codes == ["not_kept"]


def test_who_has_it_is_named(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE).define("web2", MDEV % TWO, running=True).define("web3")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"}, {"type": "A40-48Q"}, {"uuid": TWO}, name="web3")])
    assert outcome.codes == ["vgpu_taken", "none_free", "no_such_vgpu"] and outcome.writes == 0
    for word in ("%s: web1 (not running)" % ONE, "%s: web2 (running)" % TWO, "A40-24Q, A40-8Q", "the vGPU is attached to the VM web2 (running)"):
        assert word in outcome.msg, outcome.msg
    mdevs.kernel.add_process(78, "qemu", ["qemu"], ["/dev/vfio/" + mdevs.kernel.mdevs[THREE].group])
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": THREE}, name="web3")])
    assert outcome.codes == ["in_use"] and "pid 78" in outcome.msg
    assert virsh.has("web3") == []


@pytest.mark.parametrize(
    "domains, codes",
    [
        ([web({})], ["bad_vgpu"]),
        ([web({"type": "A40-24Q", "uuid": ONE})], ["bad_vgpu"]),
        ([web({"uuid": ONE, "count": 2, "gpu": PF})], ["bad_vgpu", "bad_vgpu"]),
        ([web({"uuid": "x"}), web(), {"name": "a/b"}], ["bad_uuid", "twice", "bad_name"]),
        ([web({"vf": "nowhere"}, {"type": "A40-24Q", "count": 0})], ["bad_address", "bad_count"]),
        ([web({"uuid": ONE}), web({"uuid": ONE.upper()}, name="web2")], ["twice"]),
        ([web({"uuid": ONE, "ramfb": True})], ["bad_display"]),
        ([web(name="nobody")], ["unknown_vm"]),
        ([web({"vf": "e8:00.7"})], ["no_such_vgpu"]),
        ([web({"type": "A40-24Q", "gpu": PF})], ["no_such_vgpu"]),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_refused(mdevs, domains, codes, check):
    Libvirt(mdevs).define("web1").define("web2")
    outcome = call(nvidia_vgpu_attach, mdevs, check=check, domains=domains)
    assert sorted(outcome.codes) == sorted(codes) and outcome.writes == 0, outcome.msg


def test_libvirt_that_is_not_there_or_silent(mdevs):
    virsh = Libvirt(mdevs).define("web1")
    virsh.silent = True
    assert call(nvidia_vgpu_attach, mdevs, domains=[web()]).codes == ["libvirt_silent"]
    assert not call(nvidia_vgpu_attach, mdevs, domains=[]).ok["changed"], "without requested VMs, libvirt must not be queried"
    assert call(nvidia_vgpu_attach, mdevs, domains=[], connect="qemu+ssh://elsewhere/system").codes == ["bad_connect"]
    mdevs.put("/run/libvirt/qemu/ghost.xml", "<domstatus><domain><name>ghost</name><devices/></domain></domstatus>")
    virsh.silent = False
    assert call(nvidia_vgpu_attach, mdevs, domains=[web(name="ghost")]).codes == ["transient_vm"]


def test_a_check_before_the_vgpus_are_created(make_host):
    host = make_host().vfs_on()
    Libvirt(host).define("web1")
    expected = [web({"type": "A40-24Q"}, {"uuid": ONE})]
    found = call(nvidia_vgpu_attach, host, check=True, domains=expected, check_mode_assume=["vgpus"]).ok
    assert found["actions"] == ["web1: attach a vGPU that is created later (A40-24Q)", "web1: attach a vGPU that is created later (%s)" % ONE]
    assert call(nvidia_vgpu_attach, host, domains=expected, check_mode_assume=["vgpus"]).codes == ["no_such_vgpu"] * 2


def test_a_check_before_more_vgpus_are_created(mdevs):
    Libvirt(mdevs).define("web1", MDEV % ONE).define("web2", MDEV % TWO).define("web3")

    def check(*vgpus):
        return call(nvidia_vgpu_attach, mdevs, check=True, domains=[web(*vgpus, name="web3")], check_mode_assume=["vgpus"])

    assert check({"type": "A40-24Q"}).ok["actions"] == ["web3: attach a vGPU that is created later (A40-24Q)"]
    assert len(check({"type": "A40-8Q", "count": 2}).ok["actions"]) == 2
    assert check({"uuid": ONE}).codes == ["vgpu_taken"], "this vGPU exists and another VM has it"
    assert check({"uuid": THREE}, {"vf": "e8:00.4"}).codes == ["none_free"], "no vGPU to be created can match both requests"


@pytest.mark.parametrize("number", [1, 2])
def test_a_failure_of_one_vm_leaves_the_others(mdevs, number):
    virsh = Libvirt(mdevs).define("web1").define("web2")
    expected = [web({"uuid": ONE}), web({"uuid": TWO}, name="web2")]
    mdevs.fail_at = len(mdevs.writes) + number
    outcome = call(nvidia_vgpu_attach, mdevs, domains=expected)
    assert outcome.codes == ["virsh_failed"] and len(outcome["actions"]) == len(outcome["not_done"]) == 1
    mdevs.fail_at = None
    both(mdevs, domains=expected)
    assert virsh.has("web1") == [ONE] and virsh.has("web2") == [TWO]


def test_a_vgpu_that_another_vm_got_meanwhile_is_not_attached_twice(mdevs, monkeypatch):
    virsh = Libvirt(mdevs).define("web1").define("web2")
    real = plan.plan

    def late(*arguments):
        made = real(*arguments)
        virsh.define("web2", MDEV % ONE)
        return made

    monkeypatch.setattr(plan, "plan", late)
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"})])
    assert outcome.codes == ["changed_meanwhile"] and "attached to another VM in the meantime: web2" in outcome.msg and virsh.has("web1") == []
    monkeypatch.setattr(plan, "plan", real)
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"})]).ok["attached"][0]["device"] == TWO


VGPU_ON_COMMAND_LINE = (
    "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-device'/>"
    "<q:arg value='%s'/></q:commandline>"
)


def test_a_vm_is_addressed_by_its_uuid(mdevs):
    """virsh interprets a name first as an ID, then as a UUID, and only then as a name."""
    virsh = Libvirt(mdevs).define("first", running=True).define("1")
    virsh.define(uuid_of("first"))  # the name of this VM is the UUID of the VM first
    both(mdevs, domains=[web({"uuid": ONE}, name="1"), web({"uuid": TWO}, name=uuid_of("first"))], live=True)
    assert virsh.has("1") == [ONE] and virsh.has(uuid_of("first")) == [TWO]
    assert virsh.has("first") == virsh.has("first", running=True) == []
    mdevs.put("/etc/libvirt/qemu/hand.xml", "<domain><name>hand</name><devices/></domain>")
    assert call(nvidia_vgpu_attach, mdevs, domains=[web(name="hand")]).codes == ["no_vm_uuid"]


def test_names_keep_their_spaces(mdevs):
    virsh = Libvirt(mdevs).define(" sp ").define("sp")
    both(mdevs, domains=[web({"uuid": ONE}, name=" sp "), web({"uuid": TWO}, name="sp")])
    assert virsh.has(" sp ") == [ONE] and virsh.has("sp") == [TWO]
    assert call(nvidia_vgpu_attach, mdevs, domains=[web(name="  ")]).codes == ["bad_name"]


def test_only_the_systems_libvirt(mdevs):
    Libvirt(mdevs).define("web1")
    assert call(nvidia_vgpu_attach, mdevs, domains=[web()], connect="qemu:///session").codes == ["bad_connect"]
    assert call(nvidia_vgpu_attach, mdevs, domains=[web()], connect="qemu:///system?socket=/run/x").ok


def test_all_requests_are_served_where_it_is_possible(mdevs):
    """If the requests were served one after the other, the first request would take the only vGPU that matches the second request."""
    virsh = Libvirt(mdevs).define("web1").define("web2")
    expected = [web({"type": "A40-24Q"}), web({"uuid": ONE}, name="web2")]
    both(mdevs, domains=expected)
    assert virsh.has("web1") == [TWO] and virsh.has("web2") == [ONE]


def test_a_request_for_any_gpu_leaves_the_narrow_one_to_whom_it_suits(make_host):
    host = make_host(gpus=[(OTHER, A40), (PF, A40)]).vfs_on()
    for vf, uuid in (("0000:e7:00.4", ONE), ("0000:e7:00.5", TWO), ("0000:e8:00.4", FOUR)):
        host.add(vf, "A40-24Q", uuid)
    virsh = Libvirt(host).define("web1").define("web2")
    both(host, domains=[web({"type": "A40-24Q", "count": 2}), web({"type": "A40-24Q", "gpu": OTHER}, name="web2")])
    assert FOUR in virsh.has("web1") and len(virsh.has("web1") + virsh.has("web2")) == 3
    virsh.define("web1", MDEV % ONE).define("web2")
    both(host, domains=[web({"type": "A40-24Q"}, {"type": "A40-24Q", "gpu": OTHER}), web({"type": "A40-24Q", "gpu": OTHER}, name="web2")])
    assert sorted(virsh.has("web1")) == [ONE, FOUR] and virsh.has("web2") == [TWO], "the VM's current vGPU must serve the request that no other vGPU matches"


def test_requests_that_contradict_each_other_are_named(mdevs):
    Libvirt(mdevs).define("web1").define("web2").define("web3")
    requests = [web({"type": "A40-24Q"}), web({"type": "A40-24Q", "gpu": OTHER}, name="web2"), web({"uuid": TWO}, {"type": "A40-8Q"}, name="web3")]
    outcome = call(nvidia_vgpu_attach, mdevs, domains=requests)
    assert outcome.codes == ["none_free"] and outcome.writes == 0
    assert "3 requests" in outcome.msg and "compete for 2 vGPUs: %s, %s" % (ONE, TWO) in outcome.msg
    for word in ("domains[0].vgpus[0]: A40-24Q for web1", "A40-24Q on %s for web2" % OTHER, "domains[2].vgpus[0]: %s for web3" % TWO):
        assert word in outcome.msg, outcome.msg
    assert "A40-8Q" not in outcome.msg
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, {"vf": "e7:00.4"})])
    assert outcome.codes == ["none_free"] and "2 requests" in outcome.msg, "the UUID and the VF select the same vGPU"


def test_who_has_the_others_is_named_where_too_few_are_free(mdevs):
    Libvirt(mdevs).define("web1", MDEV % ONE).define("web2")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q", "count": 2}, name="web2")])
    assert outcome.codes == ["none_free"] and "compete for 1 vGPUs: %s; not free: %s: web1" % (TWO, ONE) in outcome.msg, outcome.msg


def test_several_vgpus_on_one_gpu_without_sriov(make_host):
    host = make_host(gpus=[(PF, T4)])
    host.add(PF, "T4-4Q", ONE)
    virsh = Libvirt(host).define("web1")
    both(host, domains=[web({"vf": PF})])
    assert virsh.has("web1") == [ONE]
    host.add(PF, "T4-4Q", TWO)
    outcome = call(nvidia_vgpu_attach, host, domains=[web({"vf": PF})])
    assert outcome.codes == ["ambiguous_vf"] and ONE in outcome.msg and TWO in outcome.msg
    both(host, domains=[web({"type": "T4-4Q", "gpu": PF, "count": 2})])


def test_a_change_keeps_what_libvirt_and_the_user_put_into_the_device(mdevs):
    extra = "<alias name='ua-gpu0'/><rom bar='off'/><address type='pci' domain='0x0000' bus='0x07' slot='0x00' function='0x0'/>"
    rich = (MDEV % ONE).replace("</hostdev>", extra + "</hostdev>").replace("managed='no'", "managed='yes'")
    virsh = Libvirt(mdevs).define("web1", rich)
    assert not call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})]).ok["changed"], "managed='yes' has no effect for an mdev"
    real = both(mdevs, domains=[web({"uuid": ONE, "display": True})])
    assert real["actions"] == ["web1: change %s (A40-24Q) to display on, ramfb not set" % ONE]
    before, after = ElementTree.fromstring(rich), virsh.element("web1")
    assert after.attrib == {**before.attrib, "display": "on"}
    assert [ElementTree.tostring(one) for one in after] == [ElementTree.tostring(one) for one in before]


def test_a_managed_vf_keeps_its_guest_address(vendor):
    rich = (VF % ("yes", 0, 5)).replace("</hostdev>", "<driver name='vfio'/><address type='pci' bus='0x07' slot='0x01'/></hostdev>")
    virsh = Libvirt(vendor).define("web1", rich)
    real = both(vendor, domains=[web({"type": "A40-24Q"})])
    assert real["actions"] == ["web1: change 0000:e8:00.5 (A40-24Q) to managed='no'"]
    assert virsh.element("web1").get("managed") == "no" and virsh.element("web1").find("address").get("bus") == "0x07"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_change_that_is_killed_leaves_the_vm_with_its_vgpu(mdevs, at):
    virsh = Libvirt(mdevs).define("web1", SOUND, MDEV % ONE, more=["<metadata><a:b xmlns:a='urn:x'>&#228;<devices><hostdev/></devices></a:b></metadata>"])
    mdevs.die_at = len(mdevs.writes) + at
    try:
        call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE, "display": True})])
    except Died:
        pass
    assert virsh.has("web1") == ["0000:03:00.0", ONE]
    mdevs.die_at = None
    call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE, "display": True})]).ok
    assert virsh.has("web1") == ["0000:03:00.0", ONE] and virsh.element("web1", 1).get("display") == "on"


def test_all_else_of_a_definition_stays_to_the_letter(mdevs):
    before = Libvirt(mdevs).xml("web1", SOUND, "<hostdev mode='capabilities' type='misc'/>", MDEV % ONE, MDEV % TWO)
    text = before.replace("<devices>", "<!-- \u00e4 --><metadata xmlns:a='urn:x'><a:hostdev/></metadata>\n<devices>")
    mdevs.put("/etc/libvirt/qemu/web1.xml", text)
    call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE, "display": True}, {"uuid": TWO})]).ok
    begin, end = text.index('<hostdev mode="subsystem" type="mdev"'), text.index("</hostdev>", text.index(ONE)) + len("</hostdev>")
    after = mdevs.get("/etc/libvirt/qemu/web1.xml")
    assert after.startswith(text[:begin]) and after.endswith(text[end:]) and after != text
    changed = ElementTree.fromstring(after[begin:len(after) - len(text[end:])])
    assert (changed.get("display"), changed.find("source/address").get("uuid")) == ("on", ONE)


def test_a_refused_change_changes_nothing(mdevs):
    virsh = Libvirt(mdevs).define("web1", (MDEV % ONE).replace("model=", "display='off' model="))
    old = ElementTree.tostring(virsh.element("web1"))
    mdevs.fail_at = len(mdevs.writes) + 1
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE, "display": True})])
    assert outcome.codes == ["virsh_failed"] and ElementTree.tostring(virsh.element("web1")) == old
    mdevs.fail_at = None
    both(mdevs, domains=[web({"uuid": ONE, "display": True})])


def test_what_libvirt_or_qemu_would_refuse_is_refused_before(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE, graphics=False)
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE, "display": True})])
    assert outcome.codes == ["no_graphics"] and outcome.writes == 0 and "virsh edit %s" % uuid_of("web1") in outcome.msg
    virsh.define("web1")
    two = [{"uuid": key, "display": True, "ramfb": True} for key in (ONE, TWO)]
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web(*two)])
    assert outcome.codes == ["bad_display"] and "several ramfb devices: %s, %s" % (ONE, TWO) in outcome.msg
    both(mdevs, domains=[web(two[0], {"uuid": TWO, "display": True})])
    other = "<devices><video><model type='ramfb'/></video><graphics type='vnc'/></devices>"
    mdevs.put("/etc/libvirt/qemu/web2.xml", "<domain><name>web2</name><uuid>%s</uuid>%s</domain>" % (uuid_of("web2"), other))
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web(name="web1"), web(two[0], name="web2")])
    assert outcome.codes == ["bad_display"] and "<video> element of type ramfb" in outcome.msg


def test_without_a_display_there_is_no_ramfb(mdevs):
    virsh = Libvirt(mdevs).define("web1", (MDEV % ONE).replace("model=", "display='on' ramfb='on' model="))
    both(mdevs, domains=[web({"uuid": ONE, "display": False})])
    assert (virsh.element("web1").get("display"), virsh.element("web1").get("ramfb")) == ("off", "off")
    virsh.define("web1", (MDEV % ONE).replace("model=", "display='off' ramfb='on' model="))
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})]).codes == ["bad_display"], "a VM with ramfb but without a display does not start"
    both(mdevs, domains=[web({"uuid": ONE, "ramfb": False})])


def test_a_running_vm_whose_display_changes_is_named(mdevs):
    Libvirt(mdevs).define("web1", MDEV % ONE, running="paused")
    real = both(mdevs, domains=[web({"uuid": ONE, "display": True})])
    assert any("web1 is running, so the change of %s" % ONE in one for one in real.warnings), real.warnings


@pytest.mark.parametrize("how", ["save", "snapshot", "external"])
def test_saved_vms_keep_what_they_were_saved_with(mdevs, how):
    virsh = Libvirt(mdevs).define("saved").define("web1")
    if how == "save":
        virsh.save("saved", MDEV % ONE)
    else:
        virsh.snapshot("saved", "before", MDEV % ONE, memory="external" if how == "external" else "internal")
    what = "saved (in the managed save)" if how == "save" else "saved (in the snapshot before)"
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})])
    assert outcome.codes == ["vgpu_taken"] and what in outcome.msg, outcome.msg
    both(mdevs, domains=[web({"type": "A40-24Q"})])
    assert virsh.has("web1") == [TWO]
    real = both(mdevs, domains=[web({"uuid": ONE}, name="saved"), web()])
    assert virsh.has("saved") == [ONE], "the saved VM can get its own vGPU back"
    assert any("saved has a managed save" in one for one in real.warnings) == (how == "save")


def test_a_snapshot_of_the_definition_alone_keeps_nothing(mdevs):
    virsh = Libvirt(mdevs).define("saved").define("web1").snapshot("saved", "disks", MDEV % ONE, memory="no")
    both(mdevs, domains=[web({"uuid": ONE})])
    assert virsh.has("web1") == [ONE]


@pytest.mark.parametrize("content", ["", "LibvirtQemudSave", "x" * 200, "LibvirtQemudSave" + "\0" * 3 + "\1" + "\0" * 80 + "<domain"])
def test_a_file_that_is_no_saved_vm_is_a_warning(mdevs, content):
    Libvirt(mdevs).define("web1")
    mdevs.put("/var/lib/libvirt/qemu/save/web9.save", content)
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})]).ok
    assert any("web9.save" in one for one in outcome.warnings)


def test_a_directory_of_saved_vms_that_only_root_may_read(mdevs, monkeypatch):
    """Users other than root must still be able to run vgpuctl status."""
    Libvirt(mdevs).define("web1")
    names = files.names

    def closed(root, directory, ending=""):
        if directory == libvirt_xml.SAVED:
            raise PermissionError(13, "Permission denied", root + directory)
        return names(root, directory, ending)

    monkeypatch.setattr(files, "names", closed)
    domains, warnings = libvirt_xml.all_domains(mdevs.ctx)
    assert [one.name for one in domains] == ["web1"] and warnings[0].startswith(libvirt_xml.SAVED + ": only root can read this directory")


@pytest.mark.parametrize("argument", [
    "vfio-pci,sysfsdev=/sys/bus/mdev/devices/%s,id=x" % ONE.upper(), '{"driver":"vfio-pci","sysfsdev":"/sys/bus/mdev/devices/%s"}' % ONE,
    "vfio-pci,host=e7:00.4", '{"driver": "vfio-pci", "host": "0000:e7:00.4"}',
])
def test_what_is_on_qemus_command_line_is_taken(mdevs, argument):
    virsh = Libvirt(mdevs).define("old", more=[VGPU_ON_COMMAND_LINE % argument]).define("web1")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})])
    assert outcome.codes == ["vgpu_taken"] and "old (on QEMU's command line)" in outcome.msg
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="old")]).codes == ["vgpu_taken"], "the VM would have the vGPU twice"
    both(mdevs, domains=[web({"type": "A40-24Q"}), web(name="old")])
    assert virsh.has("web1") == [TWO]


@pytest.mark.parametrize("slot, function", [(0, 4), (0, 0)])
def test_the_vf_or_gpu_of_a_vgpu_in_another_vm_takes_it(mdevs, slot, function):
    device = (VF % ("no", slot, function)).replace("0xe8", "0xe7")
    virsh = Libvirt(mdevs).define("whole", device).define("web1")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})])
    assert outcome.codes == ["vgpu_taken"] and "whole" in outcome.msg
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"})])
    assert outcome.failed == (function == 0), "both vGPUs are on the GPU, but only one is on the VF"
    if function:
        virsh.define("whole", device, MDEV % ONE)
        own = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="whole")], exclusive=False)
        assert own.codes == ["vgpu_taken"], "a VM cannot have the VF and its vGPU"
    assert virsh.has("whole")[0] == "0000:e7:00.%d" % function


def test_all_owners_of_a_vgpu_are_named(mdevs):
    Libvirt(mdevs).define("one", MDEV % ONE).define("two", MDEV % ONE, running=True).define("web1")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})])
    assert outcome.codes == ["vgpu_taken"] and "the vGPU is attached to the VMs one (not running), two (running)" in outcome.msg
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="one")]).codes == ["vgpu_taken"]
