# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that a host's result on the controller is no larger with 256 vGPUs than with 128, in each state of the vGPUs."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.gpu_info import MOST_USERS
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_gpu_info,
    nvidia_host_plan,
    nvidia_mig,
    nvidia_pci_driver,
    nvidia_vgpu,
    nvidia_vgpu_restore,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

ADDRESSES = ["0000:%02x:00.0" % bus for bus in (0x17, 0x2A, 0x3D, 0x63, 0x9A, 0xAB, 0xBD, 0xE3)]
TYPE = "A40-1Q"
# The options with which the validate role reads a host.
VALIDATE = {"health": True, "most_problems": 8, "unresponsive_gpus": "warn", "ahead": False, "warn": False}
HOSTDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"


def layout(number, type_name=TYPE):
    """Returns a layout with *number* vGPUs on eight GPUs."""
    counts = [number // 8 + (index < number % 8) for index in range(8)]
    return [{"gpu": pf, "vgpus": [{"type": type_name, "count": count}] if count else []} for pf, count in zip(ADDRESSES, counts)]


def made(make_host, number, used=True):
    """Returns a host with eight GPUs and *number* stored vGPUs. Each vGPU belongs to a libvirt VM."""
    host = make_host(gpus=[(pf, A40) for pf in ADDRESSES]).vfs_on()
    call(nvidia_vgpu, host, layout=layout(number)).ok
    call(nvidia_vgpu_restore, host).ok
    virsh = Libvirt(host)
    for index, uuid in enumerate(sorted(host.kernel.mdevs)):
        virsh.define("vm-%03d" % index, HOSTDEV % uuid, running=used)
        if used:
            host.kernel.use(uuid, pid=4000 + index, name="vm-%03d" % index)
    return host


def size(host, number, expected=TYPE):
    """Returns (size of the result in bytes, result). Each number counts as one digit, so that larger numbers do not count as growth."""
    found = call(nvidia_host_plan, host, layout=layout(number, expected), **VALIDATE).ok.result
    return len(re.sub("[0-9]+", "0", json.dumps(found))), found


def healthy(make_host, number):
    """Returns (size, result) for a host on which all vGPUs are unchanged and in use."""
    return size(made(make_host, number), number)


def gone(make_host, number):
    """Returns (size, result) for a host on which all vGPUs are missing although VMs need them."""
    host = made(make_host, number, used=False)
    for one in list(host.kernel.mdevs.values()):
        host.kernel.remove(one)
    return size(host, number)


def other(make_host, number):
    """Returns (size, result) for a host on which all vGPUs have another type than in the layout."""
    host = made(make_host, number, used=False)
    for uuid, parent, dummy in host.vgpus():
        host.kernel.remove(host.kernel.mdevs[uuid])
        host.add(parent, "A40-1B", uuid)
    return size(host, number)


def refused(make_host, number):
    """Returns (size, result) for a host on which VMs use all vGPUs but the layout requests another type."""
    found = size(made(make_host, number), number, "A40-1B")
    assert found[1]["plans"]["vgpus"]["failed"]
    return found


@pytest.mark.parametrize("state", [healthy, gone, other, refused])
def test_the_result_does_not_grow_with_vgpus(make_host, state):
    (small, few), (middle, dummy), (large, many) = [state(make_host, number) for number in (1, 128, 256)]
    assert large <= middle * 1.02, "the result must not grow from 128 to 256 vGPUs"
    assert large < small + 16000, "the number of listed vGPUs must be limited"
    counts = [sum(row["vgpus"] for gpu in one["info"]["gpus"] for row in gpu["vgpu_counts"]) for one in (few, many)]
    assert counts == ([0, 0] if state is gone else [1, 256])


def test_a_healthy_host_is_as_large_with_one_vgpu_as_with_all(make_host):
    (small, few), (large, many) = healthy(make_host, 1), healthy(make_host, 256)
    lists = ("in_use", "in_the_way", "libvirt_domains")
    listed = [len(json.dumps([one["info"][name] for name in lists])) for one in (few, many)]
    counts = [len(json.dumps([gpu["vgpu_counts"] for gpu in one["info"]["gpus"]])) for one in (few, many)]
    # The only differences are one row of counts for each GPU and the users that are named.
    assert large - small <= listed[1] - listed[0] + counts[1] - counts[0]
    assert [[len(one["info"][name]) for name in lists] for one in (few, many)] == [[1] * 3, [MOST_USERS] * 3]
    assert [[one["info"][name + "_count"] for name in lists] for one in (few, many)] == [[1] * 3, [256] * 3]
    assert large < 12000


def test_all_is_returned_on_request(make_host):
    host = made(make_host, 128)
    found = call(nvidia_gpu_info, host).ok.result
    assert [len(gpu[name]) for gpu in found["gpus"] for name in ("vfs", "vgpus")] == [32, 16] * 8 and all(gpu["types"] for gpu in found["gpus"])
    assert len(found["in_use"]) == found["in_use_count"] == len(found["libvirt_domains"]) == 128
    assert {row["framebuffer_mib"] for gpu in found["gpus"] for row in gpu["vgpus"]} == {1024}
    found = call(nvidia_gpu_info, host, detail="vgpus").ok.result
    assert all(len(gpu["vgpus"]) == 16 and not {"vfs", "types"} & set(gpu) for gpu in found["gpus"]) and len(found["in_use"]) == 128
    whole = call(nvidia_host_plan, host, layout=layout(256), detail="all").ok.result
    assert len(whole["plans"]["vgpus"]["actions"]) > 128 and all(len(gpu["vfs"]) == 32 for gpu in whole["plans"]["sriov"]["gpus"])
    short = call(nvidia_host_plan, host, layout=layout(256)).ok.result["plans"]["vgpus"]
    assert short["actions"] == whole["plans"]["vgpus"]["actions"][:20]
    assert short["actions_left_out"] == len(whole["plans"]["vgpus"]["actions"]) - 20


def test_problems_of_one_code_have_an_end(make_host):
    host = made(make_host, 64, used=False)
    for one in list(host.kernel.mdevs.values()):
        host.kernel.remove(one)
    every = call(nvidia_gpu_info, host, health=True).ok.result
    assert every["problems_left_out"] == {} and [one["code"] for one in every["problems"]].count("vm_without_vgpu") == 64
    some = call(nvidia_gpu_info, host, health=True, most_problems=8).ok.result
    assert some["problems_left_out"] == {"vm_without_vgpu": 56}
    codes = [one["code"] for one in some["problems"]]
    assert codes.count("vm_without_vgpu") == 8 and codes.count("vgpus_missing") == 8
    assert {one["gpu"] for one in some["problems"] if one["code"] == "vgpus_missing"} == set(ADDRESSES)


def test_a_refusal_counts_what_it_leaves_out(make_host):
    expected = [{"gpu": pf, "vgpus": [{"type": "A40-%dX" % number} for number in range(8)]} for pf in ADDRESSES]
    host = make_host(gpus=[(pf, A40) for pf in ADDRESSES]).vfs_on()
    whole, short = [call(nvidia_host_plan, host, layout=expected, detail=detail).ok["plans"]["vgpus"] for detail in ("all", "counts")]
    assert len(whole["errors"]) > 20 == len(short["errors"]) and short["errors_left_out"] == len(whole["errors"]) - 20
    assert short["msg"].endswith("\nFurther problems that are not listed: %d." % short["errors_left_out"]) and "errors_left_out" not in whole


@pytest.mark.parametrize("detail", ["all", "vgpus", "counts"])
def test_counts_are_those_of_the_lists(make_host, detail):
    host = make_host(gpus=[(ADDRESSES[0], A40), (ADDRESSES[1], A100)])
    call(nvidia_pci_driver, host, driver="none").ok
    expected = [
        {"gpu": ADDRESSES[0], "vgpus": [{"type": "A40-8Q", "count": 3}]},
        {"gpu": ADDRESSES[1], "vgpus": [{"type": "A100-2-10C", "count": 2}, {"type": "A100-1-5C"}]},
    ]
    call(nvidia_mig, host, layout=expected).ok
    host.vfs_on()
    call(nvidia_vgpu, host, layout=expected).ok
    host.kernel.use(sorted(host.kernel.mdevs)[0])
    found = call(nvidia_gpu_info, host, detail=detail).ok["gpus"]
    assert [gpu["vfs_used"] for gpu in found] == [3, 3] and [gpu["vfs_there"] for gpu in found] == [32, 16]
    rows = [row for gpu in found for row in gpu["vgpu_counts"]]
    assert [(row["type"], row["vgpus"]) for row in rows] == [("A40-8Q", 3), ("A100-1-5C", 1), ("A100-2-10C", 2)]
    assert sum(row["in_use"] for row in rows) == 1
