# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests GPUs without SR-IOV (T4, V100, P40), on which several vGPUs share the PF as their parent, with each framework."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_mdev, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A2, P40, T4, V100

PF = "0000:3b:00.0"


@pytest.mark.parametrize("vendor", [False, True])
@pytest.mark.parametrize("model, name, most", [(T4, "T4-4Q", 4), (V100, "V100D-8Q", 4), (P40, "P40-8Q", 3)])
def test_many_on_one_parent(make_host, model, name, most, vendor):
    host = make_host(gpus=[(PF, model)], vendor_vfio=vendor)
    layout = [{"gpu": "all", "vgpus": [{"type": name, "count": most}]}]
    done = call(nvidia_vgpu, host, layout=layout).ok
    assert len(host.vgpus()) == most and {one["vf"] for one in done["vgpus"]} == {PF} and all(one["uuid"] for one in done["vgpus"])
    assert not call(nvidia_vgpu, host, layout=layout).ok["changed"]
    goal = host.vgpus()
    host.reboot()
    assert restore.restore(host.ctx, 60, 0.5, lambda words: None).errors == [] and host.vgpus() == goal
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": name, "count": most + 1}]}])
    assert outcome.codes == ["too_many"] and host.vgpus() == goal
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": name}]}]).ok
    assert len(host.vgpus()) == 1


@pytest.mark.parametrize("model, words", [(T4, "T4 does not use SR-IOV for vGPUs"), (V100, "V100 does not use SR-IOV for vGPUs")])
def test_nvidia_sriov_leaves_it_out_with_a_reason(make_host, model, words):
    host = make_host(gpus=[(PF, model)])
    outcome = call(nvidia_sriov, host).ok
    assert not outcome["changed"] and outcome["gpus"] == [] and words in outcome["without_sriov"][0]["reason"]


def test_the_empty_capability_of_a_t4_is_not_fallen_for(make_host):
    host = make_host(gpus=[(PF, T4)])
    (gpu,) = call(nvidia_gpu_info, host).ok["gpus"]
    assert gpu["sriov_totalvfs"] == 16 and gpu["framework"] == "mdev"
    assert not [one for one in call(nvidia_gpu_info, host).ok["problems"] if one["device"] == PF]


def test_nvidia_mdev_works_for_it_on_a_host_of_the_other_framework(make_host):
    host = make_host(gpus=[(PF, T4)], vendor_vfio=True)
    call(nvidia_mdev, host, parent=PF, type="T4-8Q").ok
    assert [name for dummy, dummy2, name in host.vgpus()] == ["T4-8Q"]


@pytest.mark.parametrize("vendor", [False, True])
def test_an_a2_lives_on_vfs_although_it_is_small(make_host, vendor):
    host = make_host(gpus=[(PF, A2)], vendor_vfio=vendor).vfs_on()
    done = call(nvidia_vgpu, host, layout=[{"gpu": "A2", "vgpus": [{"type": "A2-8Q", "count": 2}]}]).ok
    assert [one["vf_index"] for one in done["vgpus"]] == [0, 1]
