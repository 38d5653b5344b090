# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the effect of --tags and --skip-tags on the host and preflight roles, read from the roles' templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.vgpu.kvm.tests.unit.fuzz.test_fuzz_roles import Role

ROLES = Path(__file__).resolve().parents[2] / "roles"
ALL = ["gpu_release", "iommu", "driver", "reboot", "services", "fabric", "mig", "sriov", "vgpus", "verify", "libvirt_attach"]
USER = {"vm": "web1", "pid": 4711, "command": "qemu", "devices": []}
DRIVER = {"loaded": "550.163.02", "on_disk": "550.163.02", "flavour": "vgpu", "nouveau_loaded": False}
INFO = {
    "host": {"driver": DRIVER, "distribution": {"family": "debian", "name": "Debian 12"}, "bootloader": "grub"},
    "gpus": [], "problems": [], "reboot_reasons": [], "in_the_way": [USER], "in_the_way_count": 1,
}


@pytest.mark.parametrize(
    "run, skip, stages",
    [
        (["all"], [], ALL),
        (["vgpus"], [], ["vgpus"]),
        (["vgpus", "driver"], [], ["driver", "vgpus"]),
        (["all"], ["driver", "reboot"], [one for one in ALL if one not in ("driver", "reboot")]),
        (["vgpus"], ["vgpus"], []),
        # A tag of a user's play can select any stage, so preflight checks all stages.
        (["mine"], [], ALL),
        (["vgpus", "mine"], [], ALL),
        (["tagged"], [], ALL),
        (["always"], [], ALL),
        (["all"], ["mine"], ALL),
    ],
)
def test_the_stages_of_a_run(run, skip, stages):
    found = Role("host").read("__host_stages", ansible_run_tags=run, ansible_skip_tags=skip)
    assert sorted(found) == sorted(stages)


def refusal(stages, install=True, **changes):
    """Return (reasons for a reboot, users that prevent it) for a host with a newer bundle and a running VM."""
    known = {
        "__preflight_read": {"info": INFO, "plans": {}, "selected": []}, "preflight_stages": stages,
        "driver_plan": {"install": install, "version": "570.86.01", "problems": []},
        "iommu_plan": {"missing": [], "unwritten": [], "flags": []}, **changes,
    }
    role = Role("preflight")
    return role.read("__preflight_reboot_reasons", **known), role.read("__preflight_users", **known)


def test_a_newer_bundle_matters_only_to_runs_that_install_it():
    reasons, users = refusal(ALL)
    assert reasons == ["the driver 570.86.01 replaces the loaded driver 550.163.02"] and users == [USER]
    assert refusal(["vgpus"]) == ([], []), "nothing is installed and nothing reboots"
    assert refusal(["reboot", "vgpus"])[0] == [], "a change that no stage of this run makes must not cause a reboot"
    assert refusal(["driver"])[1] == [], "no reboot comes"
    assert refusal(ALL, vgpu_reboot="never")[1] == []


def test_problems_of_gpus_that_are_left_out_do_not_count():
    problems = [{"severity": "error", "code": "x", "device": one} for one in ("0000:e7:00.0", "0000:e8:00.0")]
    gpus = [{"address": one["device"]} for one in problems]
    read = {"info": {**INFO, "gpus": gpus, "problems": problems}, "plans": {}, "selected": ["0000:e8:00.0"]}
    found = Role("preflight").read("__preflight_found", __preflight_read=read, preflight_stages=["vgpus"], iommu_plan={"missing": []})
    assert [one["device"] for one in found] == ["0000:e8:00.0"]


def test_flags_that_no_stage_writes_are_no_reason_to_reboot():
    missing = {"missing": ["iommu=pt"], "unwritten": ["iommu=pt"], "flags": ["iommu=pt"]}
    assert refusal(["reboot"], iommu_plan=missing)[0] == []
    assert refusal(["iommu", "reboot"], install=False, iommu_plan=missing)[0] == ["the kernel runs without iommu=pt"]
    assert refusal(["reboot"], iommu_plan={**missing, "unwritten": []})[0] == ["the kernel runs without iommu=pt"]


def test_each_stage_runs_only_if_it_was_checked():
    """A stage runs only if preflight has checked the stage, even if a tag selects the stage's tasks."""
    for task in yaml.safe_load((ROLES / "host" / "tasks" / "main.yml").read_text(encoding="utf-8")):
        assert len(task["tags"]) == 1, "--skip-tags of one stage would also skip a task that several stages share"
        if task["tags"] != ["always"]:
            conditions = task["when"] if isinstance(task["when"], list) else [task["when"]]
            assert f"'{task['tags'][0]}' in __host_stages" in conditions or conditions == ["preflight_installs | bool"], task["name"]


def test_no_role_uses_what_is_another_roles_alone():
    for role in sorted(path.name for path in ROLES.iterdir()):
        for path in (ROLES / role).rglob("*"):
            if path.suffix in (".yml", ".j2"):
                found = set(re.findall(r"\b__[a-z]\w*", path.read_text(encoding="utf-8")))
                assert not [name for name in found if not name.startswith(f"__{role}_")], path


def test_the_boot_restores_from_the_first_vgpu_on():
    """The power can fail while the role applies the first layout. The layout is then already stored, but a boot restores it only if the unit is enabled."""
    tasks = yaml.safe_load((ROLES / "vgpus" / "tasks" / "main.yml").read_text(encoding="utf-8"))
    order = [next(key for key in task if "." in key) for task in tasks]
    enables = next(number for number, task in enumerate(tasks) if task.get("ansible.builtin.systemd_service", {}).get("enabled"))
    assert order.index("vgpu.kvm.nvidia_vgpu_restore") < enables < order.index("vgpu.kvm.nvidia_vgpu")


@pytest.mark.parametrize("flavour, mark, removes", [("vgpu", False, True), ("none", True, True), ("none", False, False), ("datacenter", False, False)])
def test_a_teardown_removes_what_an_interrupted_installation_left(flavour, mark, removes):
    """While the mark of an interrupted installation exists, the host has no driver. Without the mark, the leftover files would count as a complete driver."""
    known = {
        "__teardown_info": {"host": {"driver": {**DRIVER, "flavour": flavour}}}, "teardown_driver": True,
        "__teardown_mark": {"results": [{"stat": {"exists": mark}}, {"stat": {"exists": False}}]},
    }
    assert Role("teardown").read("__teardown_removes_driver", **known) is removes
