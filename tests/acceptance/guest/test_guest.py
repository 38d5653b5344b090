# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a VM after the site playbook and after a reboot: the driver, the vGPU, and the license."""

from __future__ import annotations

import re
import time


def licence(host):
    """Return the status of the license."""
    text = host.check_output("nvidia-smi -q")
    return re.search(r"License Status\s*: (.*)", text).group(1)


def test_the_driver_is_loaded_and_comes_from_the_package_that_was_asked_for(host):
    assert host.file("/sys/module/nvidia/version").content_string.strip() == "550.163.01"
    is_deb = "molecule-guest-deb" in host.backend.get_hostname()
    with host.sudo():
        assert host.package("nvidia-linux-grid-550").is_installed == is_deb
        assert host.file("/var/lib/nvidia/log").exists != is_deb


def test_the_vgpu_is_the_one_that_was_meant(host):
    assert host.check_output("nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits") == "NVIDIA A40-24Q, 24576"


def test_the_daemon_runs_and_brings_the_licence_back_after_a_boot(host):
    service = host.service("nvidia-gridd")
    assert service.is_running and service.is_enabled
    deadline = time.monotonic() + 120
    while not licence(host).startswith("Licensed"):
        assert time.monotonic() < deadline, licence(host)
        time.sleep(1)  # poll every second


def test_the_token_is_for_root_alone(host):
    with host.sudo():
        folder = host.file("/etc/nvidia/ClientConfigToken")
        assert folder.mode == 0o700 and folder.user == "root"
        (name,) = folder.listdir()
        assert host.file(f"/etc/nvidia/ClientConfigToken/{name}").mode == 0o744
    assert host.run("cat /etc/nvidia/ClientConfigToken/*").rc != 0


def test_nothing_of_the_bundle_is_left(host):
    with host.sudo():
        assert host.run("find /var/cache/vgpuctl -mindepth 1").stdout == ""
