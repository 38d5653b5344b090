# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A host that was taken from bare to running vGPUs, and back: what is left differs from before in named files alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Twin, launcher

pytestmark = pytest.mark.operations

FILES = (
    "find /etc /boot /usr/local /usr/lib/nvidia /var/lib/nvidia-vgpu /lib/modules -xdev \\( -type f -o -type l \\) -printf '%p %M %u %l\\n' "
    "2>/dev/null | sort; "
    "find /etc /boot /usr/local -xdev -type f -exec md5sum {} + | sort -k2"
)
STATE = (
    "for d in /sys/bus/pci/devices/*; do echo $d $(readlink $d/driver) $(cat $d/sriov_numvfs 2>/dev/null); done; "
    "lsmod | cut -d' ' -f1 | sort; cat /proc/cmdline"
)
# What a teardown leaves otherwise than it was, and why.
LEFT = (
    "/boot/initrd.img-",  # made anew, of the same files
    "/boot/grub/grubenv",  # GRUB's own
    "/etc/ld.so.cache",
    "/lib/modules/",  # depmod's indexes
    "/etc/udev/hwdb.bin",
)


@pytest.fixture(scope="module")
def host() -> Iterator[Twin]:
    """A bare twin with two GPUs that are meant for vfio-pci."""
    twin = Twin("system-teardown")
    try:
        twin.up("--gpus", "2")
        yield twin
    finally:
        twin.down()


@pytest.fixture(scope="module")
def variables() -> dict:
    """What a user's inventory would say."""
    return {
        "vgpu_driver_bundle": launcher("bundle").strip().splitlines()[-1],
        "vgpu_driver_dkms": False,
        "vgpu_scheduler": "equal_share",
        "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
    }


def test_there_and_back(host, variables):
    before, state = host.sh(FILES), host.sh(STATE)
    run = host.playbook("vgpu.kvm.host", variables)
    assert run.rc == 0 and len(host.mdevs()) == 4, run.out[-4000:]

    refused = host.playbook("vgpu.kvm.teardown", variables)
    assert refused.rc and "-e vgpu_teardown=true" in refused.failure and len(host.mdevs()) == 4
    group = host.sh("basename $(readlink $(ls -d /sys/bus/mdev/devices/* | head -1)/iommu_group)")
    host.sh(f"exec 9<>/dev/vfio/{group}; (exec -a pretend-vm sleep 900) >/dev/null 2>&1 </dev/null & echo $! > /run/client.pid")
    refused = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown=True))
    assert refused.rc and "pretend-vm" in refused.failure and "nothing was changed" in refused.failure and len(host.mdevs()) == 4, refused.failure
    host.sh("kill $(cat /run/client.pid)")

    grown = host.sh(FILES)
    check = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown=True), "--check", "--diff")
    assert check.rc == 0 and host.sh(FILES) == grown and len(host.mdevs()) == 4, check.out[-4000:]

    run = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown=True))
    assert run.rc == 0, run.out[-4000:]
    after = host.sh(FILES)
    # (a changed file has two lines that differ)
    differing = sorted({line.split()[-1] if line[0] != "/" else line.split()[0] for line in set(before.splitlines()) ^ set(after.splitlines())})
    assert [path for path in differing if not path.startswith(LEFT)] == [], differing
    assert host.sh(STATE) == state

    again = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown=True))
    assert again.rc == 0 and again.changed == [], again.changed


def test_the_host_can_be_brought_up_again(host, variables):
    run = host.playbook("vgpu.kvm.host", variables)
    assert run.rc == 0 and len(host.mdevs()) == 4, run.out[-4000:]
