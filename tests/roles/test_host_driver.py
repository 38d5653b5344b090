# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""What the role host_driver finds of a bundle before anything is changed. All cases are hosts of one run of ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
UBUNTU = {"Host_Drivers/nvidia-vgpu-ubuntu-525_525.85.07_amd64.deb": "", "Guest_Drivers/nvidia-linux-grid-525_525.85.05_amd64.deb": ""}
BUNDLES = {
    "NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip": UBUNTU,
    "NVIDIA-GRID-RHEL-8.8-KVM-1.zip": UBUNTU,
    "NVIDIA-GRID-RHEL-8.8-KVM-525.125.03-525.125.06-529.11.zip": {"Host_Drivers/NVIDIA-vGPU-rhel-8.8-525.125.03.x86_64.rpm": ""},
}
HOST = {
    "kernel": "5.15.0-91-generic",
    "distribution": {"id": "ubuntu", "family": "debian", "version": "22.04", "name": "Ubuntu 22.04.5 LTS"},
    "driver": {"loaded": None, "on_disk": None, "flavour": "none", "nouveau_loaded": False, "scheduler": None},
    "secure_boot": False,
    "enrolled_certificates": [],
    "initramfs_tool": "update-initramfs",
}
# Kernels from 7.0 on have no package of extra modules.
APT_CACHE = """#!/bin/sh
case $2 in
*-7.*) echo "E: No packages found" >&2; exit 100;;
*) echo "Package: $2";;
esac
"""
# By the name of a host: the role's variables.
CASES = {
    "host": {"host_driver_bundle": "NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip", "host_driver_format": "deb"},
    "guest": {
        "host_driver_bundle": "NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip", "host_driver_format": "deb", "host_driver_kind": "guest",
    },
    "renamed": {"host_driver_bundle": "NVIDIA-GRID-RHEL-8.8-KVM-1.zip", "host_driver_format": "deb", "host_driver_module_type": "open"},
    "kernel-7": {"host_driver_info": {"host": {**HOST, "kernel": "7.0.0-10-generic"}}},
    "rpm-on-ubuntu": {"host_driver_bundle": "NVIDIA-GRID-RHEL-8.8-KVM-525.125.03-525.125.06-529.11.zip", "host_driver_format": "rpm"},
    "rhel-8-on-9": {
        "host_driver_info": {"host": {**HOST, "distribution": {"id": "rocky", "family": "redhat", "version": "9.4", "name": "Rocky Linux 9.4"}}},
        "host_driver_bundle": "NVIDIA-GRID-RHEL-8.8-KVM-525.125.03-525.125.06-529.11.zip", "host_driver_format": "rpm",
    },
    "rhel-8-on-8": {
        "host_driver_info": {"host": {**HOST, "distribution": {"id": "rocky", "family": "redhat", "version": "8.10", "name": "Rocky Linux 8.10"}}},
        "host_driver_bundle": "NVIDIA-GRID-RHEL-8.8-KVM-525.125.03-525.125.06-529.11.zip", "host_driver_format": "rpm",
    },
    "link-to-deb": {"host_driver_bundle": "https://example.com/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb"},
    "datacenter": {
        "host_driver_info": {
            "host": {**HOST, "driver": {**HOST["driver"], "on_disk": "535.247.01", "flavour": "datacenter"}},
            "problems": [{"code": "driver_datacenter", "device": None, "found": "FOUND", "expected": "EXPECTED", "remedy": "REMEDY."}],
        },
        "host_driver_bundle": "NVIDIA-GRID-RHEL-8.8-KVM-1.zip", "host_driver_format": "deb",
    },
    "plain": {"host_driver_bundle": "https://example.com/NVIDIA-Linux-x86_64-550.163.01.run?x=y"},
    "other-format": {"host_driver_bundle": "NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip"},
}

MARK = "SECRETMARK-31c7"
NAME = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
# Links that somebody copied badly.
LINKS = {
    "leading-space": " https://example.com/x/%s?autho=%s" % (NAME, MARK),
    "quotes-inside": "'https://example.com/x/%s?autho=%s'" % (NAME, MARK),
    "one-slash": "https:/u:%s@example.com/x/%s?autho=%s" % (MARK, NAME, MARK),
    "no-scheme": "example.com/x/%s?autho=%s" % (NAME, MARK),
    "user-and-no-scheme": "u:%s@example.com/x/%s" % (MARK, NAME),
    "two-lines": "https://example.com/x/%s?autho=exp=1\n~hmac=%s/%s" % (NAME, MARK, MARK),
    "folded": "https://example.com/x/%s?autho=exp=1 ~hmac=%s" % (NAME, MARK),
    "escaped": "example.com/x/%s%%3Fautho%%3D%s" % (NAME, MARK),
    "quoted-without-query": "'https://u:%s@example.com/x/%s'" % (MARK, NAME),
    "without-tls": "http://example.com/x/%s?autho=%s" % (NAME, MARK),
}
CASES.update({"link-" + name: {"host_driver_bundle": link, "host_driver_checksum": "sha256:" + "0" * 64} for name, link in LINKS.items()})
# Those of which the packages are looked at.
PACKAGES = ["host", "guest", "kernel-7", "rhel-8-on-8"]


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """The plan of each case, by its name."""
    directory = tmp_path_factory.mktemp("plans")
    for name, members in BUNDLES.items():
        with zipfile.ZipFile(directory / name, "w") as handle:
            for member, content in members.items():
                handle.writestr(member, content)
    hosts = {name: {"host_driver_info": {"host": HOST}, **variables} for name, variables in CASES.items()}
    tasks = [
        {"ansible.builtin.include_role": {"name": "vgpu.kvm.host_driver", "tasks_from": "check"}},
        {
            "ansible.builtin.include_role": {
                "name": "vgpu.kvm.host_driver", "tasks_from": "kernel_modules", "public": True, "apply": {"check_mode": True},
            },
            "when": "inventory_hostname in %r" % (PACKAGES,),
        },
        {"ansible.builtin.set_fact": {"plan": "{{ __host_driver_plan | combine({'packages': __host_driver_packages | default([])}) }}"}},
        {
            "ansible.builtin.copy": {
                "content": "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'plan'))) | to_json }}",
                "dest": str(directory / "plans.json"),
            },
            "run_once": True,
        },
    ]
    (directory / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
    apt_cache = directory / "apt-cache"
    apt_cache.write_text(APT_CACHE)
    apt_cache.chmod(0o755)
    settings = {**os.environ, "ANSIBLE_HOME": str(directory / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    settings["ANSIBLE_PIPELINING"] = "true"
    settings["PATH"] = "%s:%s" % (directory, os.environ["PATH"])
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.yml"), str(directory / "play.yml")]
    ended = subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert MARK not in ended.stdout
    return json.loads((directory / "plans.json").read_text())


def test_a_bundle_for_one_distribution(plans):
    assert (plans["host"]["problems"], plans["host"]["version"], plans["host"]["install"]) == ([], "525.85.07", True)
    assert (plans["guest"]["problems"], plans["guest"]["version"]) == ([], "525.85.05")


def test_the_content_of_a_bundle_counts_and_not_its_name(plans):
    assert (plans["renamed"]["problems"], plans["renamed"]["version"]) == ([], "525.85.07")


def test_extra_modules_are_installed_where_the_kernel_has_them(plans):
    assert plans["host"]["packages"][:2] == ["pciutils", "linux-modules-extra-5.15.0-91-generic"]
    assert plans["kernel-7"]["packages"] == ["pciutils", "dkms", "gcc", "make", "linux-headers-7.0.0-10-generic"]
    for name in ("guest", "rhel-8-on-8"):
        assert not [one for one in plans[name]["packages"] if "modules-extra" in one], name


def test_the_operators_module_type_reaches_the_planning(plans):
    assert (plans["renamed"]["module_type"], plans["host"]["module_type"]) == ("open", "auto")
    for role, plan in (("preflight/tasks/main.yml", "__host_driver_plan"), ("guest_driver/tasks/check.yml", "__host_driver_plan")):
        (task,) = [one for one in yaml.safe_load((ROLES / role).read_text(encoding="utf-8")) if "vgpu.kvm.nvidia_driver" in one]
        assert task["vgpu.kvm.nvidia_driver"]["module_type"] == "{{ %s['module_type'] }}" % plan, role


@pytest.mark.parametrize("name", sorted(LINKS))
def test_a_misspelled_link_is_refused_and_not_shown(plans, name):
    plan = plans["link-" + name]
    assert MARK not in json.dumps(plan) and plan["version"] == "550.163.02"
    (problem,) = plan["problems"]
    words = {"no-scheme": "a link begins with https://", "user-and-no-scheme": "a link begins with https://", "escaped": "a link begins with https://"}
    assert "(%s)" % NAME in problem or "bundle: %s is not" % NAME in problem, problem
    assert words.get(name, "is a link without TLS" if name == "without-tls" else "is no whole link") in problem, problem


def test_packages_for_another_distribution_are_refused_beforehand(plans):
    (problem,) = plans["rpm-on-ubuntu"]["problems"]
    assert "vgpu_driver_format is rpm, and this is Ubuntu 22.04.5 LTS" in problem and "vgpu_driver_format: run" in problem
    (problem,) = plans["rhel-8-on-9"]["problems"]
    assert "NVIDIA-vGPU-rhel-8.8-525.125.03.x86_64.rpm" in problem and "this is Rocky Linux 9.4" in problem
    assert plans["rhel-8-on-8"]["problems"] == []
    assert "Set vgpu_driver_format: deb" in plans["link-to-deb"]["problems"][0]


def test_packages_are_installed_as_the_run_is():
    """Guarded by the plan of nvidia_driver, older ones if allowed, and again where the module alone is missing."""
    tasks = yaml.safe_load((ROLES / "host_driver/tasks/install_package.yml").read_text(encoding="utf-8"))
    guard, options = tasks[0], tasks[0]["vgpu.kvm.nvidia_driver"]
    assert guard["check_mode"] is True and "failed_when" not in guard
    assert {"kind", "version", "replace_datacenter", "allow_downgrade", "module_type", "signing_key", "signing_certificate"} <= set(options)
    for module, again in (("ansible.builtin.apt", "dpkg"), ("ansible.builtin.dnf", "rpm")):
        (number,) = [number for number, one in enumerate(tasks) if module in one]
        install, reinstall = tasks[number], tasks[number + 1]
        assert install[module]["allow_downgrade"] == "{{ host_driver_allow_downgrade }}"
        assert reinstall["ansible.builtin.command"]["argv"][0] == again and "%s is not changed" % install["register"] in reinstall["when"]


def test_a_link_to_the_data_center_driver_is_refused(plans):
    assert "is the package of the data center driver" in plans["plain"]["problems"][0]


def test_another_driver_is_refused_in_the_words_of_the_reading(plans):
    assert plans["datacenter"]["problems"] == ["FOUND (expected: EXPECTED). REMEDY."]


def test_a_bundle_without_the_package_is_refused_beforehand(plans):
    (problem,) = plans["other-format"]["problems"]
    assert "it holds no run packages of the host driver" in problem and "Set format: deb (in roles vgpu_driver_format)." in problem
