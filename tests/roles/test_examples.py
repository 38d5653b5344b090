# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that each inventory in examples/ works unchanged: its layouts are applied to simulated hosts, which vgpu.kvm.host then reports as converged."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu, nvidia_vgpu_restore
from ansible_collections.vgpu.kvm.tests.roles import fleet_runs
from ansible_collections.vgpu.kvm.tests.unit.docs import test_pages as pages
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, L40S

EXAMPLES = fleet_runs.ROOT / "examples"
# The GPUs of the example hosts, by the example's directory and the prefix of the host name.
GPUS = {
    ("one-host", "gpu"): [("0000:e7:00.0", A40), ("0000:e8:00.0", A40)],
    ("fleet", "desk"): [("0000:e7:00.0", A40), ("0000:e8:00.0", A40)],
    ("fleet", "render"): [("0000:17:00.0", L40S), ("0000:65:00.0", L40S)],
    ("mig", "mig"): [("0000:17:00.0", A100), ("0000:65:00.0", A100)],
    ("vendor-vfio", "noble"): [("0000:e8:00.0", A40)],
    ("guests", "gpu"): [("0000:e8:00.0", A40)],
}
INVENTORIES = sorted(path.name for path in EXAMPLES.iterdir() if (path / "hosts.yml").exists())


def variables(path) -> tuple[dict, dict]:
    """Return (groups, variables by host) of an inventory, as Ansible reads it."""
    argv = [sys.executable, "-m", "ansible", "inventory", "-i", str(path), "--list"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"})
    found = json.loads(done.stdout)
    return found, found["_meta"]["hostvars"]


def members(groups: dict, name: str) -> list[str]:
    """Return the hosts of a group and of its child groups."""
    group = groups.get(name, {})
    return [*group.get("hosts", []), *(one for child in group.get("children", []) for one in members(groups, child))]


def gpus_of(example: str, name: str) -> list:
    """Return the GPUs of an example's host."""
    return next(gpus for (directory, begin), gpus in GPUS.items() if directory == example and name.startswith(begin))


def prepared(folder, example: str, name: str):
    """Return a simulated host with the example's GPUs, the installed driver and its services."""
    folder.mkdir()
    host = fleet_runs.simulated.Serving(folder, gpus=gpus_of(example, name), vendor_vfio=example == "vendor-vfio")
    host.put("/etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID_LIKE=debian\n')
    if example == "mig":
        host.pf().mig = host.pf().mig_pending = True
    return host.vfs_on()


def test_each_example_is_in_the_list_and_has_a_test():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    directories = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert all(f"]({name}/" in text for name in directories) and {name for name, dummy in GPUS} == set(INVENTORIES) == set(directories) - {"awx"}


@pytest.mark.parametrize("example", INVENTORIES)
def test_its_settings_are_settings_of_the_roles(example):
    """Each variable of hosts and guests is a setting of a role or playbook, and each value has the right type."""
    groups, found = variables(EXAMPLES / example)
    assert members(groups, "vgpu_hosts") and set(members(groups, "vgpu_hosts") + members(groups, "vgpu_guests")) == set(found)
    assert [text for one in found.values() for text in pages.wrong(one)] == []


@pytest.mark.parametrize("example", INVENTORIES)
def test_site_makes_its_hosts_and_finds_them_so(tmp_path, monkeypatch, example):
    monkeypatch.setenv("PATH", f"{fleet_runs.simulated.BIN}:{os.environ['PATH']}")
    groups, found = variables(EXAMPLES / example)
    names = members(groups, "vgpu_hosts")
    overlay = {}
    for name in names:
        host, mine = prepared(tmp_path / name, example, name), found[name]
        made = call(nvidia_vgpu, host, layout=mine["vgpu_layout"]).ok
        assert made["changed"] and not call(nvidia_vgpu, host, layout=mine["vgpu_layout"]).ok["changed"]
        call(nvidia_vgpu_restore, host).ok
        more = {"gpus": mine["vgpu_gpus"]} if "vgpu_gpus" in mine else {}
        answer = fleet_runs.put(tmp_path, f"{name}.json", fleet_runs.planned(host, mine["vgpu_layout"], **more))
        overlay.update(fleet_runs.inventory({name: answer}, [])["vgpu_hosts"]["hosts"])
    # A second inventory defines the connections. The driver is already installed, so the hosts need no bundle.
    over = fleet_runs.put(tmp_path, "overlay.json", {"all": {"hosts": overlay}})
    extra = json.dumps({"vgpu_driver_bundle": "", "vgpu_driver_version": "550.163.02", "ansible_become": False})
    done = fleet_runs.play(
        tmp_path, "-i", str(EXAMPLES / example), "-i", str(over), "vgpu.kvm.host", "-e", extra, config=EXAMPLES / "ansible.cfg",
    )
    assert done.returncode == 0, done.stdout
    for name in names:
        assert f"{name}: {len(gpus_of(example, name))} GPU" in done.stdout and "no changes, no reboot" in done.stdout, done.stdout


def test_the_playbooks_of_the_example_with_guests_start():
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(EXAMPLES / "guests"), "vgpu.kvm.site", "--list-hosts"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "ANSIBLE_CONFIG": str(EXAMPLES / "ansible.cfg")})
    assert all(name in done.stdout for name in ("gpu01", "web1", "web2"))


def test_the_settings_for_awx_are_settings_of_awx():
    mine = yaml.safe_load((EXAMPLES / "awx" / "mine.yml").read_text(encoding="utf-8"))
    known = yaml.safe_load((fleet_runs.ROOT / "awx" / "vars" / "settings.yml").read_text(encoding="utf-8"))
    assert set(mine) <= set(known) and all(isinstance(mine[name], type(known[name])) for name in mine)
    assert pages.wrong(mine["awx_hosts_variables"]) == [] and [text for one in mine["awx_guests"].values() for text in pages.wrong(one)] == []
