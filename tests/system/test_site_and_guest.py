# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a site run for a host and a guest: the run compares the guest's driver with the host driver that it has just installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import ROOT, Twin, launcher

sys.path.insert(0, str(ROOT / "tests" / "twin" / "licence"))

import service as licences  # noqa: E402  (the line above extends sys.path)

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def host_and_guest() -> Iterator[tuple[Twin, Twin, dict]]:
    """Yield a bare host with one GPU, a bare VM, and the variables of both. The host's inventory contains the VM."""
    host, guest = Twin("site-host"), Twin("site-guest")
    service = licences.Service(guest.folder / "service")
    try:
        host.up("--gpus", "1")
        guest.up("--guest", "A40-24Q", "--memory", "1024")
        both = {twin.name: yaml.safe_load(twin.inventory.read_text(encoding="utf-8"))["all"]["hosts"][twin.name] for twin in (host, guest)}
        groups = {"vgpu_hosts": {"hosts": {host.name: {}}}, "vgpu_guests": {"hosts": {guest.name: {"vgpu_guest_host": host.name}}}}
        host.inventory.write_text(yaml.safe_dump({"all": {"hosts": both, "children": groups}}), encoding="utf-8")
        variables = {
            "vgpu_driver_bundle": str(Path(launcher("bundle").strip().splitlines()[-1])),
            "vgpu_driver_dkms": False,
            "vgpu_guest_driver_dkms": False,
            "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
            "vgpu_license_token": service.token(),
        }
        yield host, guest, variables
    finally:
        service.close()
        guest.down()
        host.down()


def test_one_run_brings_both_and_a_second_changes_nothing(host_and_guest):
    host, guest, variables = host_and_guest
    run = host.playbook("vgpu.kvm.site", variables)
    assert run.rc == 0, run.out[-4000:]
    assert sorted(name for dummy, name in host.mdevs().values()) == ["A40-24Q"] * 2
    assert "Licensed (Expiry" in guest.sh("nvidia-smi -q")
    assert "is unknown" not in run.out, "the run must know the version of the host driver"
    again = host.playbook("vgpu.kvm.site", variables)
    assert again.rc == 0 and again.changed == [], again.changed


def test_a_guests_package_on_a_host_is_told(host_and_guest):
    host, dummy, variables = host_and_guest
    refused = host.playbook("vgpu.kvm.host", dict(variables, vgpu_driver_bundle="NVIDIA-Linux-x86_64-550.163.01-grid.run"))
    assert "the package contains the vGPU guest driver" in refused.failure and "Host_Drivers" in refused.failure, refused.failure


def test_a_guest_that_is_newer_than_its_host_is_refused(host_and_guest):
    host, dummy, variables = host_and_guest
    refused = host.playbook("vgpu.kvm.guest", dict(variables, vgpu_host_driver_version="535.161.05"))
    assert "550.163.01 is newer than the host driver 535.161.05" in refused.failure, refused.failure
