# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests layouts on vendor-specific VFIO, and mixed sizes and vgpu_params on each framework."""

from __future__ import annotations

import errno
import json

from unittest import mock

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import nvidia_smi
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_mdev, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, H100, L40S, RTXPRO6000, T4

PF = "0000:e8:00.0"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
TWO = [{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "count": 2}]}]
EMPTY = [{"gpu": "all", "vgpus": []}]


@pytest.fixture
def host(make_host):
    """Returns a host with one L40S whose VFs are enabled."""
    return make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()


def restored(host):
    """Runs the restore like a boot does, and returns the report."""
    return restore.restore(host.ctx, 60, 0.5, lambda words: None)


@pytest.mark.parametrize("short_list", [False, True])
def test_two_vgpus_are_created_kept_and_removed(host, short_list):
    host.kernel.short_list = short_list
    check = call(nvidia_vgpu, host, check=True, layout=TWO).ok
    assert check.writes == 0 and check["changed"]
    real = call(nvidia_vgpu, host, layout=TWO).ok
    assert real["actions"] == check["actions"] and real["diff"] == check["diff"] and real["vgpus"] == check["vgpus"]
    assert [(one["vf"], one["uuid"], one["type"]) for one in real["vgpus"]] == [
        ("0000:e8:00.4", None, "L40S-24Q"),
        ("0000:e8:00.5", None, "L40S-24Q"),
    ]
    assert "0000:e8:00.4: create L40S-24Q" in real["actions"] and real["diff"]["after"] == "0000:e8:00.4 L40S-24Q\n0000:e8:00.5 L40S-24Q\n"
    assert [(parent, name) for dummy, parent, name in host.vgpus()] == [("0000:e8:00.4", "L40S-24Q"), ("0000:e8:00.5", "L40S-24Q")]
    again = call(nvidia_vgpu, host, layout=TWO).ok
    assert not again["changed"] and again.writes == 0 and again["vgpus"] == real["vgpus"]
    gone = call(nvidia_vgpu, host, layout=EMPTY).ok
    assert "0000:e8:00.4: remove L40S-24Q" in gone["actions"] and host.vgpus() == [] and host.kernel.harm == []
    assert not call(nvidia_vgpu, host, layout=EMPTY).ok["changed"]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_full_gpu_while_nvidia_smi_is_silent(host, hangs):
    """No VF lists a type, and nvidia-smi does not respond.

    Existing vGPUs must stay, and no error may claim that the GPU does not offer the requested type.
    """
    call(nvidia_vgpu, host, layout=TWO).ok
    host.kernel.faults.no_smi_types = True
    host.ctx.smi_silent = "nvidia-smi did not exit within 60 s and was stopped" if hangs else None
    assert not call(nvidia_vgpu, host, layout=TWO).ok["changed"]
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-12Q", "count": 4}]}])
    assert outcome.codes == ["types_unknown"] and outcome.writes == 0 and "nvidia-smi" in outcome.msg
    assert ("did not exit within" in outcome.msg) is hangs
    host.kernel.faults.no_smi_types, host.ctx.smi_silent = False, None
    assert call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-12Q", "count": 4}]}]).ok["changed"]


def test_a_full_gpu_changes_its_type_by_way_of_none(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    other = [{"gpu": "all", "vgpus": [{"type": "L40S-12Q", "count": 4}]}]
    call(nvidia_vgpu, host, layout=other).ok
    assert [name for dummy, dummy2, name in host.vgpus()] == ["L40S-12Q"] * 4 and host.kernel.harm == []
    written = [value for path, value in host.writes if path.endswith("0000:e8:00.4/nvidia/current_vgpu_type")]
    assert written == ["1153", "0", "1151"]
    assert not call(nvidia_vgpu, host, layout=other).ok["changed"]


def test_no_definitions_are_written(make_host):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True, mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=TWO).ok
    assert not [argv for argv in host.calls if "mdevctl" in argv[0]]


@pytest.mark.parametrize("cdevs", [False, True])
def test_what_is_in_use_is_neither_removed_nor_changed(host, cdevs):
    host.kernel.cdevs = cdevs
    call(nvidia_vgpu, host, layout=TWO).ok
    host.kernel.use("0000:e8:00.5")
    outcome = call(nvidia_vgpu, host, layout=EMPTY)
    assert outcome.codes == ["in_use"] and "0000:e8:00.5" in outcome.msg and "VM web1" in outcome.msg and outcome.writes == 0
    one = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}]).ok
    assert [vgpu["vf"] for vgpu in one["vgpus"]] == ["0000:e8:00.5"] and host.kernel.harm == []


def test_an_eperm_of_a_race_is_a_sentence(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    used = host.kernel.used
    host.kernel.used = lambda mdev: True
    with mock.patch.object(nvidia_smi, "active", lambda ctx, pf: ([], None)):  # nvidia-smi listed no vGPU while the module planned
        outcome = call(nvidia_vgpu, host, layout=EMPTY)
    assert outcome.codes == ["in_use"] and "EPERM" in outcome.msg and "Stop the VM" in outcome.msg
    host.kernel.used = used


def test_a_forced_removal_waits_for_the_user(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    host.kernel.use("0000:e8:00.4")
    host.clock.after(10, host.kernel.processes.clear)
    call(nvidia_vgpu, host, layout=EMPTY, force_remove=["e8:00.4"]).ok
    assert host.vgpus() == []
    call(nvidia_vgpu, host, layout=TWO).ok
    host.kernel.use("0000:e8:00.4")
    assert call(nvidia_vgpu, host, layout=EMPTY, force_remove=["e8:00.4"], timeout=3).codes == ["remove_pending"]


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.EPERM, "a VM uses the VF"),
        (errno.EIO, "0x38"),
        (errno.ENXIO, "Disable and enable the VFs"),
        (errno.ENOSPC, "The GPU is full"),
        (errno.EINVAL, "creatable_vgpu_types"),
    ],
)
def test_errors_of_a_create_are_sentences_with_a_remedy(host, number, words):
    host.faults.create_errno = [number]
    outcome = call(nvidia_vgpu, host, layout=TWO)
    assert outcome.codes == ["create_failed"] and words in outcome.msg and errno.errorcode[number] in outcome.msg and "0000:e8:00.4" in outcome.msg
    assert not call(nvidia_vgpu, host, layout=TWO).failed and len(host.vgpus()) == 2


def test_a_create_that_lies_and_one_that_vanishes(host):
    host.faults.create_lies = 1
    assert call(nvidia_vgpu, host, layout=TWO).codes == ["create_lied"]
    host.faults.vanish_after = 0.5
    assert call(nvidia_vgpu, host, layout=TWO).codes == ["vanished"]
    call(nvidia_vgpu, host, layout=TWO).ok
    assert len(host.vgpus()) == 2


def test_uuids_are_refused_with_a_reason(host):
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "uuid": UUID}]}])
    assert outcome.codes == ["uuid_not_here"] and "VF" in outcome.msg and "Remove uuid" in outcome.msg and outcome.writes == 0


def test_check_on_a_bare_host_predicts_the_later_run(make_host):
    bare = make_host(gpus=[(PF, L40S)], driver=None, vendor_vfio=True)
    bare.kernel.loaded.clear()
    bare.on_disk = None
    check = call(nvidia_vgpu, bare, check=True, layout=TWO, check_mode_assume=["driver", "iommu", "vfs"]).ok
    real = call(nvidia_vgpu, make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on(), layout=TWO).ok
    assert check["vgpus"] == real["vgpus"] and check["actions"] == real["actions"] and check["diff"] == real["diff"]


def test_types_that_come_late_are_waited_for(make_host):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True)
    host.faults.types_delay = 20
    host.vfs_on()
    call(nvidia_vgpu, host, layout=TWO).ok
    assert len(host.vgpus()) == 2


def test_names_come_from_siblings_then_nvidia_smi_then_the_store(host):
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}]).ok
    host.faults.no_smi_types = True
    (gpu,) = inventory.read(host.ctx).gpus
    assert [one.type for one in gpu.vgpus] == ["L40S-24Q"], "a free VF must list types of that size"
    host.faults.no_smi_types = False
    call(nvidia_vgpu, host, layout=TWO).ok
    host.put(layout_file.PATH, "")
    names = {one.parent: one.type for one in inventory.read(host.ctx).gpus[0].vgpus}
    assert names["0000:e8:00.4"] == "L40S-24Q", "the GPU is full, but nvidia-smi shows the name"
    host.faults.no_smi_types = True
    assert {one.type for one in inventory.read(host.ctx).gpus[0].vgpus} == {"type 1153"}
    host.put(layout_file.PATH, layout_file.dumps([layout_file.StoredGpu(PF, 32, [layout_file.StoredVgpu(None, "0000:e8:00.4", 0, "L40S-24Q")])]))
    names = {one.parent: one.type for one in inventory.read(host.ctx).gpus[0].vgpus}
    assert names["0000:e8:00.4"] == "L40S-24Q"


def test_everything_is_restored_after_a_reboot(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    goal = host.vgpus()
    content = json.loads(host.get(layout_file.PATH))
    assert [one["uuid"] for one in content["gpus"][0]["vgpus"]] == [None, None]
    host.reboot()
    assert host.vgpus() == []
    report = restored(host)
    assert report.errors == [] and host.vgpus() == goal
    assert restored(host).done == [] and not call(nvidia_vgpu, host, layout=TWO).ok["changed"]


def test_the_restore_leaves_what_others_put_on_its_vf(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    host.reboot()
    host.vfs_on()
    host.add("0000:e8:00.4", "L40S-48Q", None)
    report = restored(host)
    assert report.errors and host.vgpus() == [("0000:e8:00.4", "0000:e8:00.4", "L40S-48Q")]


def test_vfs_are_not_disabled_under_a_vgpu(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    outcome = call(nvidia_sriov, host, state="disabled")
    assert outcome.codes == ["has_vgpus", "has_vgpus"] and "0000:e8:00.4" in outcome.msg


def test_nvidia_mdev_points_to_the_other_module(host):
    outcome = call(nvidia_mdev, host, parent="e8:00.4", type="L40S-24Q")
    assert outcome.codes == ["vendor_vfio"] and "nvidia_vgpu" in outcome.msg and outcome.msg.count("\n") == 0


def test_status_shows_the_vf_and_the_type(monkeypatch, capsys, host):
    call(nvidia_vgpu, host, layout=TWO).ok
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    assert cli.main(["status"]) == 2, "no unit restores the layout at boot"
    out = capsys.readouterr().out
    assert "framework vendor_vfio" in out and "0000:e8:00.4  L40S-24Q" in out and "None" not in out


def test_a_first_vf_at_offset_2_and_a_long_name(make_host):
    host = make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=True).vfs_on()
    done = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "NVIDIA RTX Pro 6000 Blackwell DC-24Q", "count": 2}]}]).ok
    assert [one["vf"] for one in done["vgpus"]] == ["0000:e8:00.2", "0000:e8:00.3"]
    assert not call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "DC-24Q", "count": 2}]}]).ok["changed"]


def test_foreign_vgpus_of_unlisted_gpus_stay(make_host):
    host = make_host(gpus=[("0000:e7:00.0", L40S), (PF, L40S)], vendor_vfio=True).vfs_on()
    host.add("0000:e7:00.4", "L40S-24Q", None)
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": PF, "vgpus": [{"type": "L40S-48Q"}]}]).ok
    assert len(host.vgpus()) == 2 and "0000:e7:00.4" in outcome.warnings[0]
    call(nvidia_vgpu, host, layout=[]).ok
    assert host.vgpus() == [("0000:e7:00.4", "0000:e7:00.4", "L40S-24Q")]


def test_a_t4_beside_it_stays_on_mdev(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4), (PF, L40S)], vendor_vfio=True).vfs_on()
    layout = [{"gpu": "T4", "vgpus": [{"type": "T4-4Q", "count": 3}]}, {"gpu": "L40S", "vgpus": [{"type": "L40S-24Q"}]}]
    done = call(nvidia_vgpu, host, layout=layout).ok
    assert [bool(one["uuid"]) for one in done["vgpus"]] == [True, True, True, False] and len(host.vgpus()) == 4
    goal = host.vgpus()
    assert not call(nvidia_vgpu, host, layout=layout).ok["changed"]
    host.reboot()
    assert restored(host).errors == [] and host.vgpus() == goal


# --- mixed sizes


MIXED = [{"gpu": "all", "mixed_sizes": True, "vgpus": [{"type": "%s-8Q"}, {"type": "%s-24Q"}, {"type": "%s-12Q"}]}]


def mixed(word, on=True):
    """Returns a layout with vGPUs of 24, 12, and 8 GiB on one GPU."""
    return [{"gpu": "all", "mixed_sizes": on, "vgpus": [{"type": one["type"] % word} for one in MIXED[0]["vgpus"]]}]


@pytest.mark.parametrize("model, vendor", [(A40, False), (L40S, True)])
def test_mixed_sizes_on_one_gpu(make_host, model, vendor):
    host = make_host(gpus=[(PF, model)], vendor_vfio=vendor).vfs_on()
    word = "L40S" if vendor else "A40"
    off = call(nvidia_vgpu, host, layout=mixed(word, False))
    assert off.codes == ["two_sizes"] and "mixed_sizes: true" in off.msg and off.writes == 0
    check = call(nvidia_vgpu, host, check=True, layout=mixed(word)).ok
    real = call(nvidia_vgpu, host, layout=mixed(word)).ok
    assert check["actions"] == real["actions"] and PF + ": enable mixed-size mode" in real["actions"]
    assert check["diff"] == real["diff"] and PF + " mixed sizes\n" in real["diff"]["after"] and "mixed" not in real["diff"]["before"]
    created = [text for text in real["actions"] if "create" in text]
    assert ["24Q" in created[0], "12Q" in created[1], "8Q" in created[2]] == [True] * 3, "larger vGPUs must be created first"
    assert not call(nvidia_vgpu, host, layout=mixed(word)).ok["changed"]
    goal = host.vgpus()
    assert json.loads(host.get(layout_file.PATH))["gpus"][0]["mixed_sizes"] is True
    host.reboot()
    assert restored(host).errors == [] and host.vgpus() == goal and host.pf().mixed
    assert not call(nvidia_vgpu, host, layout=mixed(word)).ok["changed"]


def test_mixed_sizes_are_enabled_over_unused_vgpus_only(host):
    call(nvidia_vgpu, host, layout=TWO).ok
    host.kernel.use("0000:e8:00.4")
    outcome = call(nvidia_vgpu, host, layout=mixed("L40S"))
    assert outcome.codes and set(outcome.codes) == {"in_use"} and outcome.writes == 0
    host.kernel.processes.clear()
    call(nvidia_vgpu, host, layout=mixed("L40S")).ok
    assert sorted(name for dummy, dummy2, name in host.vgpus()) == ["L40S-12Q", "L40S-24Q", "L40S-8Q"]
    call(nvidia_vgpu, host, layout=EMPTY).ok
    call(nvidia_vgpu, host, layout=TWO).ok
    assert not call(nvidia_vgpu, host, layout=TWO).ok["changed"]


def test_more_than_the_framebuffer_is_refused_in_mixed_sizes_too(host):
    layout = [{"gpu": "all", "mixed_sizes": True, "vgpus": [{"type": "L40S-24Q", "count": 2}, {"type": "L40S-8Q"}]}]
    outcome = call(nvidia_vgpu, host, layout=layout)
    assert outcome.codes == ["too_many"] and "49152 MiB" in outcome.msg and outcome.writes == 0


def test_a_gpu_without_mixed_sizes_is_reported(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4)])
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "mixed_sizes": True, "vgpus": [{"type": "T4-4Q"}]}])
    assert outcome.codes == ["mixed_unsupported"] and "nvidia-smi -q" in outcome.msg


# --- vgpu_params


@pytest.mark.parametrize("model, vendor", [(A40, False), (L40S, True)])
def test_vgpu_params_are_set_kept_changed_and_cleared(make_host, model, vendor):
    host = make_host(gpus=[(PF, model)], vendor_vfio=vendor).vfs_on()

    def layout(params):
        first = {"type": "L40S-24Q" if vendor else "A40-24Q"}
        return [{"gpu": "all", "vgpus": [dict(first, **({"vgpu_params": params} if params is not None else {})), first]}]

    def present():
        return sorted(one.params for one in host.kernel.mdevs.values())

    real = call(nvidia_vgpu, host, layout=layout("frame_rate_limiter=0, disable_vnc=1")).ok
    assert real["diff"]["after"].count(" frame_rate_limiter=0,disable_vnc=1\n") == 1
    assert present() == ["", "frame_rate_limiter=0,disable_vnc=1"] and len([text for text in real["actions"] if "vgpu_params" in text]) == 1
    assert not call(nvidia_vgpu, host, layout=layout("frame_rate_limiter=0,disable_vnc=1")).ok["changed"]
    goal = host.vgpus()
    host.reboot()
    assert restored(host).errors == [] and host.vgpus() == goal and present() == ["", "frame_rate_limiter=0,disable_vnc=1"]
    assert len(call(nvidia_vgpu, host, layout=layout("enable_uvm=1")).ok["actions"]) == 2 and "enable_uvm=1" in present()
    for key in list(host.kernel.mdevs):
        host.kernel.use(key, pid=4000 + len(host.kernel.processes))
    assert call(nvidia_vgpu, host, layout=layout("enable_uvm=0")).codes == ["in_use"]
    host.kernel.processes.clear()
    call(nvidia_vgpu, host, layout=layout(None)).ok
    assert present() == ["", ""] and not call(nvidia_vgpu, host, layout=layout(None)).ok["changed"]
    assert host.vgpus() == goal


def test_a_driver_without_vgpu_params_is_reported(host):
    host.faults.params_unknown = True
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "vgpu_params": "x=1"}]}])
    assert outcome.codes == ["params_failed"] and "spelling" in outcome.msg


def test_types_of_a_time_sliced_gpu_with_mig_are_waited_for_too(make_host):
    host = make_host(gpus=[(PF, H100)], vendor_vfio=True)
    host.faults.types_delay = 30
    host.vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "H100-20C", "count": 4}]}]).ok
    assert len(host.vgpus()) == 4


def test_info_returns_whether_the_vfs_list_their_types(make_host):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True)
    host.faults.types_delay = 30
    host.vfs_on()
    (gpu,) = call(nvidia_gpu_info, host).ok["gpus"]
    assert gpu["framework"] == "vendor_vfio" and not gpu["types_ready"] and gpu["types"]
    host.clock.pause(31)
    assert call(nvidia_gpu_info, host).ok["gpus"][0]["types_ready"]
    call(nvidia_vgpu, host, layout=TWO).ok
    assert call(nvidia_gpu_info, host).ok["gpus"][0]["types_ready"], "a full GPU lists no types but is ready"
