# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of invalid layouts and of hosts that are not ready: the module fails with one clear message and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import GPU, OTHER_GPU, pretty
from support import Twin

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
# Prints the state of the host that a module could change.
STATE = (
    "for d in /sys/bus/pci/devices/*; do echo $d $(readlink $d/driver) $(cat $d/driver_override $d/sriov_numvfs 2>/dev/null); done; "
    "ls /sys/bus/mdev/devices; find /etc -xdev -type f -exec cksum {} + | sort -k3"
)


def refused(twin: Twin, *words: str, **arguments: object) -> None:
    """Assert that the module fails for the layout, that its message contains these words, and that the host is unchanged."""
    before = twin.sh(STATE)
    for check in (True, False):
        result = twin.module("nvidia_vgpu", check=check, **arguments)
        assert result["failed"] and not result.get("changed"), pretty(result)
        for word in words:
            assert word in result["msg"], pretty(result)
    assert twin.sh(STATE) == before


def one(name: str, gpu: str = GPU, **more: object) -> dict:
    """Return a layout entry with one vGPU."""
    return {"gpu": gpu, "vgpus": [dict({"type": name}, **more)]}


WISHES = {
    "an unknown GPU": ([one("A40-24A", "0000:11:00.0")], ["no GPU matches '0000:11:00.0'", f"this host has {OTHER_GPU} (A40), {GPU} (A40)"]),
    "an unknown type": ([one("A40-24X")], ["'A40-24X'", GPU, "nearest: A40-24"]),
    "too many": ([one("A40-24Q", count=3)], [GPU, "3 vGPUs of A40-24Q", "at most 2", "max_instance of A40-24Q is 2", "24576 MiB"]),
    "two sizes on one GPU": (
        [{"gpu": GPU, "vgpus": [{"type": "A40-24Q"}, {"type": "A40-4Q"}]}], [GPU, "A40-24Q", "A40-4Q", "one framebuffer size per GPU"],
    ),
    "a bad UUID": ([one("A40-24Q", uuid="nonsense")], ["'nonsense' is not a UUID", "layout[0].vgpus[0]", "36 characters"]),
    "a UUID twice": ([one("A40-24Q", uuid=UUID), one("A40-24Q", OTHER_GPU, uuid=UUID)], [UUID, "layout[0].vgpus[0]", "layout[1].vgpus[0]"]),
}


def test_wrong_wishes_are_all_told_at_once(host):
    """One message reports all errors in a layout, each in its own sentence. The unit tests cover each error separately."""
    wrong = ["an unknown GPU", "a bad UUID", "a UUID twice"]
    refused(host, *[word for name in wrong for word in WISHES[name][1][:1]], layout=[item for name in wrong for item in WISHES[name][0]])


@pytest.mark.parametrize("name", ["an unknown type", "too many", "two sizes on one GPU"])
def test_wishes_that_the_gpu_cannot_fulfil(host, name):
    wish, words = WISHES[name]
    refused(host, *words, layout=wish)


def test_a_uuid_that_exists_elsewhere(host):
    host.sh(f"echo {UUID} > /sys/bus/pci/devices/0000:e7:00.4/mdev_supported_types/nvidia-575/create")
    refused(host, UUID, "already exists", "0000:e7:00.4", layout=[one("A40-24A", uuid=UUID)])


def test_a_host_with_the_ordinary_driver(bare):
    """The module identifies the data center driver by the missing vGPU manager."""
    bare.sh("rm /usr/bin/nvidia-vgpu-mgr /usr/bin/nvidia-vgpud")
    refused(bare, "data center driver", "550.163.02", layout=[one("A40-24A")])


def test_a_host_without_the_driver(bare):
    bare.sh("modprobe -r nvidia && find /lib/modules -name nvidia.ko -delete && depmod && rm /usr/bin/nvidia-vgpu-mgr /usr/bin/nvidia-vgpud")
    refused(bare, "driver", "not installed", layout=[one("A40-24A")])


@pytest.fixture
def other_machine() -> Iterator[Twin]:
    """Yield a separate quick twin with hardware that the shared twin does not have."""
    twin = Twin("system-other")
    try:
        yield twin
    finally:
        twin.down()


def test_a_host_whose_iommu_is_off(other_machine):
    other_machine.up("--tier", "quick", "--gpus", "1", "--iommu", "none")
    refused(other_machine, "IOMMU", GPU, layout=[one("A40-24A")])
    result = other_machine.module("nvidia_sriov")
    assert result["failed"] and "IOMMU" in result["msg"] and GPU in result["msg"], pretty(result)


def test_a_gpu_without_vgpu_support(other_machine):
    other_machine.up("--tier", "quick", "--gpus", "1", "--hw", "device=0x2504", "--hw", "sriov=0")
    refused(other_machine, "does not support vGPU", GPU, layout=[one("A40-24A")])
