# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Machines on which nothing can be done are named before anything else."""

from __future__ import annotations

import os
from collections import namedtuple

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call


def unsupported(host):
    """What gpu_info says of it; nothing else may stand before."""
    told = call(nvidia_gpu_info, host).ok["problems"]
    found = [one["found"] for one in told if one["code"] == "host_unsupported"]
    assert [one["found"] for one in told[: len(found)]] == found
    return found


def test_an_ordinary_host_is_supported(make_host):
    host = make_host()
    host.kernel.xen = "hvm only\n"
    assert unsupported(host) == []


@pytest.mark.parametrize(
    "path, text, words",
    [
        ("/run/systemd/container", "lxc\n", "a container (lxc)"),
        ("/run/systemd/container", "", "a container (of some kind)"),
        ("/run/.containerenv", 'engine="podman-4"\n', "a container (podman)"),
        ("/.dockerenv", "", "a container (docker)"),
        ("/run/ostree-booted", "", "an image of ostree"),
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
    assert unsupported(host) == ["this machine is aarch64: unsupported", "this is the dom0 of Xen: unsupported"]
