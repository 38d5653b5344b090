# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests drift from the stored state: a reboot without a restore, failed services, and VMs whose vGPUs are missing."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import drift
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libvirt_xml
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

PF = "0000:e8:00.0"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
MDEV = "<hostdev mode='subsystem' type='mdev' managed='no'><source><address uuid='%s'/></source></hostdev>"
WELL = {
    "nvidia-vgpud": {"load": "loaded", "active": "inactive", "result": "success", "enabled": "enabled", "started": True},
    "nvidia-vgpu-mgr": {"load": "loaded", "active": "active", "result": "success", "enabled": "enabled", "started": True},
    "vgpu-restore": {"load": "loaded", "active": "active", "result": "success", "enabled": "enabled", "started": True},
}


def found(host, services=(), domains=()):
    """Returns the codes of the problems and the problems themselves."""
    seen = drift.find(inventory.read(host.ctx, with_types=False, with_mig=True), layout_file.read(host.root), dict(WELL, **dict(services)), domains)
    return [one.error.code for one in seen], seen


@pytest.fixture
def made(host):
    """Creates two vGPUs from a layout and returns the host."""
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    return host


def test_all_is_well(made):
    assert found(made)[0] == []
    problems = call(nvidia_gpu_info, made, health=True).ok["problems"]
    assert [one["code"] for one in problems] == ["restore_not_enabled"], "the fake host has no enabled services"


@pytest.mark.parametrize("word, wrong", [("enabled", False), ("static", False), ("generated", False), ("disabled", True), ("", True)])
def test_units_that_systemd_starts_in_other_ways_are_enabled(made, word, wrong):
    units = {name: {**WELL[name], "enabled": word} for name in ("nvidia-vgpud", "nvidia-vgpu-mgr")}
    assert ("service_not_enabled" in found(made, units)[0]) is wrong


def test_after_a_reboot_without_a_restore(made):
    made.reboot()
    made.pf().driver = "nvidia"
    made.kernel.add_process(90, "nv-hostengine", ["nv-hostengine"], ["/dev/nvidia%d" % made.pf().number])
    codes, seen = found(made)
    assert codes == ["vfs_missing", "vgpus_missing"]
    text = " ".join(str(one.error) for one in seen)
    for words in ("the VFs are disabled (expected: 32 VFs", "nv-hostengine", "2 of the 2 stored vGPUs are missing (A40-24Q on 0000:e8:00.4", "vgpuctl restore"):
        assert words in text, text
    problems = call(nvidia_gpu_info, made, health=True).ok["problems"]
    assert {"vfs_missing", "vgpus_missing"} <= {one["code"] for one in problems}
    assert not {"vfs_missing"} & {one["code"] for one in call(nvidia_gpu_info, made).ok["problems"]}


def test_one_vgpu_is_gone_and_another_has_changed(made):
    first, second = made.vgpus()
    for uuid in (first[0], second[0]):
        made.kernel.remove(made.kernel.mdevs[uuid])
    made.add(second[1], "A40-8Q", second[0])
    codes, seen = found(made)
    assert codes == ["vgpus_missing", "vgpu_wrong_type"] and "1 of the 2" in str(seen[0].error) and "A40-8Q" in str(seen[1].error)


def test_a_gpu_that_was_removed(made, make_host):
    other = make_host(gpus=[("0000:e7:00.0", A40)]).vfs_on()
    other.put(layout_file.PATH, made.get(layout_file.PATH))
    assert found(other)[0] == ["gpu_gone"]


def test_mig_that_a_boot_removed(make_host):
    host = make_host(gpus=[("0000:17:00.0", A100)])
    host.pf().mig = host.pf().mig_pending = True
    host.vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A100-1-5C"}]}]).ok
    assert "mig_instances_missing" not in found(host)[0]
    host.pf().instances.clear()
    assert "mig_instances_missing" in found(host)[0]
    host.pf().mig = host.pf().mig_pending = False
    assert "mig_lost" in found(host)[0]


@pytest.mark.parametrize(
    ("unit", "changes", "code", "severity"),
    [
        ("nvidia-vgpu-mgr", {"active": "failed"}, "manager_not_running", "error"),
        ("nvidia-vgpu-mgr", {"enabled": "disabled"}, "service_not_enabled", "warning"),
        ("nvidia-vgpud", {"active": "failed", "result": "exit-code"}, "vgpud_failed", "error"),
        ("vgpu-restore", {"load": "not-found", "enabled": ""}, "restore_not_enabled", "error"),
        ("vgpu-restore", {"active": "failed", "result": "exit-code"}, "restore_failed", "warning"),
    ],
)
def test_services(made, unit, changes, code, severity):
    codes, seen = found(made, services={unit: dict(WELL[unit], **changes)})
    assert codes == [code] and seen[0].severity == severity and seen[0].error.remedy


def test_without_a_layout_nothing_needs_the_restore(host):
    assert found(host, services={"vgpu-restore": {"load": "not-found", "active": "inactive", "result": "success", "enabled": ""}})[0] == []


def test_vms(made):
    virsh = Libvirt(made)
    one = made.vgpus()[0][0]
    gone = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3aff"
    virsh.define("web1", MDEV % one).define("web2", MDEV % one, MDEV % gone, running=True)
    codes, seen = found(made, domains=libvirt_xml.all_domains(made.ctx)[0])
    assert codes == ["vm_without_vgpu", "vgpu_in_two_vms"]
    assert seen[0].error.device == "VM web2" and gone in seen[0].error.found and "web1, web2" in seen[1].error.found
