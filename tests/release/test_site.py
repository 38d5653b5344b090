# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Configures a bare host as a vGPU host with only the artifact and the newest ansible-core.

The tests run in order: each test starts from the state that the previous one left.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import make
import pytest
from installed import Installed

sys.path.insert(0, str(make.ROOT / "tests" / "system"))

from support import Run, Twin, launcher  # noqa: E402  (the line above extends sys.path)

pytestmark = [pytest.mark.newest, pytest.mark.booted]

GPU = "0000:e8:00.0"
LAYOUT = [{"gpu": "all", "vgpus": []}, {"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.fixture(scope="module")
def host(newest: Installed) -> Iterator[Twin]:
    """Boot a bare full twin without a driver and with the IOMMU disabled. Ansible finds only the installed collection."""
    twin = Twin("release-site")
    twin.programs = newest.programs
    twin.settings.update(ANSIBLE_COLLECTIONS_PATH=str(newest.path), ANSIBLE_DEPRECATION_WARNINGS="true")
    try:
        twin.up("--tier", "full", "--gpus", "2")
        yield twin
    finally:
        twin.down()


@pytest.fixture(scope="module")
def variables() -> dict:
    """Return the variables of a user's inventory, with the checksum of the bundle."""
    bundle = launcher("bundle").strip().splitlines()[-1]
    digest = hashlib.sha256(Path(bundle).read_bytes()).hexdigest()
    # The bundle has a compiled module for the twin's kernel; compiling it under emulation would take minutes.
    return {"vgpu_driver_bundle": bundle, "vgpu_driver_checksum": f"sha256:{digest}", "vgpu_driver_dkms": False, "vgpu_layout": LAYOUT}


def succeeded(run: Run) -> None:
    """Assert that the run succeeded without deprecation warnings."""
    assert run.rc == 0, run.out[-4000:]
    assert "DEPRECATION" not in run.out, run.out


def boot(host: Twin) -> str:
    """Return the kernel's id of this boot."""
    return host.sh("cat /proc/sys/kernel/random/boot_id")


def test_only_the_installed_collection_is_used(host: Twin, newest: Installed) -> None:
    succeeded(host.playbook("vgpu.kvm.site", {}, "--list-tasks"))
    host.settings["ANSIBLE_COLLECTIONS_PATH"] = str(newest.home)
    try:
        without = host.playbook("vgpu.kvm.site", {}, "--list-tasks")
    finally:
        host.settings["ANSIBLE_COLLECTIONS_PATH"] = str(newest.path)
    assert without.rc != 0 and "could not be found" in without.out, without.out


def test_a_bare_host_gets_its_vgpus(host: Twin, variables: dict) -> None:
    before = boot(host)
    succeeded(host.playbook("vgpu.kvm.site", variables))
    assert sorted(host.mdevs().values()) == [("0000:e8:00.4", "A40-24Q"), ("0000:e8:00.5", "A40-24Q")]
    assert boot(host) != before


def test_the_second_run_changes_nothing(host: Twin, variables: dict) -> None:
    before = host.mdevs(), boot(host)
    run = host.playbook("vgpu.kvm.site", variables)
    succeeded(run)
    assert run.changed == [] and len(run.remote_tasks) <= 8
    assert (host.mdevs(), boot(host)) == before
