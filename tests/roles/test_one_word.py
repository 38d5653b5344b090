# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of list variables that contain a single word, as set with -e. Ansible's argument validation accepts the word without converting it to a list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
USED = {"gpus": [{"in_use_by": [{"pid": 7, "command": "/usr/bin/python3 train.py", "vm": None}]}]}
MACHINE = {"host": {"distribution": {"family": "debian", "id": "debian"}, "kernel": "6.1.0", "driver": {}}}
# By host name: the expression, its expected value, and the variables.
CASES = {
    "in-a-word": ("__guest_users | map(attribute='pid')", [7], {"guest_reboot_allow": "install-job"}),
    "in-a-list": ("__guest_users | map(attribute='pid')", [7], {"guest_reboot_allow": ["install-job"]}),
    "allowed": ("__guest_users | map(attribute='pid')", [], {"guest_reboot_allow": "python3"}),
    "among-others": ("__guest_users | map(attribute='pid')", [], {"guest_reboot_allow": "gedit, python3"}),
    "everybody": ("__guest_users | map(attribute='pid')", [], {"guest_reboot_allow": "all"}),
    "nobody": ("__guest_users | map(attribute='pid')", [7], {"guest_reboot_allow": ""}),
    "gpu": ("__preflight_numbers", [], {"vgpu_gpus": "0000:e8:00.0"}),
    "number": ("__preflight_numbers", [3420.0], {"vgpu_gpus": 3420.0}),
    "package": ("__driver_packages", ["pciutils", "tar"], {"driver_packages": "tar", "driver_dkms": False, "driver_kind": "host", "driver_info": MACHINE}),
}


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """Return the value of each expression by the case's name."""
    directory = tmp_path_factory.mktemp("values")
    hosts = {
        name: {**variables, "ansible_connection": "local", "__guest_before": USED, "expression": "{{ %s }}" % expression}
        for name, (expression, dummy, variables) in CASES.items()
    }
    content = "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'found') | map('default', 'an error'))) | to_json }}"
    tasks = [
        {"ansible.builtin.set_fact": {"found": "{{ expression }}"}, "ignore_errors": True},
        {"ansible.builtin.copy": {"content": content, "dest": str(directory / "values.json")}, "run_once": True},
    ]
    files = [str(ROLES / role / "vars" / "main.yml") for role in ("guest", "preflight", "driver")]
    (directory / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": tasks}]))
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    settings = {**os.environ, "ANSIBLE_HOME": str(directory / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.yml"), str(directory / "play.yml")]
    ended = subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert (directory / "values.json").exists(), ended.stdout
    return json.loads((directory / "values.json").read_text())


@pytest.mark.parametrize("name", sorted(CASES))
def test_one_word_is_a_list_of_one(values, name):
    assert values[name] == CASES[name][1]
