# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests nvidia_vgpu on a fake host."""

from __future__ import annotations

import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, FakeModel, SMALL_A40, T4

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
TWO = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


def test_two_vgpus_on_a_gpu(host):
    check = call(nvidia_vgpu, host, check=True, layout=TWO).ok
    assert check.writes == 0 and check["changed"]
    real = call(nvidia_vgpu, host, layout=TWO).ok
    assert real["actions"] == check["actions"] and real["diff"] == check["diff"] and real["vgpus"] == check["vgpus"]
    assert [(one["vf"], one["vf_index"], one["type"]) for one in real["vgpus"]] == [
        ("0000:e8:00.4", 0, "A40-24Q"),
        ("0000:e8:00.5", 1, "A40-24Q"),
    ]
    assert sorted((one["uuid"], one["vf"], one["type"]) for one in real["vgpus"]) == host.vgpus()
    again = call(nvidia_vgpu, host, layout=TWO).ok
    assert not again["changed"] and again["actions"] == [] and again.writes == 0
    assert again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"]


def test_the_store_holds_the_layout(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    content = json.loads(host.get(layout_file.PATH))
    assert content["version"] == 1
    (gpu,) = content["gpus"]
    assert gpu["address"] == "0000:e8:00.0" and gpu["vfs"] == 32
    assert sorted((one["uuid"], one["parent"], one["type"]) for one in gpu["vgpus"]) == host.vgpus()


def test_nothing_is_stored_without_persist(host):
    call(nvidia_vgpu, host, layout=TWO, persist=False).ok
    assert host.get(layout_file.PATH) is None and len(host.vgpus()) == 2


def test_all_errors_are_reported_at_once_before_any_write(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40), ("0000:e9:00.0", A40)]).vfs_on()
    layout = [
        {"gpu": "0000:e7:00.0", "vgpus": [{"type": "A40-24Q", "count": 3}]},
        {"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-24Q"}, {"type": "A40-4Q"}]},
        {"gpu": "0000:e9:00.0", "vgpus": [{"type": "A40-24X"}, {"type": "A40-1Q", "uuid": "nonsense"}]},
        {"gpu": "0000:99:00.0", "vgpus": []},
    ]
    outcome = call(nvidia_vgpu, host, layout=layout)
    assert outcome.writes == 0
    assert sorted(outcome.codes) == ["bad_uuid", "too_many", "two_sizes", "unknown_gpu", "unknown_type"]
    assert outcome.msg.startswith("5 problems:")
    for word in ("0000:e7:00.0", "at most 2", "max_instance of A40-24Q is 2", "0000:e8:00.0", "A40-24X", "A40-24Q", "'nonsense'", "0000:99:00.0"):
        assert word in outcome.msg


def test_surplus_goes_and_what_matches_stays(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    first = call(nvidia_vgpu, host, layout=TWO).ok["vgpus"]
    one = [{"gpu": "A40", "vgpus": [{"type": "nvidia-565"}]}]
    host.kernel.use(first[1]["uuid"])
    after = call(nvidia_vgpu, host, layout=one).ok
    assert [vgpu["uuid"] for vgpu in after["vgpus"]] == [first[1]["uuid"]], "the vGPU in use must stay"
    assert host.kernel.harm == []


def test_what_is_in_use_is_not_removed_and_the_user_is_named(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    before = host.vgpus()
    host.kernel.use(before[0][0])
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}])
    assert outcome.codes == ["in_use"] and outcome.writes == 0
    assert "VM web1, pid 4711 (qemu-system-x86)" in outcome.msg and "force_remove" in outcome.msg
    assert host.vgpus() == before


def test_a_vgpu_taken_between_plan_and_removal_stays(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    before = host.vgpus()
    real_write = host.sysfs.write

    def write(path, value, timeout):
        if path.endswith("/remove"):
            host.kernel.use(before[1][0] if before[0][0] in path else before[0][0])
        real_write(path, value, timeout)

    host.sysfs.write = write
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}])
    assert outcome.codes == ["in_use"] and len(host.vgpus()) == 1 and host.kernel.harm == []
    assert len(outcome["not_done"]) == 1


def test_foreign_vgpus_of_unlisted_gpus_stay_with_a_warning(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    host.add("0000:e7:00.4", "A40-8Q", UUID)
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-48Q"}]}]).ok
    assert UUID in [uuid for uuid, dummy, dummy2 in host.vgpus()]
    (warning,) = outcome.warnings
    assert "0000:e7:00.4" in warning and UUID in warning and "remains" in warning


def test_own_vgpus_of_a_gpu_that_left_the_layout_go(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=TWO).ok
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "0000:e8:00.0", "vgpus": TWO[0]["vgpus"]}]).ok
    assert {parent[:10] for dummy, parent, dummy2 in host.vgpus()} == {"0000:e8:00"}
    assert len([text for text in outcome["actions"] if "remove" in text]) == 2
    assert not call(nvidia_vgpu, host, layout=[{"gpu": "0000:e8:00.0", "vgpus": TWO[0]["vgpus"]}]).ok["changed"]


def test_the_narrowest_selector_counts(make_host):
    host = make_host(gpus=[("0000:e6:00.0", A40), ("0000:e7:00.0", A40), ("0000:3b:00.0", T4)]).vfs_on()
    layout = [
        {"gpu": "all", "vgpus": [{"type": "T4-8Q"}]},
        {"gpu": "A40", "vgpus": [{"type": "A40-8Q"}]},
        {"gpu": ["e7:00.0"], "vgpus": [{"type": "A40-48Q"}]},
    ]
    call(nvidia_vgpu, host, layout=layout).ok
    assert sorted((parent[:7], name) for dummy, parent, name in host.vgpus()) == [
        ("0000:3b", "T4-8Q"),
        ("0000:e6", "A40-8Q"),
        ("0000:e7", "A40-48Q"),
    ]
    assert not call(nvidia_vgpu, host, layout=layout).ok["changed"]


def test_check_on_a_bare_host_predicts_the_later_run(make_host):
    bare = make_host(gpus=[("0000:e8:00.0", A40)], driver=None)
    bare.kernel.loaded.clear()
    bare.on_disk = None
    bare.kernel.iommu_on = False
    check = call(nvidia_vgpu, bare, check=True, layout=TWO, check_mode_assume=["driver", "iommu", "vfs"]).ok
    real = call(nvidia_vgpu, make_host().vfs_on(), layout=TWO).ok
    assert check["vgpus"] == real["vgpus"] and check["actions"] == real["actions"] and check["diff"] == real["diff"]


def test_check_on_a_bare_host_without_assume_reports_what_is_missing(make_host):
    outcome = call(nvidia_vgpu, make_host(), check=True, layout=TWO)
    assert outcome.codes == ["vfs_off"] and "32 VFs" in outcome.msg and "nvidia_sriov" in outcome.msg


def test_assume_counts_in_check_mode_only(make_host):
    host = make_host()
    assert call(nvidia_vgpu, host, layout=TWO, check_mode_assume=["driver", "iommu", "vfs"]).codes == ["vfs_off"]
    assert host.writes == []


def test_predicted_types_are_checked_too(make_host):
    outcome = call(nvidia_vgpu, make_host(), check=True, check_mode_assume=["vfs"], layout=[{"gpu": "all", "vgpus": [{"type": "A40-24"}]}])
    assert outcome.codes == ["unknown_type"] and "A40-4Q" in outcome.msg
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 3}]}]
    outcome = call(nvidia_vgpu, make_host(), check=True, check_mode_assume=["vfs"], layout=layout).ok
    assert len(outcome["vgpus"]) == 3 and "3 vGPUs of A40-24Q" in outcome.warnings[0] and "at most 2" in outcome.warnings[0]
    assert call(nvidia_vgpu, make_host().vfs_on(), layout=layout).codes == ["too_many"]
    layout[0]["vgpus"][0] = {"type": "A40-1Q", "count": 33}
    assert call(nvidia_vgpu, make_host(), check=True, check_mode_assume=["vfs"], layout=layout).codes == ["too_many"], "the kernel reports only 32 VFs"


def test_too_many_of_several_types_names_all_of_them(make_host):
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}, {"type": "A40-24A"}]}]
    outcome = call(nvidia_vgpu, make_host().vfs_on(), layout=layout)
    assert outcome.codes == ["too_many"] and "3 vGPUs of A40-24Q and A40-24A are requested" in outcome.msg


def test_a_type_that_the_table_does_not_expect_is_a_warning_before_the_driver_is_there(make_host):
    layout = [{"gpu": "all", "vgpus": [{"type": "L40-4Q"}]}]
    outcome = call(nvidia_vgpu, make_host(), check=True, check_mode_assume=["vfs"], layout=layout)
    assert [one["type"] for one in outcome.ok["vgpus"]] == ["L40-4Q"]
    assert "L40-4Q is unknown for this GPU (A40" in outcome.warnings[0] and "A40-4Q" in outcome.warnings[0]
    assert call(nvidia_vgpu, make_host().vfs_on(), layout=layout).codes == ["unknown_type"]


@pytest.mark.parametrize(
    "device, subsystem, type_name",
    [
        ("0x1db1", "0x1212", "V100X-16Q"), ("0x1db6", "0x124a", "V100D-8Q"), ("0x1db5", "0x1249", "V100DX-8Q"), ("0x15f9", "0x116b", "P100X-4Q"),
        ("0x15f7", "0x11da", "P100C-4Q"), ("0x1e78", "0x13d9", "RTX6000P-4Q"), ("0x1e78", "0x13d8", "RTX8000P-48Q"),
        ("0x1eb8", "0x12a2", "T4-2B4"), ("0x13f2", "0x115e", "M60-0Q"), ("0x2321", "0x1839", "H100L-47C"), ("0x232c", "0x2063", "H20X-70C"),
    ],
)
def test_types_of_every_board_are_taken_before_the_driver_is_there(make_host, device, subsystem, type_name):
    vfs = 0 if device < "0x2000" else 32
    model = FakeModel(device, "unused", 16, vfs, [], subsystem=subsystem)
    host = make_host(gpus=[("0000:e8:00.0", model)], driver=None)
    host.kernel.loaded.clear()
    host.on_disk = None
    layout = [{"gpu": "all", "vgpus": [{"type": type_name, "count": 1 if type_name.endswith(("16Q", "48Q")) else 2}]}]
    outcome = call(nvidia_vgpu, host, check=True, layout=layout, check_mode_assume=["driver", "iommu", "vfs"])
    assert {one["type"] for one in outcome.ok["vgpus"]} == {type_name} and not outcome.warnings


def test_types_that_come_late_are_waited_for(make_host):
    host = make_host()
    host.faults.types_delay = 20
    host.vfs_on()
    assert len(call(nvidia_vgpu, host, layout=TWO).ok["vgpus"]) == 2


def test_types_that_never_appear_are_reported(make_host):
    host = make_host()
    host.faults.types_delay = 1000
    host.vfs_on()
    outcome = call(nvidia_vgpu, host, layout=TWO)
    assert outcome.codes == ["no_types"] and "nvidia-vgpud" in outcome.msg and outcome.writes == 0


def test_vfs_on_vfio_pci_with_types_are_used(make_host):
    host = make_host(mdevctl=True)
    host.faults.vf_driver = host.faults.vf_prefix = "vfio-pci"
    host.vfs_on()
    call(nvidia_vgpu, host, layout=TWO).ok
    uuid, parent, dummy = host.vgpus()[0]
    assert json.loads(host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid)))["mdev_type"] == "vfio-pci-565"
    assert not call(nvidia_vgpu, host, layout=TWO).ok["changed"]


def test_a_vgpu_that_vanishes_is_reported(host):
    host.faults.vanish_after = 0.5
    outcome = call(nvidia_vgpu, host, layout=TWO)
    assert outcome.codes == ["vanished"] and "cloud agent" in outcome.msg and "0000:e8:00.4" in outcome.msg
    assert len(outcome["not_done"]) == 1 and outcome["changed"] and "create" in outcome["not_done"][0]
    uuids = [uuid for uuid, dummy, dummy2 in host.vgpus()]
    call(nvidia_vgpu, host, layout=TWO).ok
    assert len(host.vgpus()) == 2 and set(uuids) < {uuid for uuid, dummy, dummy2 in host.vgpus()}


def test_errors_are_in_the_order_of_the_gpus_whichever_is_noticed_first(make_host):
    """The vGPU of the first GPU vanishes shortly after its creation. By that time, the creation on the second GPU has already failed."""
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    host.faults.vanish_after = 0.5
    real = host.kernel._create_mdev

    def create(*args):
        real(*args)
        host.faults.create_errno = [5]

    host.kernel._create_mdev = create
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 1}]}])
    assert outcome.codes == ["vanished", "create_failed"]
    assert [text.partition(": create")[0] for text in outcome["not_done"]] == ["0000:e7:00.4", "0000:e8:00.4"]


def test_a_create_that_fails_stops_that_gpu_only(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    host.faults.create_errno = [5]
    outcome = call(nvidia_vgpu, host, layout=TWO)
    assert outcome.codes == ["create_failed"] and "0000:e7:00.4" in outcome.msg and "EIO" in outcome.msg and "dmesg" in outcome.msg
    assert len(outcome["not_done"]) == 2 and len(outcome["actions"]) == 3
    assert [parent for dummy, parent, dummy2 in host.vgpus()] and all("e8" in parent for dummy, parent, dummy2 in host.vgpus())
    call(nvidia_vgpu, host, layout=TWO).ok
    assert len(host.vgpus()) == 4


def test_a_create_that_lies_is_found_out(host):
    host.faults.create_lies = 1
    outcome = call(nvidia_vgpu, host, layout=TWO)
    assert outcome.codes == ["create_lied"] and "the vGPU does not exist" in outcome.msg and host.vgpus() == []


def test_a_vf_that_lingers_after_its_vm_is_waited_for(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    host.faults.remove_linger = 9
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-48Q"}]}]).ok
    assert [one["type"] for one in outcome["vgpus"]] == ["A40-48Q"] == [name for dummy, dummy2, name in host.vgpus()]


def test_a_removal_that_takes_too_long_is_reported(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    host.faults.remove_linger = 500
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}])
    assert "remove_failed" in outcome.codes and "60 s" in outcome.msg


def test_given_uuids_are_used_and_kept(host):
    layout = [{"gpu": "e8:00.0", "vgpus": [{"type": "A40-24A", "uuid": UUID.upper()}, {"type": "A40-24A"}]}]
    outcome = call(nvidia_vgpu, host, layout=layout).ok
    assert UUID in [one["uuid"] for one in outcome["vgpus"]] and len(host.vgpus()) == 2
    assert not call(nvidia_vgpu, host, layout=layout).ok["changed"]


def test_a_uuid_that_exists_elsewhere_is_refused(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    host.add("0000:e7:00.4", "A40-8Q", UUID)
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "e8:00.0", "vgpus": [{"type": "A40-8Q", "uuid": UUID}]}])
    assert outcome.codes == ["uuid_elsewhere"] and "0000:e7:00.4" in outcome.msg and outcome.writes == 0


def test_a_forced_removal_of_a_vgpu_whose_user_lets_go(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    victim = host.vgpus()[0][0]
    host.kernel.use(victim)
    host.kernel.forced.add(victim)
    host.clock.after(15, host.kernel.processes.clear)
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}], force_remove=[victim.upper()]).ok
    assert host.vgpus() == []


def test_a_forced_removal_whose_user_stays_is_reported(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    victim = host.vgpus()[0][0]
    host.kernel.use(victim)
    host.kernel.forced.add(victim)
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}], force_remove=[victim], timeout=3)
    assert outcome.codes == ["remove_pending"] and victim in outcome.msg and host.kernel.harm == []


def test_definitions_of_mdevctl_follow(make_host):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=TWO).ok
    for uuid, parent, dummy in host.vgpus():
        assert json.loads(host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid))) == {"mdev_type": "nvidia-565", "start": "manual", "attrs": []}
    uuid, parent, dummy = host.vgpus()[0]
    host.put("/etc/mdevctl.d/%s/%s" % (parent, uuid), '{"mdev_type": "nvidia-565", "start": "auto"}')
    again = call(nvidia_vgpu, host, layout=TWO).ok
    assert len(again["actions"]) == 2 and "undefine" in again["actions"][0] and "define" in again["actions"][1]
    assert json.loads(host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid)))["start"] == "manual"
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}]).ok
    assert host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid)) is None


def test_mdevctl_that_is_requested_but_missing(host):
    assert call(nvidia_vgpu, host, layout=TWO, mdevctl="true").codes == ["mdevctl_missing"]


def test_mdevctl_is_left_alone_on_request(make_host):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=TWO, mdevctl="false").ok
    assert not [argv for argv in host.calls if "mdevctl" in argv[0]]


def test_a_broken_store_is_reported(host):
    host.put(layout_file.PATH, '{"version": 7}')
    outcome = call(nvidia_vgpu, host, layout=TWO)
    assert outcome.codes == ["bad_store"] and layout_file.PATH in outcome.msg and "version 7" in outcome.msg


def test_a_layout_without_gpus_changes_nothing(make_host):
    host = make_host(gpus=[("0000:e8:00.0", SMALL_A40)]).vfs_on()
    outcome = call(nvidia_vgpu, host, layout=[], persist=False).ok
    assert outcome["vgpus"] == [] and not outcome["changed"]
