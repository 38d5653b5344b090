# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures for the system tests: a quick twin, which is restored from a snapshot before each test."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from support import Twin, launcher  # noqa: E402  (the line above extends sys.path)

GPU = "0000:e8:00.0"
OTHER_GPU = "0000:e7:00.0"


@pytest.fixture(scope="session")
def quick_machine() -> Iterator[Twin]:
    """Yield a quick twin with two GPUs and all VFs enabled. It has a snapshot from before and a snapshot from after the VFs were enabled."""
    twin = Twin("system-quick")
    try:
        twin.up("--tier", "quick", "--gpus", "2")
        twin.warm_up()
        launcher("snapshot", twin.name, "no-vfs")
        result = twin.module("nvidia_sriov")
        assert result["changed"] and not result["failed"], result
        launcher("snapshot", twin.name, "vfs")
        yield twin
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            twin.down()


@pytest.fixture
def bare(quick_machine: Twin) -> Twin:
    """Return the quick twin without enabled VFs."""
    launcher("restore", quick_machine.name, "no-vfs")
    return quick_machine


@pytest.fixture
def host(quick_machine: Twin) -> Twin:
    """Return the quick twin with all VFs enabled and no vGPU."""
    launcher("restore", quick_machine.name, "vfs")
    return quick_machine


class Client:
    """A process on the machine that keeps a file open, as a VM keeps its vGPU open."""

    def __init__(self, twin: Twin, path: str) -> None:
        self.twin = twin
        twin.sh(f"exec 9<>{path}; (exec -a pretend-vm sleep infinity) >/dev/null 2>&1 </dev/null & echo $! > /run/client.pid")
        self.pid = int(twin.sh("cat /run/client.pid"))

    def end(self) -> None:
        """Kill the process."""
        self.twin.sh(f"kill {self.pid}")


@pytest.fixture
def hold() -> type[Client]:
    """Return the class Client. An instance opens a file on a twin and keeps the file open."""
    return Client


def vfio_group(twin: Twin, uuid: str) -> str:
    """Return the path of a vGPU's VFIO group."""
    return "/dev/vfio/" + twin.sh(f"basename $(readlink /sys/bus/mdev/devices/{uuid}/iommu_group)")


def pretty(result: dict) -> str:
    """Format a result for an assertion's message."""
    return json.dumps(result, indent=1, default=str)
