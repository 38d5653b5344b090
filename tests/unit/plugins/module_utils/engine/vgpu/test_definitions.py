# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests mdevctl's definition files: damaged files, several parents, attributes, and definitions of others that start vGPUs on a managed GPU."""

from __future__ import annotations

import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_host_plan, nvidia_mdev, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.mark.parametrize("damaged", ["", "{", '{"mdev_type": "nvidia-565"}', "[]"])
def test_a_damaged_definition_is_rewritten(make_host, damaged):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    (uuid, parent, dummy), other = host.vgpus()
    path = "/etc/mdevctl.d/%s/%s" % (parent, uuid)
    whole = host.get(path)
    host.put(path, damaged)
    host.put("/etc/mdevctl.d/%s/notes.txt" % parent, damaged)
    outcome = call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert [text for text in outcome["actions"] if other[0] in text] == [] and len(outcome["actions"]) == 2
    assert host.get(path) == whole and json.loads(whole)["start"] == "manual"
    assert host.get("/etc/mdevctl.d/%s/notes.txt" % parent) == damaged and "notes.txt" not in mdevctl.definitions(host.root)
    assert not call(nvidia_vgpu, host, layout=LAYOUT).ok["changed"]


UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a00"
OTHER = "7d3c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
SMALL = {"mdev_type": "nvidia-563", "start": "auto", "attrs": []}


def define(host, parent, uuid, **content):
    """Writes a definition like another tool would."""
    host.put("/etc/mdevctl.d/%s/%s" % (parent, uuid), json.dumps(content))


def test_a_uuid_that_is_defined_under_several_parents(make_host):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    (uuid, parent, dummy), other = host.vgpus()
    for elsewhere in ("0000:e8:00.0", "0000:e8:01.7", "0000:99:00.4"):  # these addresses sort before and after that of the real parent
        define(host, elsewhere, uuid, mdev_type="nvidia-565", start="manual", attrs=[])
    assert {one.parent for one in mdevctl.definitions(host.root)[uuid].all} == {parent, "0000:e8:00.0", "0000:e8:01.7", "0000:99:00.4"}
    outcome = call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert len(outcome["actions"]) == 3 and all("undefine %s" % uuid in text for text in outcome["actions"])
    assert {one: [each.parent for each in found.all] for one, found in mdevctl.definitions(host.root).items()} == {uuid: [parent], other[0]: [other[1]]}
    assert not call(nvidia_vgpu, host, layout=LAYOUT).ok["changed"]


def test_a_vgpu_that_cannot_be_removed_leaves_no_definition_that_no_run_removes(make_host):
    """Another program created a vGPU with the UUID of a stored vGPU but with another type. A VM starts after the plan, so the removal fails."""
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "uuid": OTHER}]}]).ok
    host.reboot()
    host.vfs_on()
    host.add("0000:e8:00.4", "A40-8Q", UUID)
    host.add("0000:e8:00.5", "A40-8Q", OTHER)
    real_write = host.sysfs.write

    def write(path, value, timeout):
        if path.endswith("/remove") and UUID in path:
            host.kernel.use(OTHER)
        real_write(path, value, timeout)

    host.sysfs.write = write
    nothing = [{"gpu": "all", "vgpus": []}]
    assert call(nvidia_vgpu, host, layout=nothing).codes == ["in_use"] and len(host.vgpus()) == 1 and host.kernel.harm == []
    host.sysfs.write = real_write
    host.reboot()
    host.vfs_on()
    call(nvidia_vgpu, host, layout=nothing).ok
    assert mdevctl.definitions(host.root) == {}


def test_all_definitions_of_a_vgpu_go_with_it(make_host):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    for uuid, dummy, dummy2 in host.vgpus():
        define(host, "0000:99:00.4", uuid, mdev_type="nvidia-565", start="manual", attrs=[])
    (kept, _parent, dummy), (gone, dummy3, dummy4) = host.vgpus()
    call(nvidia_mdev, host, uuid=gone, state="absent").ok
    assert gone not in mdevctl.definitions(host.root) and kept in mdevctl.definitions(host.root)
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}]).ok
    assert mdevctl.definitions(host.root) == {}


@pytest.mark.parametrize("wrong", [{"start": "auto"}, {"mdev_type": "nvidia-558"}])
def test_a_rewritten_definition_keeps_its_attributes(make_host, wrong):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    (uuid, parent, dummy), dummy2 = host.vgpus()
    attrs = [{"nvidia/vgpu_params": "frame_rate_limiter=0"}, {"second": "x"}]
    define(host, parent, uuid, **{"mdev_type": "nvidia-565", "start": "manual", "attrs": attrs, **wrong})
    assert len(call(nvidia_vgpu, host, layout=LAYOUT).ok["actions"]) == 2
    assert json.loads(host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid))) == {"mdev_type": "nvidia-565", "start": "manual", "attrs": attrs}
    assert not call(nvidia_vgpu, host, layout=LAYOUT).ok["changed"]
    define(host, parent, uuid, mdev_type="nvidia-565", start="auto", attrs={"no": "list"})
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert json.loads(host.get("/etc/mdevctl.d/%s/%s" % (parent, uuid)))["attrs"] == []


@pytest.mark.parametrize("vfs", [True, False])
def test_a_strangers_definition_that_starts_on_our_gpu_is_a_warning(make_host, vfs):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)], mdevctl=True)
    if vfs:
        host.vfs_on()
    layout = [{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
    define(host, "0000:e8:00.5", OTHER, **SMALL)
    define(host, "0000:e8:00.4", OTHER[:-1] + "2", **{**SMALL, "start": "manual"})  # this vGPU does not start automatically
    define(host, "0000:e7:00.4", OTHER[:-1] + "3", **SMALL)  # the layout does not contain this GPU
    assume = [] if vfs else ["driver", "iommu", "vfs"]
    (text,) = [one for one in call(nvidia_vgpu, host, check=True, layout=layout, check_mode_assume=assume).ok.warnings if "mdevctl" in one]
    assert all(word in text for word in ("0000:e8:00.5", OTHER, "nvidia-563", "each boot", "mdevctl modify -u %s -p 0000:e8:00.5 --manual" % OTHER))
    plan = call(nvidia_host_plan, host, layout=layout).ok
    assert text in plan.warnings and not plan["plans"]["vgpus"].get("failed")


def test_it_is_a_problem_of_a_host_that_has_a_layout(make_host):
    host = make_host(mdevctl=True).vfs_on()
    define(host, "0000:e8:00.6", OTHER, **SMALL)
    assert codes(host) == {}
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert codes(host) == {"mdevctl_autostart": "warning"}
    define(host, "0000:e8:00.6", OTHER, **{**SMALL, "start": "manual"})
    assert codes(host) == {}


def codes(host):
    """Returns the severity of each problem with definitions, by code."""
    return {one["code"]: one["severity"] for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if "mdevctl" in one["code"]}


def test_the_boot_says_what_started_a_strangers_vgpu(make_host):
    """mdevctl starts the foreign vGPU on a VF of the layout before the restore runs. The error must contain the mdevctl command that prevents the start."""
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.reboot()
    host.vfs_on()
    host.add("0000:e8:00.4", "A40-24A", OTHER)
    report = restore.restore(host.ctx, 60, 1, lambda text: None)
    (problem,) = [one for one in report.errors if one.code == "vf_busy"]
    assert OTHER in problem.found and "mdevctl modify -u %s -p 0000:e8:00.4 --manual" % OTHER in problem.remedy
