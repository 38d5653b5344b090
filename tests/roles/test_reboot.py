# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the roles do not reboot a machine while another run or a package installation changes the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLES_DIRECTORY = Path(__file__).resolve().parents[2] / "roles"
BUSY = "pid 812 (apt-get --yes upgrade) holds /var/lib/dpkg/lock-frontend"
# The results of reading the machine. These extra variables override the variables that the tasks register.
KERNELS = {"kernel": "6.1.0-50-amd64", "next_kernel": {"release": None, "driver": None}, "driver": {"on_disk": None}}
HOST = {"in_use": [], "in_the_way": [], "busy": [BUSY], "host": KERNELS}
ROLES = {
    "host": {"__host_before": HOST, "__host_reboot_reasons": ["the test needs a reboot"]},
    "guest": {"__guest_before": {"gpus": [], "busy": [BUSY]}, "__guest_reboot_reasons": ["the test needs a reboot"]},
    "teardown": {"__teardown_before": HOST, "__teardown_reboot_reasons": ["the test needs a reboot"]},
}


def run(directory, role, variables, hosts="one,", *options, tasks="reboot"):
    """Run the role's reboot tasks and return the process with its output. The connection is local, so the run cannot reboot the machine."""
    tasks = [{"ansible.builtin.include_role": {"name": "vgpu.kvm.%s" % role, "tasks_from": tasks}}]
    (directory / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    (directory / "variables.json").write_text(json.dumps({**variables, "ansible_connection": "local", "ansible_become": False}))
    settings = {**os.environ, "ANSIBLE_HOME": str(directory / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", hosts, "-e", "@%s" % (directory / "variables.json"), str(directory / "play.yml"), *options]
    return subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_machine_that_is_being_changed_is_not_rebooted(tmp_path, role):
    ended = run(tmp_path, role, ROLES[role])
    assert ended.returncode == 2 and BUSY in ended.stdout, ended.stdout
    assert "would reboot the control node" not in ended.stdout, "the reboot was attempted before the check"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_machine_that_nobody_changes_is_rebooted(tmp_path, role):
    (before,) = [name for name in ROLES[role] if name.endswith("_before")]
    ended = run(tmp_path, role, {**ROLES[role], before: {**ROLES[role][before], "busy": []}})
    assert "would reboot the control node" in ended.stdout, ended.stdout


def test_each_vm_is_asked_when_it_is_its_turn(tmp_path):
    """The reboot of the first VM can take minutes, during which the state of the other VMs can change. The tests in tests/fleet cover hosts."""
    idle = {**ROLES["guest"], "__guest_before": {"gpus": [], "busy": []}}
    ended = run(tmp_path, "guest", idle, "one,two", "--forks", "1")
    tasks = re.findall(r"^TASK \[.*: (.*?)\]", ended.stdout, re.MULTILINE)
    asked = [name for name in tasks if name.startswith("Reboot | Refuse while the") or name == "Reboot | Reboot"]
    assert len(asked) == 4 and asked[:2] == asked[2:], ended.stdout


def test_the_drivers_package_stays_while_somebody_came_meanwhile(tmp_path):
    users = [{"pid": 88, "command": "python3 train.py", "vm": None, "devices": []}]
    known = {
        "__teardown_mark": {"results": []}, "__teardown_uninstaller": {"stat": {"exists": False}}, "__teardown_packages": ["nvidia-vgpu-ubuntu-550"],
        "__teardown_info": {"host": {"distribution": {"family": "debian"}}}, "__teardown_meanwhile": {"in_use": users},
    }
    ended = run(tmp_path, "teardown", known, "one,", "--check", tasks="driver")
    assert ended.returncode == 2 and "pid 88 (python3 train.py)" in ended.stdout and "with apt" not in ended.stdout, ended.stdout


def test_teardown_removes_what_names_the_operators_key(tmp_path):
    """DKMS reads the settings file whenever it builds a module, even if the key in the file no longer exists."""
    path = tmp_path / "vgpu-kvm.conf"
    path.write_text("mok_signing_key=/root/mok.key\n")
    run(tmp_path, "teardown", {"__teardown_dkms_settings": str(path)}, "one,", "--check", tasks="dkms")
    assert path.exists()
    ended = run(tmp_path, "teardown", {"__teardown_dkms_settings": str(path)}, tasks="dkms")
    assert ended.returncode == 0 and not path.exists(), ended.stdout
    driver, teardown = (yaml.safe_load((ROLES_DIRECTORY / role / "vars" / "main.yml").read_text(encoding="utf-8")) for role in ("driver", "teardown"))
    assert driver["__driver_dkms_settings"] == teardown["__teardown_dkms_settings"]


def test_the_enablement_of_the_restore_is_on_the_disk(tmp_path):
    """systemctl does not sync the symlink of an enabled unit to disk. After a reset right after a successful run, the host would boot without vGPUs."""
    tasks = yaml.safe_load((ROLES_DIRECTORY / "vgpus" / "tasks" / "main.yml").read_text(encoding="utf-8"))
    names = [task["name"] for task in tasks]
    enables, syncs = tasks[names.index("Enable the restore at boot")], tasks[names.index("Sync the enablement to disk")]
    assert names.index("Enable the restore at boot") + 1 == names.index("Sync the enablement to disk")
    assert syncs["ansible.builtin.command"]["argv"] == ["sync", "-f", "/etc/systemd/system"]
    assert "%s is changed" % enables["register"] in syncs["when"]
