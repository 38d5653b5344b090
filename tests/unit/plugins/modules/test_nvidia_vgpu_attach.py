# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs for libvirt's VMs: who gets which, who keeps what, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.libvirt import placement, plan, request
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libvirt_xml as reader
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu_attach
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

PF, OTHER = "0000:e8:00.0", "0000:e7:00.0"
ONE, TWO, THREE = ("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d" % number for number in (1, 2, 3))
MDEV = "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"
VF = (
    "<hostdev mode='subsystem' type='pci' managed='%s'>"
    "<source><address domain='0x0000' bus='0xe8' slot='0x%02x' function='0x%d'/></source></hostdev>"
)
SOUND = "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></source></hostdev>"


@pytest.fixture
def mdevs(make_host):
    """Two A40: A40-24Q twice on one, A40-8Q on the other."""
    host = make_host(gpus=[(OTHER, A40), (PF, A40)]).vfs_on()
    host.add("0000:e7:00.4", "A40-24Q", ONE)
    host.add("0000:e7:00.5", "A40-24Q", TWO)
    host.add("0000:e8:00.4", "A40-8Q", THREE)
    return host


@pytest.fixture
def vendor(make_host):
    """An A40 with two A40-24Q on the vendor-specific framework."""
    host = make_host(vendor_vfio=True).vfs_on()
    host.add("0000:e8:00.4", "A40-24Q", None)
    host.add("0000:e8:00.5", "A40-24Q", None)
    return host


def web(*vgpus, name="web1"):
    return {"name": name, "vgpus": list(vgpus)}


def both(host, **arguments):
    """Check mode and the run agree, check mode writes nothing, and a second run has nothing to do."""
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


def test_from_one_vm_to_another_in_one_run(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE).define("web2")
    real = both(mdevs, domains=[web({"uuid": ONE}, name="web2"), web()])
    assert (virsh.has("web1"), virsh.has("web2")) == ([], [ONE]) and real["actions"][0].startswith("web1: detach")


def test_a_display(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE)
    both(mdevs, domains=[web({"uuid": ONE, "display": True, "ramfb": True})])
    assert (virsh.element("web1").get("display"), virsh.element("web1").get("ramfb")) == ("on", "on")
    assert not call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE})]).ok["changed"], "what is not set stays"
    both(mdevs, domains=[web({"uuid": ONE, "display": False, "ramfb": False})])
    assert virsh.element("web1").get("display") == "off"


def test_a_running_vm_is_let_alone_unless_live(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE, running=True)
    real = both(mdevs, domains=[web({"type": "A40-8Q"})])
    assert virsh.has("web1") == [THREE] and virsh.has("web1", running=True) == [ONE]
    assert any("web1 runs: it gets %s" % THREE in one for one in real.warnings) and any("until it stops" in one for one in real.warnings)
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="web2")])
    assert outcome.codes == ["unknown_vm"]
    virsh.define("web2")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"uuid": ONE}, name="web2")])
    assert outcome.codes == ["vgpu_taken"] and "web1 (running)" in outcome.msg, "it has it until it stops"
    real = both(mdevs, domains=[web({"type": "A40-8Q"})], live=True)
    assert virsh.has("web1", running=True) == [THREE] and real.warnings == []


def test_a_guest_that_keeps_it_is_reported(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE, running=True)
    virsh.stubborn = True
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web()], live=True, timeout=20)
    assert outcome.codes == ["not_kept"] and "still in it 20 s after" in outcome.msg and "shut it down" in outcome.msg
    assert len(outcome["actions"]) == 1 and len(outcome["not_done"]) == 1
    virsh.stubborn, virsh.lies = False, True
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-8Q"})]).codes == ["not_kept"]


def test_who_has_it_is_named(mdevs):
    virsh = Libvirt(mdevs).define("web1", MDEV % ONE).define("web2", MDEV % TWO, running=True).define("web3")
    outcome = call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"}, {"type": "A40-48Q"}, {"uuid": TWO}, name="web3")])
    assert outcome.codes == ["vgpu_taken", "none_free", "no_such_vgpu"] and outcome.writes == 0
    for word in ("%s (web1)" % ONE, "%s (web2)" % TWO, "A40-24Q, A40-8Q", "web2 (running)"):
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
    assert not call(nvidia_vgpu_attach, mdevs, domains=[]).ok["changed"], "nothing is asked for"
    assert call(nvidia_vgpu_attach, mdevs, domains=[], connect="qemu+ssh://elsewhere/system").codes == ["bad_connect"]
    mdevs.put("/run/libvirt/qemu/ghost.xml", "<domstatus><domain><name>ghost</name><devices/></domain></domstatus>")
    virsh.silent = False
    assert call(nvidia_vgpu_attach, mdevs, domains=[web(name="ghost")]).codes == ["transient_vm"]


def test_a_check_before_the_vgpus_are_created(make_host):
    host = make_host().vfs_on()
    Libvirt(host).define("web1")
    expected = [web({"type": "A40-24Q"}, {"uuid": ONE})]
    found = call(nvidia_vgpu_attach, host, check=True, domains=expected, check_mode_assume=["vgpus"]).ok
    assert found["actions"] == ["web1: attach a vGPU that is still to come (A40-24Q)", "web1: attach a vGPU that is still to come (%s)" % ONE]
    assert call(nvidia_vgpu_attach, host, domains=expected, check_mode_assume=["vgpus"]).codes == ["no_such_vgpu"] * 2


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
    assert outcome.codes == ["changed_meanwhile"] and "web2 has got it" in outcome.msg and virsh.has("web1") == []
    monkeypatch.setattr(plan, "plan", real)
    assert call(nvidia_vgpu_attach, mdevs, domains=[web({"type": "A40-24Q"})]).ok["attached"][0]["device"] == TWO


KEYS = strategies.sampled_from([ONE, TWO, THREE])
REQUEST = strategies.one_of(
    strategies.builds(lambda key: {"uuid": key}, KEYS),
    strategies.builds(lambda name: {"type": name}, strategies.sampled_from(["A40-24Q", "A40-8Q"])),
)


@given(
    has=strategies.lists(strategies.tuples(strategies.sampled_from(["a", "b", "c"]), KEYS), max_size=3, unique_by=lambda one: one[1]),
    expected=strategies.dictionaries(strategies.sampled_from(["a", "b", "c"]), strategies.lists(REQUEST, max_size=3)),
    running=strategies.sets(strategies.sampled_from(["a", "b", "c"])),
    exclusive=strategies.booleans(),
)
def test_no_vgpu_is_ever_in_two_vms(tmp_path_factory, has, expected, running, exclusive):
    """Whatever was and whatever is expected: after the plan each vGPU is in one VM's definition at most, and in no other's that runs with it."""
    from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

    host = Host(tmp_path_factory.mktemp("host"), gpus=[(OTHER, A40), (PF, A40)]).vfs_on()
    for parent, short, uuid in (("0000:e7:00.4", "A40-24Q", ONE), ("0000:e7:00.5", "A40-24Q", TWO), ("0000:e8:00.4", "A40-8Q", THREE)):
        host.add(parent, short, uuid)
    domains = []
    for name in ("a", "b", "c"):
        devices = [reader.Hostdev("mdev", key) for owner, key in has if owner == name]
        domains.append(reader.Domain(name, devices, list(devices) if name in running else None))
    try:
        requests = request.parse([{"name": name, "vgpus": vgpus} for name, vgpus in expected.items()])
        made = plan.plan(inventory.read(host.ctx, with_types=False), domains, requests, placement.Options(exclusive))
    except EngineError:
        return
    defined = {one.name: {device.key for device in one.defined} for one in domains}
    for step in made.steps:
        key = step.args["hostdev"].key
        (defined[step.device].add if step.kind == "attach-device" else defined[step.device].remove)(key)
    for key in (ONE, TWO, THREE):
        owners = {name for name in defined if key in defined[name]}
        assert len(owners) <= 1
        assert all(key not in [device.key for device in one.live or []] or {one.name} >= owners for one in domains)
    for name, vgpus in expected.items():
        assert len(defined[name]) == len(vgpus) or not exclusive and len(defined[name]) >= len(vgpus)
