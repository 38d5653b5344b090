# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of boot loaders with UEFI (OVMF): the site playbook creates vGPUs on a bare host, the power is cut, and the original command line is restored."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support import Twin, launcher

pytestmark = pytest.mark.loaders

FLAGS = ["intel_iommu=on", "iommu=pt"]
# Checksums of the files with the kernel's command line: files that the collection can edit, and files that the boot loader reads.
LOADER_FILES = (
    "find /boot/efi/loader /boot/grub/grub.cfg /etc/default/grub /etc/default/grub.d /etc/kernel -type f 2>/dev/null "
    "| grep -v random-seed | sort | xargs -r -d '\\n' md5sum"
)


@pytest.fixture(scope="module")
def variables() -> dict:
    """Return the variables of a user's inventory."""
    return {
        "vgpu_driver_bundle": launcher("bundle").strip().splitlines()[-1],
        "vgpu_driver_dkms": False,
        "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
    }


# With this setting, GRUB boots the entry that was last selected, which the collection cannot determine from a configuration file.
SAVED = "sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=saved/' /etc/default/grub && update-grub 2>/dev/null && grub-set-default 0 && sync"


@pytest.fixture(params=["systemd-boot", "grub-efi"])
def host(request) -> Iterator[Twin]:
    """Yield a bare twin with UEFI and one GPU that is configured for vfio-pci. GRUB_DEFAULT is "saved"."""
    twin = Twin(f"system-{request.param}")
    try:
        twin.up("--gpus", "1", "--boot", request.param)
        if request.param == "grub-efi":
            twin.sh(SAVED)
        yield twin
    finally:
        twin.down()


def flags(host: Twin) -> list[str]:
    """Return the IOMMU flags on the running kernel's command line in order."""
    return [word for word in host.sh("cat /proc/cmdline").split() if "iommu" in word]


def test_from_bare_to_vgpus_and_back(host, variables):
    before = host.sh(LOADER_FILES)
    assert flags(host) == ["intel_iommu=off"] and not host.sh("ls /sys/class/iommu")
    found = host.module("nvidia_gpu_info")
    assert found["host"]["bootloader"] == ("systemd-boot" if "systemd-boot" in host.name else "grub"), json.dumps(found["host"], indent=1)
    check = host.playbook("vgpu.kvm.site", variables, "--check")
    assert check.rc == 0 and host.sh(LOADER_FILES) == before, check.out[-4000:]
    run = host.playbook("vgpu.kvm.site", variables)
    assert run.rc == 0, run.out[-4000:]
    assert flags(host)[-2:] == FLAGS and host.sh("ls /sys/class/iommu"), host.sh("cat /proc/cmdline")
    vgpus = host.mdevs()
    assert len(vgpus) == 2, run.out[-4000:]
    again = host.playbook("vgpu.kvm.site", variables)
    assert again.rc == 0 and again.changed == [], again.changed
    launcher("power-cut", host.name)
    host.sh("systemctl start vgpu-restore")  # waits until the restore has finished
    assert host.mdevs() == vgpus and flags(host)[-2:] == FLAGS
    back = host.playbook("vgpu.kvm.teardown", {**variables, "vgpu_teardown_confirm": True})
    assert back.rc == 0, back.out[-4000:]
    assert host.sh(LOADER_FILES) == before
    launcher("power-cut", host.name)
    assert flags(host) == ["intel_iommu=off"] and host.mdevs() == {}
