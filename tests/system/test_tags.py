# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of single stages, selected by tag: the run changes nothing else on the host, and a skipped stage causes no reboot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Twin, launcher

pytestmark = pytest.mark.operations

STATE = (
    "cat /proc/sys/kernel/random/boot_id; echo vfs $(cat /sys/bus/pci/devices/0000:e8:00.0/sriov_numvfs); "
    "echo vgpus $(ls /sys/bus/mdev/devices 2>/dev/null | wc -l); echo driver $(modinfo -F version nvidia 2>/dev/null); "
    "echo flags $(grep -c intel_iommu=on /boot/grub/grub.cfg)"
)


@pytest.fixture(scope="module")
def host() -> Iterator[Twin]:
    """Yield a bare twin with one GPU."""
    twin = Twin("system-tags")
    try:
        twin.up("--gpus", "1")
        yield twin
    finally:
        twin.down()


def test_each_stage_alone(host):
    variables = {
        "vgpu_driver_bundle": launcher("bundle").strip().splitlines()[-1],
        "vgpu_driver_dkms": False,
        "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
    }

    def run(*options: str) -> list[str]:
        """Run the host playbook with these options. Return the host's state after the run."""
        done = host.playbook("vgpu.kvm.host", variables, *options)
        assert done.rc == 0, done.out[-4000:]
        return host.sh(STATE).splitlines()

    bare = host.sh(STATE).splitlines()
    assert run("--tags", "reboot") == bare, "skipped stages must not cause a reboot"
    flags = run("--tags", "iommu")
    assert flags[:4] == bare[:4] and bare[4] == "flags 0" != flags[4]
    installed = run("--tags", "gpu_release,driver")
    assert installed[0] == bare[0] and installed[3] == "driver 550.163.02"
    rebooted = run("--tags", "reboot")
    assert rebooted[0] != bare[0] and rebooted[1:3] == ["vfs 0", "vgpus 0"]
    enabled = run("--tags", "services,sriov")
    assert enabled[0] == rebooted[0] and enabled[1] != "vfs 0" and enabled[2] == "vgpus 0"
    assert run("--skip-tags", "vgpus,verify")[2] == "vgpus 0"
    assert run("--tags", "vgpus")[2] == "vgpus 2"
    again = host.playbook("vgpu.kvm.host", variables)
    assert again.rc == 0 and again.changed == [], again.changed
