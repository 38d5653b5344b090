# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the modules nvidia_gpu_info and nvidia_sriov on a booted kernel."""

from __future__ import annotations

from conftest import GPU, OTHER_GPU, pretty


def numvfs(twin, pf=GPU):
    return int(twin.sh(f"cat /sys/bus/pci/devices/{pf}/sriov_numvfs"))


def driver(twin, address=GPU):
    return twin.sh(f"basename $(readlink /sys/bus/pci/devices/{address}/driver || echo none)")


def test_info_tells_what_the_kernel_has(host):
    result = host.module("nvidia_gpu_info", iommu_flags=["intel_iommu=on", "iommu=pt"])
    assert not result["failed"], pretty(result)
    assert [gpu["address"] for gpu in result["gpus"]] == [OTHER_GPU, GPU]
    gpu = result["gpus"][1]
    assert (gpu["model"], gpu["driver"], gpu["framework"], gpu["sriov_numvfs"]) == ("A40", "nvidia", "mdev", 32)
    assert [vf["index"] for vf in gpu["vfs"]] == list(range(32))
    assert gpu["vfs"][0]["address"] == "0000:e8:00.4"
    assert gpu["vfs"][31]["address"] == "0000:e8:04.3"
    assert {one["short"]: one["max_instances"] for one in gpu["types"]}["A40-4Q"] == 12
    assert gpu["uuid"].startswith("GPU-")
    iommu = result["host"]["iommu"]
    assert (iommu["active"], iommu["kind"], iommu["missing_flags"]) == (True, "intel", [])
    assert not [one for one in result["problems"] if one["severity"] == "error"], pretty(result["problems"])


def test_vfs_on_and_off(bare):
    check = bare.module("nvidia_sriov", check=True)
    assert check["changed"] and numvfs(bare) == 0
    first = bare.module("nvidia_sriov")
    assert first["actions"] == check["actions"] == [f"{OTHER_GPU}: enable 32 VFs", f"{GPU}: enable 32 VFs"]
    assert numvfs(bare) == 32 and driver(bare) == "nvidia"
    assert bare.sh(f"ls -d /sys/bus/pci/devices/{GPU}/virtfn*/mdev_supported_types | wc -l") == "32"
    second = bare.module("nvidia_sriov")
    assert not second["changed"] and second["actions"] == []
    off = bare.module("nvidia_sriov", gpus=[GPU], state="disabled")
    assert off["changed"] and not off["failed"], pretty(off)
    assert (numvfs(bare), numvfs(bare, OTHER_GPU), driver(bare)) == (0, 32, "nvidia")


def test_fewer_vfs_are_refused_with_the_reason(bare):
    result = bare.module("nvidia_sriov", gpus=["e8:00.0"], num_vfs=99)
    assert result["failed"] and "the GPU supports at most 32" in result["msg"], pretty(result)


def test_vfs_are_not_turned_off_under_vgpus(host):
    host.module("nvidia_mdev", parent="0000:e8:00.4", type="A40-24A", uuid="3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
    result = host.module("nvidia_sriov", state="disabled")
    assert result["failed"] and "would be destroyed" in result["msg"], pretty(result)
    assert (numvfs(host), numvfs(host, OTHER_GPU)) == (32, 32)
