# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the Linux distribution is detected according to os-release(5), and how unsupported machines are reported."""

from __future__ import annotations

import os
from collections import namedtuple

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import platform
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

# os-release files of the distributions, shortened to the relevant keys and their neighboring lines.
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"\n'
RHEL = "ID='rhel'\nVERSION_ID='10.0'\nPRETTY_NAME='Red Hat Enterprise Linux 10.0 (Coughlan)'\n"
PROXMOX = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
SUSE = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\nPRETTY_NAME="openSUSE Leap 15.6"\n'


@pytest.mark.parametrize(
    "text, id, version, family",
    [
        (DEBIAN, "debian", "12", "debian"),
        (UBUNTU, "ubuntu", "24.04", "debian"),
        (ROCKY, "rocky", "9.4", "redhat"),
        (RHEL, "rhel", "10.0", "redhat"),
        (PROXMOX, "debian", "", "debian"),
        (SUSE, "opensuse-leap", "15.6", "other"),
        ('# ID=debian\nID\n=\nNAME="unclosed\nID=arch\n', "arch", "", "other"),
        ("", "linux", "", "other"),
    ],
)
def test_of(tmp_path, text, id, version, family):
    host = Host(tmp_path)
    host.put("/etc/os-release", text)
    found = platform.read(host.ctx)
    assert (found.id, found.version, found.family) == (id, version, family)
    assert found.name


def test_the_vendors_file_is_read_where_there_is_no_other(tmp_path):
    host = Host(tmp_path)
    assert vars(platform.read(host.ctx)) == {"id": "linux", "version": "", "name": "linux", "family": "other"}
    host.put("/usr/lib/os-release", ROCKY)
    assert platform.read(host.ctx).name == "Rocky Linux 9.4 (Blue Onyx)"
    host.put("/etc/os-release", DEBIAN)
    assert platform.read(host.ctx).id == "debian"


# --- a host_unsupported problem precedes all other problems


def unsupported(host):
    """Returns the texts of the host_unsupported problems from nvidia_gpu_info. Asserts that they precede all other problems."""
    problems = call(nvidia_gpu_info, host).ok["problems"]
    found = [one["found"] for one in problems if one["code"] == "host_unsupported"]
    assert [one["found"] for one in problems[: len(found)]] == found
    return found


def test_a_standard_host_is_supported(make_host):
    host = make_host()
    host.kernel.xen = "hvm only\n"
    assert unsupported(host) == []


@pytest.mark.parametrize(
    "path, text, words",
    [
        ("/run/systemd/container", "lxc\n", "a container (lxc)"),
        ("/run/systemd/container", "", "a container (unknown type)"),
        ("/run/.containerenv", 'engine="podman-4"\n', "a container (podman)"),
        ("/.dockerenv", "", "a container (docker)"),
        ("/run/ostree-booted", "", "an ostree image"),
    ],
)
def test_marks_in_files(make_host, path, text, words):
    host = make_host()
    host.put(path, text)
    (found,) = unsupported(host)
    assert words in found and found.endswith(": unsupported")


def test_xen_and_other_machines(make_host, monkeypatch):
    host = make_host()
    host.kernel.xen = "control_d\n"
    monkeypatch.setattr(os, "uname", lambda: namedtuple("uname", "machine")("aarch64"))
    assert unsupported(host) == ["this host has the architecture aarch64: unsupported", "this host is the dom0 of Xen: unsupported"]
