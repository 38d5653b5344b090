# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests single mediated devices on a fake host."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mdev
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4

PF = "0000:e8:00.0"
VF = "0000:e8:00.4"
ONE = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
TWO = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12"


def test_one_device_is_created_kept_and_removed(make_host):
    host = make_host(mdevctl=True).vfs_on()
    check = call(nvidia_mdev, host, check=True, uuid=ONE.upper(), parent="e8:00.4", type="NVIDIA A40-24A").ok
    real = call(nvidia_mdev, host, uuid=ONE.upper(), parent="e8:00.4", type="NVIDIA A40-24A").ok
    assert check.writes == 0 and real["actions"] == check["actions"] and real["diff"] == check["diff"]
    assert host.vgpus() == [(ONE, VF, "A40-24A")] and real["devices"] == [{"uuid": ONE, "parent": VF, "type": "A40-24A"}]
    assert host.get("/etc/mdevctl.d/%s/%s" % (VF, ONE))
    assert not call(nvidia_mdev, host, uuid=ONE, parent=VF, type="nvidia-575").ok["changed"]
    assert call(nvidia_mdev, host, uuid=ONE, state="absent").ok["changed"]
    assert host.vgpus() == [] and host.get("/etc/mdevctl.d/%s/%s" % (VF, ONE)) is None
    assert not call(nvidia_mdev, host, uuid=ONE, state="absent").ok["changed"]


def test_several_by_vf_and_by_pf_do_not_collide(host):
    devices = [{"parent": PF, "type": "A40-8Q"}, {"parent": VF, "type": "A40-8Q", "uuid": ONE}, {"parent": PF, "type": "nvidia-562"}]
    real = call(nvidia_mdev, host, devices=devices).ok
    assert sorted(parent for dummy, parent, dummy2 in host.vgpus()) == [VF, "0000:e8:00.5", "0000:e8:00.6"]
    assert sorted((one["uuid"], one["parent"], one["type"]) for one in real["devices"]) == host.vgpus()
    assert not call(nvidia_mdev, host, devices=devices).ok["changed"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_device_of_the_pf_leaves_one_on_a_vf_to_the_device_of_that_vf(host, number):
    devices = [{"parent": PF, "type": "A40-24Q"}, {"parent": ("0000:e8:00.5", "0000:e8:01.3")[number], "type": "A40-24Q"}]
    host.add(devices[1]["parent"], "A40-24Q", ONE)
    call(nvidia_mdev, host, devices=devices).ok
    assert len(host.vgpus()) == 2 and not call(nvidia_mdev, host, devices=devices).ok["changed"]


@pytest.mark.parametrize("on", [False, True])
def test_sizes_share_a_gpu_that_is_in_mixed_size_mode(host, on):
    host.pf().mixed = on
    devices = [{"parent": PF, "type": "A40-8Q"}, {"parent": PF, "type": "A40-24Q"}]
    outcome = call(nvidia_mdev, host, devices=devices)
    assert outcome.failed != on and len(host.vgpus()) == (2 if on else 0)
    if on:
        assert call(nvidia_mdev, host, devices=[{"parent": PF, "type": "A40-12Q"}]).ok["changed"] and host.pf().mixed
        assert call(nvidia_mdev, host, devices=devices + [{"parent": PF, "type": "A40-24A"}]).codes == ["too_many"]


@pytest.mark.parametrize("on", [False, True])
def test_sizes_share_a_gpu_that_is_in_mixed_size_mode(host, on):
    host.pf().mixed = on
    devices = [{"parent": PF, "type": "A40-8Q"}, {"parent": PF, "type": "A40-24Q"}]
    outcome = call(nvidia_mdev, host, devices=devices)
    assert outcome.failed != on and len(host.vgpus()) == (2 if on else 0)
    if on:
        assert call(nvidia_mdev, host, devices=[{"uuid": ONE, "parent": PF, "type": "A40-12Q"}]).ok["changed"] and host.pf().mixed
        assert call(nvidia_mdev, host, devices=devices + [{"parent": PF, "type": "A40-24A"}]).codes == ["too_many"]


def test_swap_in_one_call(host):
    host.add(VF, "A40-24Q", ONE)
    call(nvidia_mdev, host, devices=[{"uuid": ONE, "state": "absent"}, {"uuid": TWO, "parent": VF, "type": "A40-8Q"}]).ok
    assert host.vgpus() == [(TWO, VF, "A40-8Q")]


def test_a_t4_takes_several_on_its_pf(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4)])
    devices = [{"parent": "3b:00.0", "type": "T4-8Q"}, {"parent": "3b:00.0", "type": "T4-8Q"}]
    call(nvidia_mdev, host, devices=devices).ok
    assert [(parent, name) for dummy, parent, name in host.vgpus()] == [("0000:3b:00.0", "T4-8Q")] * 2
    assert not call(nvidia_mdev, host, devices=devices).ok["changed"]
    assert call(nvidia_mdev, host, devices=devices + devices[:1]).codes == ["too_many"]


@pytest.mark.parametrize(
    "devices, code, words",
    [
        ([{"parent": VF, "type": "A40-8Q", "uuid": "nonsense"}], "bad_uuid", ["devices[0]", "'nonsense'"]),
        ([{"parent": "nowhere", "type": "A40-8Q"}], "bad_address", ["devices[0]", "'nowhere'"]),
        ([{"parent": "0000:99:00.0", "type": "A40-8Q"}], "unknown_parent", ["0000:99:00.0", "0000:e8:00.0 (32 VFs)"]),
        ([{"parent": VF, "type": "A40-9Q"}], "unknown_type", ["A40-9Q", "A40-8Q"]),
        ([{"parent": VF, "type": "A40-8Q"}, {"parent": VF, "type": "A40-8Q"}], "vf_busy", [VF, "already has the vGPU"]),
        ([{"parent": VF, "type": "A40-8Q", "uuid": TWO}, {"parent": VF, "type": "A40-8Q"}], "vf_busy", [VF, TWO]),
        ([{"parent": "0000:e8:00.5", "type": "A40-8Q"}, {"parent": "0000:e8:00.6", "type": "A40-24Q"}], "two_sizes", ["A40-24Q", "A40-8Q"]),
        ([{"parent": PF, "type": "A40-24Q"}] * 3, "too_many", ["3 vGPUs of A40-24Q", "at most 2"]),
        ([{"uuid": TWO, "parent": VF, "type": "A40-8Q"}] * 2, "duplicate_uuid", [TWO, "devices[0]"]),
        ([{"state": "absent", "parent": VF}], "error", ["no uuid"]),
        ([{"parent": VF}], "error", ["parent or type is missing"]),
    ],
)
def test_errors_are_reported_before_any_write(host, devices, code, words):
    outcome = call(nvidia_mdev, host, devices=devices)
    assert code in outcome.codes and outcome.writes == 0 and host.vgpus() == []
    for word in words:
        assert word in outcome.msg


def test_a_busy_vf_and_a_uuid_elsewhere(host):
    host.add(VF, "A40-8Q", ONE)
    outcome = call(nvidia_mdev, host, uuid=TWO, parent=VF, type="A40-8Q")
    assert outcome.codes == ["vf_busy"] and ONE in outcome.msg
    outcome = call(nvidia_mdev, host, uuid=ONE, parent="0000:e8:00.5", type="A40-8Q")
    assert outcome.codes == ["uuid_elsewhere"] and VF in outcome.msg
    outcome = call(nvidia_mdev, host, uuid=ONE, parent="0000:e8:00.5", state="absent")
    assert outcome.codes == ["uuid_elsewhere"]
    outcome = call(nvidia_mdev, host, uuid=ONE, parent=VF, type="A40-8A")
    assert outcome.codes == ["uuid_elsewhere"] and host.vgpus() == [(ONE, VF, "A40-8Q")]


def test_a_type_that_is_not_offered_hides_nothing_else(host):
    host.add(VF, "A40-24Q", ONE)
    devices = [
        {"uuid": TWO, "parent": "0000:e8:00.5", "type": "A40-25Q"},
        {"uuid": ONE, "parent": "0000:e8:00.6", "type": "A40-24Q"},
        {"uuid": "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a13", "parent": VF, "type": "A40-24Q"},
        {"parent": "0000:99:00.4", "type": "A40-24Q"},
    ]
    outcome = call(nvidia_mdev, host, devices=devices)
    assert outcome.codes == ["unknown_parent", "unknown_type", "vf_busy", "uuid_elsewhere"] and outcome.writes == 0


def test_a_device_in_use_is_kept_unless_forced(host):
    host.add(VF, "A40-8Q", ONE)
    host.kernel.use(ONE)
    outcome = call(nvidia_mdev, host, uuid=ONE, state="absent")
    assert outcome.codes == ["in_use"] and "VM web1" in outcome.msg and "force_remove" in outcome.msg and outcome.writes == 0
    assert call(nvidia_mdev, host, check=True, uuid=ONE, state="absent", force_remove=[ONE]).ok["changed"]


def test_only_what_is_named_is_touched(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)]).vfs_on()
    host.add("0000:e7:00.4", "A40-24Q", TWO)
    call(nvidia_mdev, host, uuid=ONE, parent=VF, type="A40-8Q").ok
    assert host.vgpus() == [(ONE, VF, "A40-8Q"), (TWO, "0000:e7:00.4", "A40-24Q")]


def test_nothing_to_do_is_refused(host):
    assert "one of the following is required" in call(nvidia_mdev, host, type="A40-8Q").msg
    assert "mutually exclusive" in call(nvidia_mdev, host, uuid=ONE, devices=[]).msg


# --- other vGPUs on the GPU

THREE = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a13"
OTHER_VF = "0000:e8:00.5"


def test_other_vgpus_of_the_gpu_stay_as_they_are(make_host):
    host = make_host(mdevctl=True).vfs_on()
    host.add(OTHER_VF, "A40-8Q", TWO)
    host.kernel.use(TWO)
    outcome = call(nvidia_mdev, host, parent=PF, uuid=ONE, type="A40-8Q").ok
    assert host.vgpus() == [(ONE, VF, "A40-8Q"), (TWO, OTHER_VF, "A40-8Q")] and not [text for text in outcome["actions"] if TWO in text]
    assert host.get("/etc/mdevctl.d/%s/%s" % (VF, ONE)) and not host.get("/etc/mdevctl.d/%s/%s" % (OTHER_VF, TWO))
    assert [one["uuid"] for one in outcome["devices"]] == [ONE]
    assert call(nvidia_mdev, host, uuid=ONE, state="absent").ok["changed"] and host.vgpus() == [(TWO, OTHER_VF, "A40-8Q")]


@pytest.mark.parametrize(
    "present, device, code, words",
    [
        (["A40-24Q"], {"parent": PF, "type": "A40-8Q"}, "two_sizes", ["A40-24Q (24576 MiB)", "A40-8Q (8192 MiB)"]),
        (["A40-24Q", "A40-24Q"], {"parent": PF, "type": "A40-24Q", "uuid": THREE}, "too_many", ["3 vGPUs of A40-24Q", "at most 2"]),
        (["A40-8Q"], {"parent": VF, "type": "A40-8Q", "uuid": THREE}, "vf_busy", [VF, ONE, "A40-8Q"]),
        (["A40-8Q"], {"parent": PF, "type": "A40-8A", "uuid": ONE}, "uuid_elsewhere", [ONE, "as A40-8Q on " + VF]),
    ],
)
def test_other_vgpus_of_the_gpu_count(host, present, device, code, words):
    for type_name, vf, uuid in zip(present, (VF, OTHER_VF), (ONE, TWO)):
        host.add(vf, type_name, uuid)
    before = host.vgpus()
    outcome = call(nvidia_mdev, host, devices=[device])
    assert outcome.codes == [code] and outcome.writes == 0 and host.vgpus() == before
    for word in words:
        assert word in outcome.msg


def test_what_is_there_fits_whatever_the_sizes(host):
    host.pf().mixed = True
    host.add(VF, "A40-24Q", ONE)
    host.add(OTHER_VF, "A40-8Q", TWO)
    assert not call(nvidia_mdev, host, devices=[{"parent": VF, "type": "A40-24Q"}, {"parent": OTHER_VF, "type": "A40-8Q"}]).ok["changed"]
    assert call(nvidia_mdev, host, devices=[{"uuid": ONE, "state": "absent"}, {"parent": OTHER_VF, "type": "A40-8Q"}]).ok["changed"]
    assert host.vgpus() == [(TWO, OTHER_VF, "A40-8Q")]


def test_a_removed_device_does_not_come_back_under_its_uuid(host):
    call(nvidia_mdev, host, parent=VF, type="A40-8Q").ok
    ((old, dummy, dummy2),) = host.vgpus()
    devices = [{"uuid": old, "state": "absent"}, {"parent": VF, "type": "A40-8Q"}]
    call(nvidia_mdev, host, devices=devices).ok
    ((new, parent, dummy),) = host.vgpus()
    assert new != old and parent == VF
    assert not call(nvidia_mdev, host, devices=devices).ok["changed"]


def test_a_definition_without_its_device_is_removed(make_host):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_mdev, host, uuid=ONE, parent=VF, type="A40-8Q").ok
    host.kernel.mdevs.pop(ONE, None)
    outcome = call(nvidia_mdev, host, uuid=ONE, state="absent").ok
    assert "%s: undefine %s in mdevctl" % (VF, ONE) in outcome["actions"] and not host.get("/etc/mdevctl.d/%s/%s" % (VF, ONE))


def test_beside_a_gpu_that_fell_off_the_bus_nothing_is_done(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)]).vfs_on()
    host.pf(PF).off_bus = True
    outcome = call(nvidia_mdev, host, devices=[{"parent": "0000:e7:00.0", "type": "A40-8Q"}, {"parent": VF, "type": "A40-8Q"}])
    assert outcome.codes == ["gpu_off_bus"] and outcome.writes == 0 and host.vgpus() == []
