# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the preflight role's message if its first module returns no result. All cases are hosts of one run of ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "preflight"
# By host name: the module's result as Ansible returns it.
NO_RIGHTS = {
    "password": {"failed": True, "msg": "Missing sudo password"},
    "no-password": {"failed": True, "rc": 1, "module_stdout": "", "module_stderr": "sudo: a password is required\n", "msg": "MODULE FAILURE"},
    "single-commands": {
        "failed": True, "rc": 1, "module_stdout": "", "msg": "MODULE FAILURE",
        "module_stderr": "Sorry, user joe is not allowed to execute '/bin/sh -c echo' as root on host.\n",
    },
    "stream": {"failed": True, "msg": "Task failed: Premature end of stream waiting for become success.\n>>> Standard Error\nsudo: a password is required"},
    "su": {"failed": True, "rc": 1, "module_stdout": "su: Authentication failure\n", "module_stderr": "", "msg": "MODULE FAILURE"},
    "timeout": {"failed": True, "msg": "Timeout (12s) waiting for privilege escalation prompt: "},
}
OTHERS = {
    "options": ({"failed": True, "msg": "argument 'num_vfs' is of type str and we were unable to convert to int"}, "unable to convert to int"),
    "crash": (
        {"failed": True, "rc": 1, "module_stdout": "", "msg": "MODULE FAILURE", "module_stderr": "Traceback (most recent call last):\nMemoryError\n"},
        "MemoryError",
    ),
    "python": (
        {"failed": True, "rc": 127, "module_stdout": "/bin/sh: 1: /usr/bin/python3.11: not found\r\n", "module_stderr": "", "msg": "MODULE FAILURE"},
        "python3.11: not found",
    ),
    "killed": ({"failed": True, "rc": 137, "module_stdout": "", "module_stderr": "", "msg": "MODULE FAILURE"}, "MODULE FAILURE"),
    "own": ({"failed": True, "errors": [{"code": "x"}], "msg": "0000:e8:00.0: it does not answer."}, "0000:e8:00.0: it does not answer."),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Return the report of each case by its name."""
    directory = tmp_path_factory.mktemp("texts")
    cases = {**NO_RIGHTS, **{name: result for name, (result, dummy) in OTHERS.items()}}
    tasks = [
        {"ansible.builtin.set_fact": {"text": "{{ lookup('ansible.builtin.template', '%s/templates/unreadable.txt.j2') }}" % ROLE}},
        {
            "ansible.builtin.copy": {
                "content": "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'text'))) | to_json }}",
                "dest": str(directory / "texts.json"),
            },
            "run_once": True,
        },
    ]
    play = {"hosts": "all", "gather_facts": False, "vars_files": [str(ROLE / "vars" / "main.yml")], "tasks": tasks}
    hosts = {name: {"__preflight_read": result} for name, result in cases.items()}
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
    settings = {**os.environ, "ANSIBLE_HOME": str(directory / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.yml"), str(directory / "play.yml")]
    ended = subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    return json.loads((directory / "texts.json").read_text())


@pytest.mark.parametrize("name", sorted(NO_RIGHTS))
def test_rights_that_are_missing_are_named(texts, name):
    assert "cannot run Ansible's modules as root (sudo)" in texts[name] and "sudoers" in texts[name], texts[name]


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_another_failure_is_not_taken_for_missing_rights(texts, name):
    assert OTHERS[name][1] in texts[name] and "as root" not in texts[name] and "sudoers" not in texts[name], texts[name]
    assert name == "own" or "-vvv" in texts[name]
