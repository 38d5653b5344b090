# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests MIG mode, GPU instances, and MIG-backed vGPUs on fake hosts with each framework."""

from __future__ import annotations

import errno
import json
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.gpu import Gpu, GpuInstance, Mig, Vgpu
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.mig_profiles import Profile
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.mig import placement
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_mig, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A30, A40, A100, H100, RTXPRO6000, SMALL_A100, T4

PF = "0000:17:00.0"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


def one(*vgpus, **more):
    """Returns a layout for one GPU with vGPUs of the given types."""
    return [dict({"gpu": PF, "vgpus": [{"type": name} for name in vgpus]}, **more)]


def prepare(host, layout):
    """Prepares the host like the roles mig and sriov and returns the host."""
    call(nvidia_mig, host, layout=layout, cycle_vfs=True).ok
    call(nvidia_sriov, host).ok
    return host


def names(host):
    """Returns the profile names of all GPU instances, sorted."""
    return sorted(instance.profile.name for instance in host.pf(PF).instances)


def kinds(host):
    """Returns the types of all vGPUs, sorted."""
    return sorted(name for dummy, dummy2, name in host.vgpus())


def restored(host):
    """Runs the restore like a boot does, and returns the report."""
    return restore.restore(host.ctx, 60, 0.5, lambda words: None)


# --- the module


@pytest.mark.parametrize("model", [A100, H100])
def test_mode_vfs_instances_in_their_order(make_host, model):
    host = make_host(gpus=[(PF, model)])
    large, small = ("3g.20gb", "1g.5gb") if model is A100 else ("3g.40gb", "1g.10gb")
    check = call(nvidia_mig, host, check=True, mode="enabled").ok
    real = call(nvidia_mig, host, mode="enabled").ok
    assert check.writes == 0 and check["actions"] == real["actions"] == [PF + ": enable MIG mode"] and check["diff"] == real["diff"]
    assert real["diff"] == {"before": PF + " MIG off\n", "after": PF + " MIG on\n"} and host.pf().mig
    assert not call(nvidia_mig, host, mode="enabled").ok["changed"]
    early = call(nvidia_mig, host, instances=[small])
    assert early.codes == ["vfs_off"] and "nvidia_sriov" in early.msg and early.writes == 0
    call(nvidia_sriov, host).ok
    real = call(nvidia_mig, host, instances=[small, large, "MIG " + small.upper()]).ok
    assert real["actions"] == [PF + ": create the GPU instances %s, %s, %s" % (large, small, small)]
    assert names(host) == sorted([large, small, small]) and real["gpus"][0]["instances"] == sorted([large, small, small])
    assert not call(nvidia_mig, host, instances=[large, small, small]).ok["changed"]
    call(nvidia_mig, host, instances=[small]).ok
    assert names(host) == [small]
    call(nvidia_mig, host, instances=[]).ok
    assert names(host) == []


def test_mode_off_with_vfs_on_is_refused_with_what_would_work(make_host):
    host = make_host(gpus=[(PF, A100)])
    call(nvidia_mig, host, mode="enabled").ok
    call(nvidia_sriov, host).ok
    outcome = call(nvidia_mig, host, mode="disabled")
    assert outcome.codes == ["mig_vfs_on"] and "nvidia_sriov" in outcome.msg and "cycle_vfs" in outcome.msg and outcome.writes == 0
    done = call(nvidia_mig, host, mode="disabled", cycle_vfs=True).ok
    assert done["actions"] == [PF + ": disable 16 VFs", PF + ": disable MIG mode"] and not host.pf().mig and not host.pf().vfs


def test_a_card_without_mig_is_refused_by_name_and_left_out_of_all(make_host):
    host = make_host(gpus=[(PF, A100), ("0000:e8:00.0", A40)])
    outcome = call(nvidia_mig, host, gpus=["A40"], mode="enabled")
    assert outcome.codes == ["mig_unsupported"] and PF in outcome.msg and "A40-4Q" in outcome.msg and outcome.writes == 0
    done = call(nvidia_mig, host, mode="enabled").ok
    assert done["without_mig"] == [{"gpu": "0000:e8:00.0", "reason": "A40 does not support MIG"}] and [gpu["address"] for gpu in done["gpus"]] == [PF]


def test_a_gpu_in_use_is_never_reset(make_host):
    host = make_host(gpus=[(PF, A100)])
    host.kernel.add_process(9, "dcgm", ["nv-hostengine"], ["/dev/nvidia0"])
    outcome = call(nvidia_mig, host, mode="enabled")
    assert outcome.codes == ["in_use"] and "nv-hostengine" in outcome.msg and outcome.writes == 0
    host.kernel.processes.clear()
    host.kernel.add_process(9, "nvidia-persiste", ["/usr/bin/nvidia-persistenced"], ["/dev/nvidia0"])
    outcome = call(nvidia_mig, host, mode="enabled")
    assert outcome.codes == ["mig_pending"] and "nvidia-persistenced" in outcome.msg and "reboot" in outcome.msg and host.kernel.harm == []
    host.kernel.processes.clear()
    assert call(nvidia_mig, host, mode="enabled").ok["changed"] and host.pf().mig


@pytest.mark.parametrize(
    ("argv", "unreadable"),
    [(["/opt/train", "--log", "/var/log/nvidia-persistenced.log"], False), (["/usr/bin/nvidia-persistenced", "--user", "x"], True)],
)
def test_only_the_daemon_itself_counts_as_harmless(make_host, argv, unreadable):
    host = make_host(gpus=[(PF, A100)])
    host.kernel.add_process(9, "x", argv, ["/dev/nvidia0"])
    if unreadable:  # this case represents all states that cannot be read
        host.kernel.processes[9].unreadable = errno.EACCES
    outcome = call(nvidia_mig, host, mode="enabled")
    assert outcome.codes == ["in_use"] and outcome.writes == 0 and not host.pf().mig


def test_a_gpu_whose_number_is_not_known_has_all_users(make_host, monkeypatch):
    host = make_host(gpus=[(PF, A100)])
    real = inventory._read_proc
    monkeypatch.setattr(inventory, "_read_proc", lambda sysfs, gpu: (real(sysfs, gpu), setattr(gpu, "minor", None)))
    host.kernel.add_process(9, "python3", ["python3", "train.py"], ["/dev/nvidia0", "/dev/nvidiactl"])
    outcome = call(nvidia_mig, host, mode="enabled")
    assert outcome.codes == ["in_use"] and "train.py" in outcome.msg and outcome.writes == 0


def test_a_mode_that_waits_for_a_reboot_is_a_problem_and_comes_with_it(make_host):
    host = make_host(gpus=[(PF, A100)])
    host.faults.mig_reset_fails = True
    assert call(nvidia_mig, host, mode="enabled").codes == ["mig_pending"]
    (problem,) = [each for each in call(nvidia_gpu_info, host).ok["problems"] if each["code"] == "mig_pending"]
    assert "a change to enabled is pending" in problem["found"] and problem["severity"] == "warning"
    host.reboot()
    assert not call(nvidia_mig, host, mode="enabled").ok["changed"] and host.pf().mig


def test_no_answer_of_nvidia_smi_is_reported(make_host):
    host = make_host(gpus=[(PF, A100)])
    real = host.ctx.command

    def command(argv, timeout, env=None, keeps_lock=False):
        answer = real(argv, timeout, env)
        answer.rc = 127 if "nvidia-smi" in argv[0] else answer.rc
        return answer

    host.ctx.command = command
    assert call(nvidia_mig, host, mode="enabled").codes == ["mig_unknown"]


@pytest.mark.parametrize(
    "instances, code, words",
    [
        (["1g.99gb"], "mig_no_profile", "1g.5gb"),
        (["4g.20gb", "4g.20gb"], "mig_no_room", "4g.20gb"),
        (["7g.40gb", "1g.5gb"], "mig_no_room", "7 slices"),
        (["1g.5gb"] * 8, "mig_no_room", "1g.5gb"),
        (["3g.20gb", "3g.20gb", "1g.5gb"], "mig_no_room", "3g.20gb"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_write(make_host, instances, code, words):
    host = prepare(make_host(gpus=[(PF, A100)]), one("A100-1-5C"))
    before = len(host.writes)
    outcome = call(nvidia_mig, host, instances=instances)
    assert outcome.codes == [code] and words in outcome.msg and len(host.writes) == before


def test_placements_are_explicit_where_the_drivers_choice_would_block(make_host):
    host = prepare(make_host(gpus=[(PF, A100)]), one("A100-1-5C"))
    call(nvidia_mig, host, instances=["3g.20gb", "2g.10gb", "2g.10gb"]).ok
    assert sorted((each.profile.name, each.start) for each in host.pf().instances) == [("2g.10gb", 0), ("2g.10gb", 2), ("3g.20gb", 4)]
    assert [argv for argv in host.calls if "-cgi" in argv][-1][-2:] == ["9:4,14:0,14:2", "-C"]


def test_instances_beside_what_is_there(make_host):
    host = prepare(make_host(gpus=[(PF, A100)]), one("A100-1-5C"))
    call(nvidia_mig, host, instances=["3g.20gb"]).ok
    call(nvidia_mig, host, instances=["3g.20gb", "3g.20gb"]).ok
    assert names(host) == ["3g.20gb", "3g.20gb"]
    host.faults.mig_create_fails = 1
    outcome = call(nvidia_mig, host, instances=["1g.5gb", "1g.5gb", "1g.5gb"])
    assert outcome.codes == ["mig_create_failed"] and "Insufficient Resources" in outcome.msg and "1 of the 3" in outcome.msg
    call(nvidia_mig, host, instances=["1g.5gb", "1g.5gb", "1g.5gb"]).ok
    assert names(host) == ["1g.5gb"] * 3


def test_an_instance_that_may_hold_an_idle_device_is_returned(make_host):
    host = prepare(make_host(gpus=[(PF, A100)]), one("A100-1-5C"))
    call(nvidia_vgpu, host, layout=one("A100-1-5C")).ok
    for check in (True, False):
        outcome = call(nvidia_mig, host, check=check, instances=[]).ok
        assert outcome["gpus"][0]["instances"] == names(host) == ["1g.5gb"] and not outcome["changed"]


def test_a_gpu_instance_without_compute_instance_gets_one(make_host):
    host = prepare(make_host(gpus=[(PF, A100)]), one("A100-1-5C"))
    call(nvidia_mig, host, instances=["3g.20gb"]).ok
    host.pf().instances[0].compute = []
    assert call(nvidia_mig, host, instances=["3g.20gb"]).ok["actions"] == [PF + ": create the compute instance of GPU instance 1 (3g.20gb)"]
    assert not call(nvidia_mig, host, instances=["3g.20gb"]).ok["changed"]


def test_a_bare_host_is_planned(make_host):
    bare = make_host(gpus=[(PF, A100)], driver=None)
    bare.kernel.loaded.clear()
    bare.on_disk = None
    layout = one("A100-1-5C", "A100-1-5C")
    assert call(nvidia_mig, bare, check=True, layout=layout).codes == ["driver_missing"]
    assert call(nvidia_mig, bare, check=True, layout=layout, check_mode_assume=["driver"]).ok["actions"] == [PF + ": enable MIG mode"]
    planned = call(nvidia_vgpu, bare, check=True, layout=layout, check_mode_assume=["driver", "iommu", "vfs", "mig"]).ok
    assert PF + ": create the GPU instances 1g.5gb, 1g.5gb" in planned["actions"] and len(planned["vgpus"]) == 2
    many = [{"gpu": PF, "vgpus": [{"type": "A100-1-5C", "count": 8}]}]
    outcome = call(nvidia_vgpu, bare, check=True, layout=many, check_mode_assume=["driver", "iommu", "vfs", "mig"]).ok
    assert len(outcome["vgpus"]) == 8 and len(outcome.warnings) == 1, "the collection's own table must not cause an error"
    assert "8 GPU instances with the profile 1g.5gb" in outcome.warnings[0] and "at most 7" in outcome.warnings[0] and "estimate" in outcome.warnings[0]


# --- the layout


CASES = [
    (A100, False, ["A100-3-20C", "A100-1-5C", "A100-1-5C"], ["1g.5gb", "1g.5gb", "3g.20gb"]),
    (A100, True, ["A100-1-5CME", "A100-2-10C"], ["1g.5gb+me", "2g.10gb"]),
    (H100, True, ["H100-2-20C", "H100-1-20C", "H100-1-10C"], ["1g.10gb", "1g.20gb", "2g.20gb"]),
    (H100, False, ["H100-7-80C"], ["7g.80gb"]),
    (A30, False, ["A30-2-12C", "A30-1-6C", "A30-1-6C"], ["1g.6gb", "1g.6gb", "2g.12gb"]),
    (RTXPRO6000, True, ["NVIDIA RTX Pro 6000 Blackwell DC-1-24Q", "DC-2-48C"], ["1g.24gb+gfx", "2g.48gb+gfx"]),
]


@pytest.mark.parametrize("model, vendor, types, profiles", CASES)
def test_types_create_their_gpu_instances(make_host, model, vendor, types, profiles):
    host = make_host(gpus=[(PF, model)], vendor_vfio=vendor, mdevctl=True)
    layout = one(*types)
    off = call(nvidia_vgpu, host, layout=layout)
    assert off.codes == ["vfs_off"] or off.codes == ["mig_mode"], off.codes
    prepare(host, layout)
    check = call(nvidia_vgpu, host, check=True, layout=layout).ok
    real = call(nvidia_vgpu, host, layout=layout).ok
    assert check["actions"] == real["actions"] and check["vgpus"] == real["vgpus"] and check["diff"] == real["diff"]
    assert PF + " GPU instances: " + " ".join(profiles) in real["diff"]["after"] and "instances" not in real["diff"]["before"]
    again = call(nvidia_vgpu, host, layout=layout).ok
    assert again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"]
    assert names(host) == profiles and kinds(host) == sorted(name.split()[-1] for name in types)
    assert not call(nvidia_vgpu, host, layout=layout).ok["changed"] and not call(nvidia_mig, host, layout=layout).ok["changed"]
    if not vendor:
        for uuid, parent, dummy in host.vgpus():
            assert json.loads(host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid)))["start"] == "manual"
    goal = host.vgpus()
    host.reboot()
    assert host.pf().mig == model.mig_needs_reset and names(host) == []
    report = restored(host)
    assert report.errors == [] and host.vgpus() == goal and names(host) == profiles
    assert restored(host).done == [] and not call(nvidia_vgpu, host, layout=layout).ok["changed"]
    call(nvidia_vgpu, host, layout=[]).ok
    assert host.vgpus() == [] and names(host) == [] and not call(nvidia_vgpu, host, layout=[]).ok["changed"]


@pytest.mark.parametrize("vendor", [False, True])
def test_another_layout_moves_instances_around_what_is_in_use(make_host, vendor):
    first = one("A100-3-20C", *["A100-1-5C"] * 3)
    host = prepare(make_host(gpus=[(PF, A100)], vendor_vfio=vendor), first)
    call(nvidia_vgpu, host, layout=first).ok
    kept = [each for each in host.vgpus() if each[2] == "A100-3-20C"]
    host.kernel.use(kept[0][0])
    second = one("A100-3-20C", "A100-2-10C", "A100-1-5C")
    call(nvidia_vgpu, host, layout=second).ok
    assert names(host) == ["1g.5gb", "2g.10gb", "3g.20gb"] and kept[0] in host.vgpus() and host.kernel.harm == []
    assert not call(nvidia_vgpu, host, layout=second).ok["changed"]
    outcome = call(nvidia_vgpu, host, layout=one("A100-7-40C"))
    assert "in_use" in outcome.codes and "VM web1" in outcome.msg
    outcome = call(nvidia_vgpu, host, layout=one("A100-3-20C", "A100-4-20C", "A100-1-5C"))
    assert outcome.codes == ["mig_no_room"] and host.kernel.harm == []


def test_where_a_vgpu_lives_is_known_of_a_vm_that_only_nvidia_smi_reports(make_host):
    first = one(*["A100-1-5C"] * 6)
    host = prepare(make_host(gpus=[(PF, A100)]), first)
    call(nvidia_vgpu, host, layout=first).ok
    used = [each for each in host.kernel.mdevs.values() if each.gi.start < 2]
    host.kernel.used = lambda mdev: mdev in used
    second = one(*["A100-1-5C"] * 3, "A100-3-20C")
    call(nvidia_vgpu, host, layout=second).ok
    assert names(host) == ["1g.5gb"] * 3 + ["3g.20gb"] and set(used) <= set(host.kernel.mdevs.values()) and host.kernel.harm == []


def test_given_instances_are_used_and_stored(make_host):
    layout = one("A100-3-20C", mig=["3g.20gb", "3g.20gb"])
    host = prepare(make_host(gpus=[(PF, A100)]), layout)
    call(nvidia_vgpu, host, layout=layout).ok
    assert names(host) == ["3g.20gb", "3g.20gb"] and json.loads(host.get(layout_file.PATH))["gpus"][0]["mig"] == ["3g.20gb", "3g.20gb"]
    assert not call(nvidia_vgpu, host, layout=layout).ok["changed"]
    empty = one(mig=["7g.40gb"])
    call(nvidia_vgpu, host, layout=empty).ok
    assert names(host) == ["7g.40gb"] and host.vgpus() == [] and not call(nvidia_vgpu, host, layout=empty).ok["changed"]


@pytest.mark.parametrize(
    "layout, code, words",
    [
        (one("A100-3-20C", mig=["1g.5gb"]), "gpu_instance_too_small", "3g.20gb"),
        (one("A100-1-5C", "A100-1-5C", mig=["1g.5gb"]), "gpu_instance_too_small", "is available for A100-1-5C"),
        (one("A100-1-5C", mig=["1g.10gb"]), "mig_no_profile", "1g.5gb"),
        (one("A100-4-20C", "A100-4-20C"), "too_many", "max_instance"),
        (one("A100-7-40C", "A100-1-5C"), "mig_no_room", "7g.40gb"),
        (one("A100-1-5C", "A100-10C"), "mig_and_time_sliced", "another GPU"),
        (one("A100-10C", mig=["1g.5gb"]), "mig_and_time_sliced", "GPU instances (mig)"),
        (one("A100-10C"), "mig_mode", "MIG mode is enabled"),
        (one("A100-1-6C"), "unknown_type", "A100-1-5C"),
    ],
)
def test_what_can_not_be_is_refused_before_any_write(make_host, layout, code, words):
    host = prepare(make_host(gpus=[(PF, A100)]), one("A100-1-5C"))
    before = len(host.writes)
    outcome = call(nvidia_vgpu, host, layout=layout)
    assert outcome.codes == [code] and words in outcome.msg and len(host.writes) == before


def test_mig_on_cards_without_it_and_c_types_without_their_manager(make_host):
    host = make_host(gpus=[("0000:e8:00.0", A40), (PF, A100)]).vfs_on()
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "A40", "vgpus": [{"type": "A40-1-5C"}]}])
    assert outcome.codes == ["mig_unsupported"] and PF in outcome.msg and outcome.writes == 0
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "A40", "mig": ["1g.5gb"], "vgpus": []}])
    assert outcome.codes == ["mig_unsupported"]
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "A40", "vgpus": [{"type": "A40-8C"}]}])
    assert outcome.codes == ["unknown_type"] and "series A, B, Q" in outcome.msg and "AI Enterprise" in outcome.msg
    outcome = call(nvidia_vgpu, host, layout=one("A100-10Q"))
    assert outcome.codes == ["unknown_type"] and "series C" in outcome.msg and outcome.writes == 0


def test_back_to_time_slicing(make_host):
    layout = one("A100-1-5C")
    host = prepare(make_host(gpus=[(PF, A100)]), layout)
    call(nvidia_vgpu, host, layout=layout).ok
    sliced = one("A100-10C", "A100-10C")
    outcome = call(nvidia_mig, host, layout=sliced, cycle_vfs=True)
    assert outcome.codes == ["has_vgpus"] and "empty list" in outcome.msg and outcome.writes == 0
    call(nvidia_vgpu, host, layout=one()).ok
    prepare(host, sliced)
    call(nvidia_vgpu, host, layout=sliced).ok
    assert kinds(host) == ["A100-10C"] * 2 and not host.pf().mig
    host.reboot()
    assert restored(host).errors == [] and kinds(host) == ["A100-10C"] * 2 and not host.pf().mig


def test_t4_a40_and_two_a100_of_both_kinds_in_one_layout(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4), ("0000:e8:00.0", A40), (PF, A100), ("0000:65:00.0", A100)])
    layout = [
        {"gpu": "T4", "vgpus": [{"type": "T4-4Q", "count": 4}]},
        {"gpu": "A40", "vgpus": [{"type": "A40-24Q", "count": 2}]},
        {"gpu": PF, "vgpus": [{"type": "A100-3-20C"}, {"type": "A100-1-5C", "count": 3}]},
        {"gpu": "65:00.0", "vgpus": [{"type": "A100-20C", "count": 2}]},
    ]
    prepare(host, layout)
    call(nvidia_vgpu, host, layout=layout).ok
    assert len(host.vgpus()) == 12 and not call(nvidia_vgpu, host, layout=layout).ok["changed"]
    goal = host.vgpus()
    host.reboot()
    assert restored(host).errors == [] and host.vgpus() == goal


def test_status_and_info_show_mig(monkeypatch, capsys, make_host):
    layout = one("A100-1-5C")
    host = prepare(make_host(gpus=[(PF, A100)]), layout)
    call(nvidia_vgpu, host, layout=layout).ok
    (gpu,) = call(nvidia_gpu_info, host).ok["gpus"]
    assert gpu["mig"]["current"] is True and gpu["mig"]["instances"] == [{"id": 1, "profile": "1g.5gb", "compute_instances": [0]}]
    assert gpu["vgpus"][0]["gpu_instance"] is None and gpu["mig_slices"] == 7
    host.kernel.use(host.vgpus()[0][0])
    (gpu,) = call(nvidia_gpu_info, host).ok["gpus"]
    assert gpu["vgpus"][0]["gpu_instance"] == 1, "nvidia-smi shows the GPU instance of a vGPU in use"
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    assert cli.main(["status"]) == 2, "no unit restores the layout at boot"
    assert "MIG on: 1g.5gb (1)" in capsys.readouterr().out


def test_hosts_without_mig_and_with_mdev_ask_nvidia_smi_nothing(make_host):
    host = make_host(gpus=[("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok
    call(nvidia_gpu_info, host).ok
    assert not [argv for argv in host.calls if "nvidia-smi" in argv[0]]


@pytest.mark.parametrize("hangs", [True, False])
def test_an_nvidia_smi_that_hangs_or_is_missing_is_reported(make_host, hangs):
    host = make_host(gpus=[(PF, A100)])
    real, asked = host.command, []

    def command(argv, timeout, env=None):
        if not argv[0].endswith("nvidia-smi"):
            return real(argv, timeout, env)
        asked.append(argv)
        return Result(124, "", True) if hangs else Result(127, "no such file")

    host.ctx.command = command
    if not hangs:
        os.unlink(host.root + "/usr/bin/nvidia-smi")
    outcome = call(nvidia_mig, host, gpus=[PF], mode="enabled")
    assert outcome.codes == ["mig_unknown"] and outcome.writes == 0
    assert ("did not exit within 60 s" if hangs else "is not installed") in outcome.msg
    assert ("Run this command manually" if hangs else "Run the driver role to reinstall the host driver, which includes nvidia-smi") in outcome.msg
    if hangs:
        assert len(asked) == 1  # a second query would take another minute and have the same result


def test_a_dead_gpu_does_not_shift_the_numbers_of_the_others(make_host):
    """In tables, nvidia-smi identifies a GPU by its index. A GPU without a line in a table still counts in the index."""
    host = make_host(gpus=[("0000:17:00.0", SMALL_A100), ("0000:e8:00.0", SMALL_A100)]).vfs_on()
    for pf in host.kernel.pfs():
        pf.mig = pf.mig_pending = True
    host.pf("0000:17:00.0").off_bus = True
    found = inventory.read(host.ctx)
    assert found.gpu("0000:17:00.0").mig is None
    mig = found.gpu("0000:e8:00.0").mig
    assert mig.current and [one.name for one in mig.profiles] == [one.name for one in SMALL_A100.profiles]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("second", [{"vgpus": [{"type": "A100-10C"}, {"type": "A100-1-5C"}]}, {"vgpus": [{"type": "nvidia-470"}], "mig": ["1g.5gb"]}])
def test_two_kinds_on_one_gpu_change_no_mode(make_host, second, mode, check):
    host = make_host(gpus=[("0000:17:00.0", A100)])
    host.pf().mig = host.pf().mig_pending = mode
    host.vfs_on()
    outcome = call(nvidia_mig, host, check=check, layout=[{"gpu": "all", **second}], cycle_vfs=True)
    assert outcome.codes == ["mig_and_time_sliced"] and outcome.writes == 0 and host.pf().mig is mode


@pytest.mark.parametrize("vfs", [True, False])
@pytest.mark.parametrize("beside", [[], [{"type": "A100-10C"}]])
def test_a_type_by_number_is_known_to_nvidia_smi_without_vfs(make_host, vfs, beside):
    number = {one.short: one.id for one in A100.types}
    for name, mode in (("A100-10C", False), *([] if beside else [("A100-1-5C", True)])):
        host = make_host(gpus=[("0000:17:00.0", A100)])
        host.pf().mig = host.pf().mig_pending = not mode
        host = host.vfs_on() if vfs else host
        layout = [{"gpu": "all", "vgpus": [{"type": number[name]}, *beside]}]
        assert call(nvidia_mig, host, layout=layout, cycle_vfs=True).ok["changed"] and host.pf().mig is mode
        host.kernel.faults.no_smi_types = True
        assert not call(nvidia_mig, host, layout=layout, cycle_vfs=True).ok["changed"]


def test_no_instance_goes_where_one_may_hold_a_vgpu_of_an_unknown_type():
    """Neither the type of the vGPU nor its GPU instance is known. The vGPU could use any GPU instance."""
    gpu = Gpu(PF, "0x20b0", "0x0000", None)
    gpu.mig = Mig(True, True, [Profile("1g.5gb", 19), Profile("3g.20gb", 9)], [GpuInstance(3, "3g.20gb", 9, 0, 4, [0])])
    vgpu = Vgpu(UUID, "0000:17:00.4", 0, "999", "type 999")
    made, errors = placement.plan_instances(gpu, placement.InstanceRequest([], [(vgpu, None)], gpu.mig.profiles))
    assert not errors and not made.destroy and "instance 3" in made.warnings[0]


def test_as_many_instances_stay_as_leave_room_for_the_others(make_host):
    """Of the six small GPU instances, those at 0 to 3 must be removed for the large one. The one at 4 or 5 must stay."""
    host = make_host(gpus=[("0000:17:00.0", A100)]).vfs_on()
    host.pf().mig = host.pf().mig_pending = True
    assert call(nvidia_mig, host, gpus=["all"], instances=["1g.5gb"] * 6).ok["changed"]
    before = list(host.pf().instances)
    assert call(nvidia_mig, host, gpus=["all"], instances=["4g.20gb", "1g.5gb", "1g.5gb+me"]).ok["changed"]
    assert [one.profile.name for one in host.pf().instances if any(one is other for other in before)] == ["1g.5gb"]
