# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests in which the power fails directly after each write of the kernel command line: the host boots, and the next run sets the flags."""

from __future__ import annotations

import os
from collections.abc import Iterator

import power
import pytest
from harness import Remote, Twin
from support import launcher

MODULE = "nvidia_kernel_cmdline"
FLAGS = ["intel_iommu=on", "iommu=pt"]
LOADERS = ("bios", "grub-efi", "systemd-boot")
# System calls after which the next boot can read different files. Writes to temporary files do not matter until the files are renamed.
NAMED = ("rename", "unlink", "truncate", "link", "symlink")


@pytest.fixture(params=LOADERS)
def bare(request) -> Iterator[Twin]:
    """Yield a bare twin with one GPU. The IOMMU is disabled at the first boot."""
    twin = Twin(f"crash-{request.param}")
    try:
        twin.up("--gpus", "1", "--boot", request.param)
        yield twin
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            twin.down()


def moments(points: list[str]) -> list[int]:
    """Return the numbers of the system calls that directly follow a call that renamed, truncated, or removed a file."""
    return [number + 2 for number, point in enumerate(points[:-1]) if any(word in point for word in NAMED)]


@pytest.mark.booted
@pytest.mark.loaders
def test_power_cut_behind_each_write(bare, tally):
    remote = Remote(bare)
    launcher("snapshot", bare.name, "start")
    remote.again()
    points = remote.ask({"module": MODULE, "arguments": {"flags": FLAGS}, "kill_at": 10**6})["points"]
    assert moments(points), points
    for number in moments(points):
        remote.close()
        launcher("restore", bare.name, "start")
        remote.again()
        answer = remote.ask({"module": MODULE, "arguments": {"flags": FLAGS}, "kill_at": number})
        power.cut(bare.name)
        said = f"power cut before {answer['killed']}, after {points[number - 2]}"
        assert answer["killed"], said
        power.wait_until_up(bare.name)
        remote.again()
        result = remote.module(MODULE, flags=FLAGS)
        assert all(not entry["missing_flags"] for entry in result["next_boot"]) and result["next_boot"], f"{said}\n{result}"
        assert not remote.module(MODULE, flags=FLAGS)["changed"], said
        left = remote.shell("find /etc /boot /var/lib/vgpuctl -xdev -name '.vgpu-*'; find /boot/efi -name '.vgpu-*' 2>/dev/null; true")
        assert not left.strip(), f"{said}\n{left}"
        power.cut(bare.name)
        power.wait_until_up(bare.name)
        words = bare.sh("cat /proc/cmdline").split()
        assert [word for word in words if "iommu" in word][-2:] == FLAGS, f"{said}\n{words}"
        tally.add(f"power cuts after a write of the command line, {bare.name}")
    remote.close()
