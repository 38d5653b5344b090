# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the driver role's plan for a bundle, before any change. All cases are hosts of one run of ansible-playbook.

Each host is a directory with the files that the modules read, and a stand-in for modinfo.
"""

from __future__ import annotations

import json
import os
import re
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
UBUNTU_22 = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n'
ROCKY = 'ID=rocky\nID_LIKE="rhel centos fedora"\nVERSION_ID="%s"\nPRETTY_NAME="Rocky Linux %s"\n'
ROCKY_8, ROCKY_9 = ROCKY % ("8.10", "8.10"), ROCKY % ("9.4", "9.4")
KERNEL = "5.15.0-91-generic"
# The vGPU that the VM has.
_AT = "sys/bus/pci/devices/0000:06:00.0/"
VGPU = {_AT + "vendor": "0x10de\n", _AT + "device": "0x2235\n", _AT + "class": "0x030000\n", _AT + "config": "\xde\x10", _AT + "revision": "0xa1\n"}
# Ubuntu's kernels from 7.0 on have no package of extra modules.
APT_CACHE = """#!/bin/sh
case $2 in
*-7.*) echo "E: No packages found" >&2; exit 100;;
*) echo "Package: $2";;
esac
"""
# A stand-in for modinfo that prints the version of NVIDIA's driver on disk, if the case has one.
MODINFO = """#!/bin/sh
[ -n "$FAKE_DRIVER" ] && [ "$2" = version ] && echo "$FAKE_DRIVER"
"""
UBUNTU_ZIP = "NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip"
RENAMED_ZIP = "NVIDIA-GRID-RHEL-8.8-KVM-1.zip"
RHEL_ZIP = "NVIDIA-GRID-RHEL-8.8-KVM-525.125.03-525.125.06-529.11.zip"
# By host name: the role's variables. Names with the prefix "on_" describe the machine.
CASES = {
    "host": {"driver_bundle": UBUNTU_ZIP, "driver_format": "deb"},
    "guest": {"driver_bundle": UBUNTU_ZIP, "driver_format": "deb", "driver_kind": "guest"},
    "renamed": {"driver_bundle": RENAMED_ZIP, "driver_format": "deb", "driver_module_type": "open"},
    "kernel-7": {"on_kernel": "7.0.0-10-generic"},
    "rpm-on-ubuntu": {"driver_bundle": RHEL_ZIP, "driver_format": "rpm"},
    "rhel-8-on-9": {"on_release": ROCKY_9, "driver_bundle": RHEL_ZIP, "driver_format": "rpm"},
    "rhel-8-on-8": {"on_release": ROCKY_8, "driver_bundle": RHEL_ZIP, "driver_format": "rpm"},
    "link-to-deb": {"driver_bundle": "https://example.com/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb", "driver_format": "run"},
    "datacenter": {"on_driver": "535.247.01", "driver_bundle": RENAMED_ZIP, "driver_format": "deb"},
    "plain": {"driver_bundle": "https://example.com/NVIDIA-Linux-x86_64-550.163.01.run?x=y"},
    "other-format": {"driver_bundle": UBUNTU_ZIP, "driver_format": "run"},
    "auto": {"driver_bundle": UBUNTU_ZIP},
    "auto-rpm": {"on_release": ROCKY_8, "driver_bundle": RHEL_ZIP},
    "auto-none": {"on_release": ROCKY_9, "driver_bundle": UBUNTU_ZIP},
    "auto-link": {"driver_bundle": "https://example.com/NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip?autho=SECRETMARK"},
    "damaged": {"driver_bundle": UBUNTU_ZIP, "driver_checksum": "sha256:" + "0" * 64},
    "installed": {"on_driver": "525.85.07", "on_manager": True, "driver_bundle": UBUNTU_ZIP, "driver_checksum": "sha256:" + "0" * 64},
    "two-errors": {"driver_bundle": "missing.zip", "driver_version": "525.85.07", "driver_mok_key": "missing.key"},
    # Cases that use the collection's public names.
    "public": {"vgpu_driver_bundle": UBUNTU_ZIP, "vgpu_driver_format": "deb", "vgpu_driver_dkms": False},
    "public-guest": {"vgpu_driver_bundle": UBUNTU_ZIP, "vgpu_driver_format": "run", "vgpu_guest_driver_format": "deb", "driver_kind": "guest"},
}

MARK = "SECRETMARK-31c7"
NAME = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
# URLs with typical copy errors.
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
CASES.update({"link-" + name: {"driver_bundle": link, "driver_checksum": "sha256:" + "0" * 64} for name, link in LINKS.items()})
# Cases whose packages the tests check.
PACKAGES = ["host", "guest", "kernel-7", "rhel-8-on-8"]


def machine(root, variables):
    """Create a directory with the files of a machine and return its path."""
    files = {
        "etc/os-release": variables.get("on_release", UBUNTU_22),
        "proc/sys/kernel/osrelease": variables.get("on_kernel", KERNEL) + "\n",
        "proc/cmdline": "quiet\n",
        "usr/sbin/update-initramfs": "",
        **({"usr/bin/nvidia-vgpu-mgr": ""} if "on_manager" in variables else {}),
        **(VGPU if variables.get("driver_kind") == "guest" else {}),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return str(root)


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Return the plan of each case by its name."""
    directory = tmp_path_factory.mktemp("plans")
    for name, members in BUNDLES.items():
        with zipfile.ZipFile(directory / name, "w") as handle:
            for member, content in members.items():
                handle.writestr(member, content)
    hosts = {name: {**variables, "root": machine(directory / name, variables)} for name, variables in CASES.items()}
    modules = ("nvidia_host_plan", "nvidia_gpu_info", "nvidia_guest_info", "nvidia_driver_download")
    defaults = {"vgpu.kvm.%s" % name: {"sysfs_root": "{{ root }}"} for name in modules}
    tasks = [
        {"vgpu.kvm.nvidia_gpu_info": None, "register": "read"},
        {"ansible.builtin.include_role": {"name": "vgpu.kvm.driver", "tasks_from": "check"}},
        {
            "ansible.builtin.include_role": {
                "name": "vgpu.kvm.driver", "tasks_from": "kernel_modules", "public": True, "apply": {"check_mode": True},
            },
            "when": "inventory_hostname in %r" % (PACKAGES,),
        },
        {
            "ansible.builtin.set_fact": {
                "plan": "{{ driver_plan | combine({'packages': __driver_packages | default([]), 'request': driver_request, 'read': read['problems']}) }}",
            },
        },
        {
            "ansible.builtin.copy": {
                "content": "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'plan'))) | to_json }}",
                "dest": str(directory / "plans.json"),
            },
            "run_once": True,
        },
    ]
    play = {
        "hosts": "all", "gather_facts": False, "tasks": tasks, "module_defaults": defaults,
        "environment": {"FAKE_DRIVER": "{{ on_driver | default('') }}"},
    }
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local", "ansible_become": False}}}))
    for name, text in (("apt-cache", APT_CACHE), ("modinfo", MODINFO)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
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
    assert (plans["renamed"]["request"]["module_type"], plans["host"]["request"]["module_type"]) == ("open", "auto")
    for role, module in (("preflight", "nvidia_host_plan"), ("driver", "nvidia_host_plan")):
        text = (ROLES / role / "tasks" / ("check.yml" if role == "driver" else "main.yml")).read_text(encoding="utf-8")
        assert "vgpu.kvm.%s:" % module in text and re.search(r'driver: "\{\{ driver_request\b', text), role


@pytest.mark.parametrize("name", sorted(LINKS))
def test_a_misspelled_link_is_refused_and_not_shown(plans, name):
    plan = plans["link-" + name]
    assert MARK not in json.dumps(plan) and plan["version"] == "550.163.02"
    (problem,) = plan["problems"]
    words = {
        "no-scheme": "or a URL that begins with https://",
        "user-and-no-scheme": "or a URL that begins with https://",
        "escaped": "or a URL that begins with https://",
    }
    assert "(%s)" % NAME in problem or "bundle: %s does not exist" % NAME in problem, problem
    assert words.get(name, "is a URL without TLS" if name == "without-tls" else "is an incomplete or invalid URL") in problem, problem


def test_packages_for_another_distribution_are_refused_beforehand(plans):
    (problem,) = plans["rpm-on-ubuntu"]["problems"]
    assert "vgpu_driver_format is rpm, but the distribution is Ubuntu 22.04.5 LTS" in problem and "vgpu_driver_format: run" in problem
    (problem,) = plans["rhel-8-on-9"]["problems"]
    assert "NVIDIA-vGPU-rhel-8.8-525.125.03.x86_64.rpm" in problem and "the distribution is Rocky Linux 9.4" in problem
    assert plans["rhel-8-on-8"]["problems"] == []
    assert "Set 'vgpu_driver_format: deb'" in plans["link-to-deb"]["problems"][0]


def test_packages_are_installed_as_the_run_is():
    """nvidia_driver first checks whether the driver is in use. Downgrades need permission, and only a missing module causes a reinstallation."""
    tasks = yaml.safe_load((ROLES / "driver/tasks/install_package.yml").read_text(encoding="utf-8"))
    guard, options = tasks[0], tasks[0]["vgpu.kvm.nvidia_driver"]
    assert not {"check_mode", "failed_when", "when"} & set(guard), "the module must always run, because it also removes conflicting drivers"
    assert {"kind", "version", "format", "src", "replace_datacenter", "allow_downgrade", "module_type", "signing_key", "signing_certificate"} <= set(options)
    for module, again in (("ansible.builtin.apt", "dpkg"), ("ansible.builtin.dnf", "rpm")):
        (number,) = [number for number, one in enumerate(tasks) if module in one]
        install, reinstall = tasks[number], tasks[number + 1]
        assert install[module]["allow_downgrade"] == "{{ driver_allow_downgrade }}"
        assert reinstall["ansible.builtin.command"]["argv"][0] == again and "%s is not changed" % install["register"] in reinstall["when"]


def test_the_operators_directory_is_neither_changed_nor_removed():
    """The operator's directory can contain other programs' files, so the role uses a subdirectory."""
    paths = set()
    for path in sorted((ROLES / "driver/tasks").glob("*.yml")):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        while found:
            task = found.pop()
            found += [one for key in ("block", "rescue", "always") for one in task.get(key, [])]
            paths.add(task.get("ansible.builtin.file", {}).get("path"))
    assert not [path for path in paths if path and "driver_cache" in path], paths
    assert {"{{ __driver_directory }}", "{{ __driver_signing }}"} <= paths
    names = yaml.safe_load((ROLES / "driver/vars/main.yml").read_text(encoding="utf-8"))
    assert names["__driver_directory"] == "{{ driver_cache }}/vgpu-driver" and names["__driver_signing"].startswith("{{ __driver_directory }}/")


def test_a_link_to_the_data_center_driver_is_refused(plans):
    assert "the package contains NVIDIA's data center driver" in plans["plain"]["problems"][0]


def test_another_driver_is_refused_in_the_words_of_the_reading(plans):
    (read,) = [one for one in plans["datacenter"]["read"] if one["code"] == "driver_datacenter"]
    assert plans["datacenter"]["problems"] == ["%(found)s (expected: %(expected)s). %(remedy)s" % read]


def test_a_bundle_without_the_package_is_refused_beforehand(plans):
    (problem,) = plans["other-format"]["problems"]
    assert "the bundle contains no run package of the host driver" in problem and "Set 'format: deb' (in roles, the vgpu_driver_format variable)." in problem


def test_the_format_follows_the_bundle_and_the_distribution(plans):
    assert (plans["auto"]["problems"], plans["auto"]["format"], plans["auto"]["version"]) == ([], "deb", "525.85.07")
    assert (plans["auto-rpm"]["problems"], plans["auto-rpm"]["format"]) == ([], "rpm")
    (problem,) = plans["auto-none"]["problems"]
    assert "the bundle contains the host driver only as deb packages, but the distribution is Rocky Linux 9.4" in problem
    assert plans["auto-link"]["format"] == "deb", "the plan knows only the file name of a URL"


def test_a_link_is_not_part_of_the_plan(plans):
    assert "SECRETMARK" not in json.dumps(plans) and "vgpu_driver_checksum is not set" in plans["auto-link"]["problems"][0]


def test_the_checksum_is_compared_before_an_installation_alone(plans):
    (problem,) = plans["damaged"]["problems"]
    assert UBUNTU_ZIP in problem and "0" * 64 in problem
    assert (plans["installed"]["problems"], plans["installed"]["install"]) == ([], False)


def test_all_errors_are_reported_at_once(plans):
    text = "\n".join(plans["two-errors"]["problems"])
    assert (
        "missing.zip does not exist on the controller in any of these directories: " in text
        and "only one of vgpu_driver_mok_key and vgpu_driver_mok_certificate is set" in text
    )


def test_either_name_of_a_variable_has_the_same_effect(plans):
    for name, other in (("public", "host"), ("public-guest", "guest")):
        assert [plans[name][key] for key in ("problems", "version", "format")] == [plans[other][key] for key in ("problems", "version", "format")]
    assert plans["public"]["request"]["dkms"] is False and plans["host"]["request"]["dkms"] is True
