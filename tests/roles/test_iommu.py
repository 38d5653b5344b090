# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the iommu role's plan for a host's flags. All cases are hosts of one run of ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

FLAGS = ["intel_iommu=on", "iommu=pt"]
# By host name: the running kernel's command line, the command line of the next boot, and the lists in the plan.
CASES = {
    "bare": (["quiet"], ["quiet"], FLAGS, FLAGS),
    "there": ([*FLAGS, "quiet"], FLAGS, [], []),
    "in-other-words": (["intel_iommu=on,sm_on", "iommu.passthrough=1"], ["intel_iommu=on,igfx_off", "iommu=pt"], [], []),
    "taken-back-at-the-end": ([*FLAGS, "iommu=nopt"], [*FLAGS, "intel_iommu=off"], ["iommu=pt"], ["intel_iommu=on"]),
    "next-boot-unknown": (FLAGS, None, [], []),
    "by-hand": (FLAGS, ["quiet"], [], FLAGS),
}


def play(directory, tasks, hosts):
    """Return the output of a play, and the fact iommu_plan of each host."""
    last = {
        "ansible.builtin.copy": {
            "content": "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'iommu_plan'))) | to_json }}",
            "dest": str(directory / "plans.json"),
        },
        "run_once": True,
    }
    (directory / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [*tasks, last]}]))
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
    settings = {**os.environ, "ANSIBLE_HOME": str(directory / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_PIPELINING": "true"}
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.yml"), str(directory / "play.yml")]
    ended = subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout, json.loads((directory / "plans.json").read_text())


def host(running, coming):
    """Return the parts of nvidia_gpu_info's result for a host that the role reads."""
    return {
        "cmdline": running, "cpu_vendor": "GenuineIntel", "iommu": {"kind": "intel", "default_flags": FLAGS}, "bootloader": "grub",
        "distribution": {"family": "debian", "name": "Debian 12"}, "next_kernel": {"release": None, "driver": None, "cmdline": coming},
    }


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Return the plan of each case by its name."""
    hosts = {name: {"iommu_info": {"host": host(running, coming)}} for name, (running, coming, dummy, dummy2) in CASES.items()}
    return play(tmp_path_factory.mktemp("iommu"), [{"ansible.builtin.include_role": {"name": "vgpu.kvm.iommu", "tasks_from": "check"}}], hosts)[1]


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_missing_now_and_at_the_next_boot(plans, name):
    dummy, dummy2, missing, unwritten = CASES[name]
    assert plans[name] == {"flags": FLAGS, "missing": missing, "unwritten": unwritten}


def test_flags_in_force_start_no_module(tmp_path):
    """The test runs the whole role on the controller. The role must not change the controller."""
    hosts = {name: {"iommu_info": {"host": host(*CASES[name][:2])}} for name in ("there", "in-other-words", "next-boot-unknown")}
    out = play(tmp_path, [{"ansible.builtin.include_role": {"name": "vgpu.kvm.iommu"}}], hosts)[0]
    assert out.count("skipping: [") == 3 * len(hosts), out  # The skipped tasks read the host, remove the flags, and write the flags.
