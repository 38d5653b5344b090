# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests GPU instances that several vGPUs share, independently of their placement, and the types and profiles that the driver reports."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A30, A40, A100, RTXPRO6000, FakeModel, FakeProfile, FakeType

PF = "0000:17:00.0"
SMALL, MEDIUM, WHOLE = "1g.24gb+gfx", "2g.48gb+gfx", "4g.96gb+gfx"
FRAMEWORKS = pytest.mark.parametrize("vendor", [False, True])
SPREADS = pytest.mark.parametrize("spreads", [False, True])
ASSUMED = ["driver", "iommu", "vfs", "mig"]


def layout_of(**counts):
    """Returns a layout for one GPU from the number of vGPUs of each type (DC_1_3Q=4) and from *mig*."""
    mig = counts.pop("mig", None)
    entry = {"gpu": PF, "vgpus": [{"type": name.replace("_", "-"), "count": count} for name, count in counts.items()]}
    return [dict(entry, mig=mig) if mig is not None else entry]


def prepared(host, layout):
    """Prepares the host like the roles mig and sriov and returns the host."""
    call(nvidia_mig, host, layout=layout, cycle_vfs=True).ok
    call(nvidia_sriov, host).ok
    return host


def applied(host, layout):
    """Applies a layout and returns the result. Asserts that check mode returns the same result, and that a second run changes nothing."""
    check = call(nvidia_vgpu, host, check=True, layout=layout).ok
    real = call(nvidia_vgpu, host, layout=layout).ok
    assert check["actions"] == real["actions"] and check["vgpus"] == real["vgpus"] and host.kernel.harm == []
    again = call(nvidia_vgpu, host, layout=layout).ok
    assert again["actions"] == [] and again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"]
    return real


def instances(host):
    """Returns the profiles of all GPU instances, sorted."""
    return sorted(one.profile.name for one in host.pf(PF).instances)


def kinds(host):
    """Returns the number of vGPUs by type."""
    names = [name for dummy, dummy2, name in host.vgpus()]
    return {name: names.count(name) for name in names}


@FRAMEWORKS
@SPREADS
@pytest.mark.parametrize(
    "counts, expected",
    [
        ({"DC_1_6Q": 16}, [SMALL] * 4),
        ({"DC_2_24C": 4}, [MEDIUM] * 2),
        ({"DC_1_2Q": 48}, [SMALL] * 4),
        ({"DC_1_3Q": 4, "DC_1_3A": 4}, [SMALL]),
        ({"DC_1_8Q": 1, "DC_1_8A": 1, "DC_1_8C": 1, "DC_1_12Q": 2, "DC_2_48Q": 1}, [SMALL, SMALL, MEDIUM]),
        ({"DC_4_32A": 1, "DC_4_32Q": 1, "DC_4_32C": 1}, [WHOLE]),
        ({"DC_1_3Q": 1, "DC_1_3A": 1, "mig": [SMALL]}, [SMALL]),
        ({"DC_1_3Q": 8, "DC_1_12A": 2, "mig": [SMALL, SMALL, MEDIUM]}, [SMALL, SMALL, MEDIUM]),
    ],
)
def test_vgpus_of_one_size_share_gpu_instances_whatever_their_series(make_host, vendor, spreads, counts, expected):
    layout = layout_of(**counts)
    bare = make_host(gpus=[(PF, RTXPRO6000)], driver=None, vendor_vfio=vendor)
    bare.kernel.loaded.clear()
    bare.on_disk = None
    predicted = call(nvidia_vgpu, bare, check=True, layout=layout, check_mode_assume=ASSUMED).ok
    host = make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor)
    host.kernel.spreads = spreads
    real = applied(prepared(host, layout), layout)
    assert instances(host) == expected and predicted["actions"] == real["actions"] and predicted["vgpus"] == real["vgpus"]
    assert not [text for text in predicted.warnings if "AI Enterprise" not in text]


@FRAMEWORKS
def test_more_than_the_instances_hold_is_refused(make_host, vendor):
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), layout_of(DC_1_3Q=1))
    writes = len(host.writes)
    for counts, code, words in (
        ({"DC_1_3Q": 20, "DC_1_3A": 20}, "mig_no_room", "5 GPU instances with the profile 1g.24gb+gfx"),
        ({"DC_1_8Q": 4, "DC_1_12Q": 3, "DC_2_48Q": 1}, "mig_no_room", "4 slices"),
        ({"DC_1_3Q": 33}, "too_many", "max_instance of DC-1-3Q is 32"),
        ({"DC_1_8Q": 1, "DC_1_12Q": 1, "mig": [SMALL]}, "mixed_framebuffer_sizes", "DC-1-12Q (12288 MiB), DC-1-8Q (8192 MiB)"),
        ({"DC_1_12Q": 3, "mig": [SMALL]}, "gpu_instance_too_small", "every 2 of the vGPUs"),
        ({"DC_1_24C": 1, "mig": ["1g.24gb"]}, "gpu_instance_too_small", "smallest matching profile: 1g.24gb+gfx"),
    ):
        outcome = call(nvidia_vgpu, host, layout=layout_of(**counts))
        assert outcome.codes == [code] and words in outcome.msg and len(host.writes) == writes, (counts, outcome.msg)


def test_a_given_instance_is_doubted_where_the_driver_does_not_report_what_a_type_needs(make_host):
    layout = layout_of(DC_1_24C=1, mig=["1g.24gb"])
    bare = make_host(gpus=[(PF, RTXPRO6000)], driver=None)
    bare.kernel.loaded.clear()
    bare.on_disk = None
    silent = prepared(make_host(gpus=[(PF, RTXPRO6000)]), layout)
    silent.faults.no_smi_types = True
    for host in (bare, silent):
        planned = call(nvidia_vgpu, host, check=True, layout=layout, check_mode_assume=ASSUMED).ok
        assert PF + ": create the GPU instances 1g.24gb" in planned["actions"]
        assert len([text for text in planned.warnings if "smallest matching profile: 1g.24gb+gfx" in text and "estimate" in text]) == 1
    reporting = prepared(make_host(gpus=[(PF, RTXPRO6000)]), layout)
    assert call(nvidia_vgpu, reporting, layout=layout).codes == ["gpu_instance_too_small"]


def test_the_number_of_a_profile_is_as_the_driver_reports_it(make_host):
    host = prepared(make_host(gpus=[(PF, A100)]), layout_of(A100_1_5C=1))
    outcome = call(nvidia_mig, host, instances=["1g.5gb+me", "1g.5gb+me"])
    assert outcome.codes == ["mig_no_room"] and "2 GPU instances with the profile 1g.5gb+me" in outcome.msg and "at most 1" in outcome.msg
    outcome = call(nvidia_vgpu, host, layout=layout_of(A100_1_5CME=1, mig=["1g.5gb+me", "1g.5gb+me"]))
    assert outcome.codes == ["mig_no_room"] and host.vgpus() == []
    applied(host, layout_of(A100_1_5CME=1, A100_1_5C=6))
    assert instances(host) == ["1g.5gb"] * 6 + ["1g.5gb+me"]


def test_a_suffix_of_nvidias_device_manager_means_the_gpu_instance(make_host):
    host = prepared(make_host(gpus=[(PF, RTXPRO6000), ("0000:65:00.0", A100)]), layout_of(DC_1_24Q=1))
    applied(host, layout_of(DC_1_24QGFX=2))
    assert kinds(host) == {"DC-1-24Q": 2} and instances(host) == [SMALL] * 2
    outcome = call(nvidia_vgpu, host, layout=layout_of(DC_1_24QME=1))
    assert outcome.codes == ["unknown_type"] and "DC-1-24Q" in outcome.msg


@FRAMEWORKS
@SPREADS
@pytest.mark.parametrize("used", [0, 2])
def test_fewer_vgpus_that_live_in_several_gpu_instances(make_host, vendor, spreads, used):
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), layout_of(DC_1_12Q=4))
    host.kernel.spreads = spreads
    applied(host, layout_of(DC_1_12Q=4, mig=[SMALL] * 2))
    for number, (key, dummy, dummy2) in enumerate(sorted(host.vgpus(), key=lambda one: one[1])[:used]):
        host.kernel.use(key, 4000 + number)
    staying = [one.facts() for one in host.kernel.mdevs.values() if host.kernel.used(one)]
    applied(host, layout_of(DC_1_12Q=2))
    assert kinds(host) == {"DC-1-12Q": 2} and set(staying) <= set(host.vgpus())
    applied(host, layout_of(DC_1_12Q=2, DC_1_24Q=2))
    assert kinds(host) == {"DC-1-12Q": 2, "DC-1-24Q": 2} and set(staying) <= set(host.vgpus())


@FRAMEWORKS
@SPREADS
def test_another_size_beside_vgpus_that_are_spread(make_host, vendor, spreads):
    first, second = layout_of(DC_1_12Q=8), layout_of(DC_1_12Q=2, DC_1_24Q=3)
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), first)
    host.kernel.spreads = spreads
    applied(host, first)
    applied(host, second)
    assert kinds(host) == {"DC-1-12Q": 2, "DC-1-24Q": 3} and instances(host) == [SMALL] * 4


def test_of_two_idle_vgpus_the_one_that_leaves_room_stays(make_host):
    """The large GPU instance needs the memory slices of the vGPU at 0. The vGPU at 4 must stay."""
    host = prepared(make_host(gpus=[(PF, A100)], vendor_vfio=True), layout_of(A100_3_20C=2))
    applied(host, layout_of(A100_3_20C=2))
    first, second = (one for dummy, one in sorted((one.gi.start, one) for one in host.kernel.mdevs.values()))
    applied(host, layout_of(A100_3_20C=1, A100_4_20C=1))
    assert kinds(host) == {"A100-3-20C": 1, "A100-4-20C": 1}
    there = list(host.kernel.mdevs.values())
    assert any(one is second for one in there) and not any(one is first for one in there)


@FRAMEWORKS
def test_vgpus_in_use_that_are_spread_are_refused_before_anything_goes(make_host, vendor):
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), layout_of(DC_1_12Q=8))
    host.kernel.spreads = True
    applied(host, layout_of(DC_1_12Q=8))
    before = host.vgpus()
    for number, (key, dummy, dummy2) in enumerate(sorted(before, key=lambda one: one[1])[:2]):
        host.kernel.use(key, 4000 + number)
    writes = len(host.writes)
    outcome = call(nvidia_vgpu, host, layout=layout_of(DC_1_12Q=2, DC_1_24Q=3))
    assert outcome.codes == ["mig_no_room"] and host.vgpus() == before and len(host.writes) == writes
    applied(host, layout_of(DC_1_12Q=2, DC_1_24Q=2))


@FRAMEWORKS
def test_types_given_by_number_follow_mig_mode(make_host, vendor):
    number = {one.short: one.id for one in A100.types}
    backed, sliced = ([{"gpu": PF, "vgpus": [{"type": "nvidia-" + number[name]}]}] for name in ("A100-1-5C", "A100-10C"))
    host = prepared(make_host(gpus=[(PF, A100)], vendor_vfio=vendor), layout_of(A100_1_5C=1))
    outcome = call(nvidia_vgpu, host, layout=sliced)
    assert outcome.codes == ["mig_mode"] and "A100-10C requires MIG mode to be disabled" in outcome.msg
    assert call(nvidia_mig, host, layout=backed, cycle_vfs=True).ok["actions"] == [] and host.pf().mig
    applied(host, backed)
    assert kinds(host) == {"A100-1-5C": 1}
    outcome = call(nvidia_mig, host, layout=sliced)
    assert "has_vgpus" in outcome.codes and host.pf().mig


def test_a_number_changes_no_mig_mode_before_the_driver_lists_its_types(make_host):
    host = make_host(gpus=[(PF, A30)])
    call(nvidia_mig, host, mode="enabled").ok
    layout = [{"gpu": PF, "vgpus": [{"type": "nvidia-697"}]}]
    assert call(nvidia_mig, host, layout=layout).ok["actions"] == [] and host.pf().mig
    planned = call(nvidia_vgpu, host, check=True, layout=layout, check_mode_assume=ASSUMED).ok
    assert [one["type"] for one in planned["vgpus"]] == ["nvidia-697"] and "the type nvidia-697 and the requirements of the type" in planned.warnings[0]


@FRAMEWORKS
@SPREADS
def test_a_boot_restores_sizes_that_share_a_profile(make_host, vendor, spreads):
    layout = layout_of(DC_1_8Q=4, DC_1_8A=1, DC_1_12Q=2)
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), layout)
    host.kernel.spreads = spreads
    applied(host, layout)
    goal = host.vgpus()
    host.reboot()
    assert restore.restore(host.ctx, 60, 0.5, lambda words: None).errors == []
    assert host.vgpus() == goal and instances(host) == [SMALL] * 3
    assert call(nvidia_vgpu, host, layout=layout).ok["actions"] == []


@SPREADS
def test_a_restore_needs_no_more_room_than_there_is_for_sure(make_host, spreads):
    """The driver does not report which GPU instances idle mediated devices use. Five devices can occupy all three GPU instances or only one."""
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)]), layout_of(DC_1_3A=10))
    host.kernel.spreads = spreads
    applied(host, layout_of(DC_1_3A=10))
    applied(host, layout_of(DC_1_3A=6, DC_1_24A=1))
    goal = host.vgpus()
    host.reboot()
    assert restore.restore(host.ctx, 60, 0.5, lambda words: None).errors == [] and instances(host) == [SMALL] * 3
    for short in ("DC-1-3A", "DC-1-24A"):
        host.kernel.remove(next(one for one in host.kernel.mdevs.values() if one.type.short == short))
    assert restore.restore(host.ctx, 60, 0.5, lambda words: None).errors == []
    assert host.vgpus() == goal and instances(host) == [SMALL] * 3


def test_an_idle_vgpu_in_a_gpu_instance_of_another_profile_stays(make_host):
    host = prepared(make_host(gpus=[(PF, A100)]), layout_of(A100_1_5C=4))
    applied(host, layout_of(A100_1_5C=4))
    applied(host, layout_of(A100_1_5C=2, A100_1_5CME=1))
    media = [one for one in host.kernel.mdevs.values() if one.type.short == "A100-1-5CME"]
    applied(host, layout_of(A100_1_5C=1, A100_1_5CME=1, A100_3_20C=1))
    assert kinds(host) == {"A100-1-5C": 1, "A100-1-5CME": 1, "A100-3-20C": 1}
    assert [one for one in host.kernel.mdevs.values() if one.type.short == "A100-1-5CME"] == media


@SPREADS
@pytest.mark.parametrize(
    "first, second, recreated",
    [
        ({"DC_2_12Q": 6}, {"DC_2_12Q": 4, "DC_2_24Q": 1}, 3),
        ({"DC_1_6Q": 8, "DC_1_6A": 5}, {"DC_1_6Q": 4, "DC_1_6A": 4, "DC_1_24Q": 1}, 5),
        ({"DC_1_12Q": 4, "DC_1_8Q": 3}, {"DC_1_12Q": 2, "DC_1_8Q": 2, "DC_1_24Q": 1}, 0),
    ],
    ids=["one stays", "one of each GPU instance that may stay", "two sizes can't be everywhere at once"],
)
def test_no_more_idle_vgpus_are_recreated_than_may_be_in_the_way(make_host, spreads, first, second, recreated):
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)]), layout_of(**first))
    host.kernel.spreads = spreads
    applied(host, layout_of(**first))
    before = list(host.kernel.mdevs.values())
    applied(host, layout_of(**second))
    assert kinds(host) == {name.replace("_", "-"): count for name, count in second.items()}
    kept = [one for one in host.kernel.mdevs.values() if one in before]
    assert len(kept) == sum(second[name] for name in first) - recreated


@FRAMEWORKS
def test_a_run_that_is_killed_while_it_makes_room_is_finished_by_the_next(make_host, vendor):
    first, second = layout_of(DC_1_12Q=4, DC_1_24Q=1), layout_of(DC_1_12Q=2, DC_1_8A=3, DC_1_24Q=2)

    def host_with_first():
        host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), first)
        host.kernel.spreads = True
        call(nvidia_vgpu, host, layout=first, settle=0).ok
        host.writes.clear()
        return host

    writes = call(nvidia_vgpu, host_with_first(), layout=second, settle=0).ok.writes
    for number in range(1, writes + 1):
        host = host_with_first()
        host.die_at = number
        with pytest.raises(Died):
            call(nvidia_vgpu, host, layout=second, settle=0)
        host.die_at = None
        call(nvidia_vgpu, host, layout=second, settle=0).ok
        assert kinds(host) == {"DC-1-12Q": 2, "DC-1-8A": 3, "DC-1-24Q": 2} and host.kernel.harm == []
        assert call(nvidia_vgpu, host, layout=second, settle=0).ok["actions"] == []


def test_the_driver_decides_whether_a_gpu_has_mig(make_host):
    profile, whole = FakeProfile("1g.16gb+gfx", 47, 1, 1, 15.5, 2), FakeProfile("2g.32gb+gfx", 35, 2, 2, 31.0, 1)
    types = [FakeType(1700, "NVIDIA RTX Pro 4500 Blackwell DC-1-8Q", 8, 4, profile=profile, per_gi=2)]
    model = FakeModel("0x2c3a", "NVIDIA RTX PRO 4500 Blackwell Server Edition", 32, 16, types, profiles=[profile, whole])
    layout = layout_of(DC_1_8Q=4)
    for board, offers in ((model, True), (A40, False)):
        bare = make_host(gpus=[(PF, board)], driver=None)
        bare.kernel.loaded.clear()
        bare.on_disk = None
        mode = call(nvidia_mig, bare, check=True, layout=layout, check_mode_assume=ASSUMED).ok
        planned = call(nvidia_vgpu, bare, check=True, layout=layout, check_mode_assume=ASSUMED).ok
        assert "does not support MIG" in mode.warnings[0] and "estimate" in mode.warnings[0] and len(planned["vgpus"]) == 4
        host = make_host(gpus=[(PF, board)])
        if offers:
            applied(prepared(host, layout), layout)
            assert kinds(host) == {"DC-1-8Q": 4} and instances(host) == ["1g.16gb+gfx"] * 2
        else:
            assert call(nvidia_mig, host, layout=layout).codes == ["mig_unsupported"]
            assert call(nvidia_vgpu, host.vfs_on(), layout=layout).codes == ["mig_unsupported"]


@FRAMEWORKS
def test_a_restore_uses_a_listed_gpu_instance_that_a_foreign_vgpu_shares(make_host, vendor):
    """One foreign vGPU (DC-2-12A) shares the listed GPU instance. The other one (DC-1-3Q) is in a GPU instance that is not listed."""
    layout = layout_of(DC_2_12C=1, mig=[MEDIUM])
    host = prepared(make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=vendor), layout)
    applied(host, layout)
    goal = host.vgpus()
    vfs = {device.index: device for device in host.kernel.devices.values() if getattr(device, "index", None) is not None}
    types = {one.short: one for one in RTXPRO6000.types}

    def create(index, short):
        if vendor:
            host.kernel.set_type(vfs[index], types[short].id)
        else:
            host.kernel.create(vfs[index], types[short], "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a%02d" % index)

    create(5, "DC-2-12A")
    host.ctx.command(["nvidia-smi", "mig", "-cgi", "47", "-C", "-i", PF], 60)
    create(6, "DC-1-3Q")
    mine = next(one for one in host.kernel.mdevs.values() if one.type.short == "DC-2-12C")
    host.kernel.set_type(mine.parent, "0") if vendor else host.kernel.remove(mine)
    assert instances(host) == [SMALL, MEDIUM]
    assert restore.restore(host.ctx, 60, 0.5, lambda words: None).errors == []
    assert set(goal) <= set(host.vgpus()) and len(host.vgpus()) == 3 and instances(host) == [SMALL, MEDIUM]
