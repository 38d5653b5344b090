# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests GPUs that are in no table. Each module, vgpuctl, and the restore at boot must use what the kernel and the driver report."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_gpu_info, nvidia_host_plan, nvidia_mig, nvidia_pci_driver, nvidia_sriov, nvidia_vgpu,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, GEFORCE, FakeModel, FakeType

PF = "0000:e8:00.0"
# Future boards: one with SR-IOV, one with SR-IOV and MIG, and one without SR-IOV.
NEW = FakeModel("0x2fff", "NVIDIA Z99", 48, 6, [FakeType(900 + one.gib, one.name.replace("A40", "Z99"), one.gib, one.most) for one in A40.types[2:12]])
MIG = FakeModel("0x2ffe", "NVIDIA Z100", 40, 6, A100.types, profiles=A100.profiles)
ON_PF = FakeModel("0x1fff", "Tesla Y9", 16, 0, [FakeType(230, "GRID Y9-8Q", 8, 2)])


def layout_of(type_name, gpu="all", count=2):
    return [{"gpu": gpu, "vgpus": [{"type": type_name, "count": count}]}]


@pytest.mark.parametrize("vendor", [False, True])
@pytest.mark.parametrize("gpu", ["all", PF, "NVIDIA Z99", "10de:2fff"])
def test_a_new_gpu_gets_its_vfs_and_vgpus(make_host, gpu, vendor):
    host = make_host(gpus=[(PF, NEW)], vendor_vfio=vendor)
    outcome = call(nvidia_sriov, host, gpus=[gpu])
    assert outcome.ok["gpus"][0]["sriov_numvfs"] == 6 and outcome.ok["without_sriov"] == []
    assert "not in the table" in outcome.warnings[0]
    outcome = call(nvidia_vgpu, host, layout=layout_of("Z99-24Q", gpu))
    assert len(outcome.ok["vgpus"]) == 2 and not outcome.warnings
    assert not call(nvidia_sriov, host, gpus=[gpu]).warnings


def test_it_is_released_before_there_is_a_driver(make_host):
    host = make_host(gpus=[(PF, NEW)], driver="vfio-pci")
    outcome = call(nvidia_pci_driver, host)
    assert outcome.ok["gpus"] == [{"address": PF, "driver_before": "vfio-pci"}] and host.pf().driver == "nvidia"
    assert "not in the table" in outcome.warnings[0] and PF in outcome.warnings[0]


def test_a_bare_host_is_planned_with_a_warning(make_host):
    host = make_host(gpus=[(PF, NEW)], driver=None)
    host.kernel.loaded.clear()
    host.on_disk = None
    assume = ["driver", "iommu", "vfs"]
    outcome = call(nvidia_sriov, host, check=True, check_mode_assume=assume[:2])
    assert outcome.ok["changed"] and "not in the table" in outcome.warnings[0]
    outcome = call(nvidia_vgpu, host, check=True, layout=layout_of("Z99-24Q", PF), check_mode_assume=assume)
    assert len(outcome.ok["vgpus"]) == 2 and "not in the table" in outcome.warnings[0]


def test_one_without_sriov_has_its_vgpus_on_the_pf(make_host):
    host = make_host(gpus=[(PF, ON_PF)])
    outcome = call(nvidia_sriov, host, gpus=[PF])
    (left,) = outcome.ok["without_sriov"]
    assert "created on the PF" in left["reason"] and not outcome.ok["changed"] and host.writes == []
    assert len(call(nvidia_vgpu, host, layout=layout_of("Y9-8Q")).ok["vgpus"]) == 2


def test_its_mig_is_asked_for(make_host):
    host = make_host(gpus=[(PF, MIG)])
    call(nvidia_mig, host, mode="enabled").ok
    assert host.pf().mig
    host.vfs_on()
    outcome = call(nvidia_vgpu, host, layout=layout_of("A100-1-5C"))
    assert [one["type"] for one in outcome.ok["vgpus"]] == ["A100-1-5C"] * 2


def test_its_mig_is_planned_with_the_host(make_host):
    """The role host does not run a stage without a plan.

    Previously, the plan for the layout failed because MIG mode, which the role mig enables, was disabled.
    """
    host = make_host(gpus=[(PF, MIG)])
    plan = call(nvidia_host_plan, host, layout=layout_of("A100-1-5C")).ok["plans"]["mig"]
    assert any("MIG" in action for action in plan["actions"])
    host = make_host(gpus=[(PF, NEW)], driver=None)
    host.kernel.loaded.clear()
    host.on_disk = None
    plans = call(nvidia_host_plan, host, layout=layout_of("Z99-24Q")).ok["plans"]
    assert plans["mig"].get("actions") == [] and not plans["vgpus"].get("failed")


def test_the_boot_restores_it(make_host):
    host = make_host(gpus=[(PF, NEW)]).vfs_on()
    call(nvidia_vgpu, host, layout=layout_of("Z99-24Q")).ok
    goal = host.vgpus()
    host.reboot()
    report = restore.restore(host.ctx, 60, 1, lambda text: None)
    assert report.errors == [] and host.vgpus() == goal


def test_what_is_reported_of_it(make_host):
    host = make_host(gpus=[(PF, NEW)])
    found = call(nvidia_gpu_info, host).ok
    assert {one["code"]: one["severity"] for one in found["problems"]} == {"gpu_unknown": "warning"} and found["gpus"][0]["supported"]
    assert "not in the table" in found["problems"][0]["found"]
    call(nvidia_sriov, host).ok
    assert "is used because the GPU offers vGPU types" in call(nvidia_gpu_info, host).ok["problems"][0]["found"]


def test_a_gpu_without_vgpus_is_refused_by_what_its_driver_shows(make_host):
    """The selector 'all' omits a consumer GPU, which offers neither vGPU types nor SR-IOV with the host driver."""
    host = make_host(gpus=[(PF, A40), ("0000:01:00.0", GEFORCE)]).vfs_on()
    outcome = call(nvidia_vgpu, host, layout=layout_of("A40-24Q", "0000:01:00.0"))
    assert outcome.codes == ["gpu_unsupported"] and outcome.writes == 0
    assert {one["gpu"] for one in call(nvidia_vgpu, host, layout=layout_of("A40-24Q")).ok["vgpus"]} == {PF}


def test_a_number_has_no_size_that_differs_from_another(make_host):
    host = make_host(driver=None)
    layout = [{"gpu": PF, "vgpus": [{"type": "nvidia-565"}, {"type": "A40-24Q"}]}]
    outcome = call(nvidia_vgpu, host, check=True, layout=layout, check_mode_assume=["driver", "iommu", "vfs"])
    assert sorted(one["type"] for one in outcome.ok["vgpus"]) == ["A40-24Q", "nvidia-565"]
