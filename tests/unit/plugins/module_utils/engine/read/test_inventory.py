# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how GPUs, VFs, vGPU types, vGPUs, and their users are read."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, GEFORCE, L40S, T4, FakeModel

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


def codes(errors):
    return [one.code for one in errors]


def test_an_a40_is_read_whole(host):
    host.add("0000:e8:00.5", "A40-24Q", UUID)
    host.kernel.use(UUID)
    gpu = inventory.read(host.ctx).gpu("0000:e8:00.0")
    assert (gpu.driver, gpu.total_vfs, gpu.num_vfs, gpu.framework) == ("nvidia", 32, 32, "mdev")
    assert (gpu.name, gpu.product, gpu.minor, gpu.uuid) == ("A40", "NVIDIA A40", 0, host.pf().uuid)
    assert gpu.iommu_type == "identity" and gpu.driver_override is None
    assert [(vf.index, vf.address) for vf in gpu.vfs][:3] == [(0, "0000:e8:00.4"), (1, "0000:e8:00.5"), (2, "0000:e8:00.6")]
    assert gpu.vfs[31].address == "0000:e8:04.3" and gpu.vfs[31].index == 31
    assert all(vf.usable for vf in gpu.vfs)
    assert [one.short for one in gpu.types][:2] == ["A40-1B", "A40-2B"] and len(gpu.types) == 22
    (vgpu,) = gpu.vgpus
    assert vgpu.as_dict() == {
        "uuid": UUID,
        "type": "A40-24Q",
        "type_id": "565",
        "parent": "0000:e8:00.5",
        "vf_index": 1,
        "params": "",
        "gpu_instance": None,
        "in_use_by": [{"pid": 4711, "command": "qemu-system-x86", "vm": "web1"}],
    }


def test_types_are_read_through_the_next_vf_when_the_first_has_none(host):
    host.kernel.unregister(host.pf().vfs[0])
    gpu = inventory.read(host.ctx).gpus[0]
    assert gpu.framework == "mdev" and len(gpu.types) == 22
    assert not gpu.vfs[0].offers_types and gpu.vfs[0].usable


def test_a_vf_on_vfio_pci_counts_as_usable_only_with_types(make_host):
    host = make_host()
    host.faults.vf_driver = host.faults.vf_prefix = "vfio-pci"
    host.vfs_on()
    gpu = inventory.read(host.ctx).gpus[0]
    assert {vf.driver for vf in gpu.vfs} == {"vfio-pci"} and all(vf.usable for vf in gpu.vfs)
    assert [one.id for one in gpu.types][:2] == ["555", "556"]
    host.faults.vf_prefix = None
    host.pf().set_vfs(0)
    host.vfs_on()
    gpu = inventory.read(host.ctx).gpus[0]
    assert not any(vf.usable for vf in gpu.vfs) and gpu.framework == "none"


def test_a_t4_holds_its_vgpus_on_the_pf(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4)])
    host.add("0000:3b:00.0", "T4-4Q", UUID)
    (gpu,) = inventory.read(host.ctx).gpus
    assert not gpu.sriov and gpu.total_vfs == 16 and gpu.framework == "mdev"
    assert [(one.uuid, one.index, one.parent) for one in gpu.vgpus] == [(UUID, None, "0000:3b:00.0")]


def test_vendor_vfio_is_read_whole(make_host):
    host = make_host(gpus=[("0000:e8:00.0", L40S)], vendor_vfio=True).vfs_on()
    host.add("0000:e8:00.5", "L40S-24Q", None)
    host.kernel.use("0000:e8:00.5")
    found = inventory.read(host.ctx)
    (gpu,) = found.gpus
    assert gpu.framework == "vendor_vfio" and not gpu.uuids and found.mdevs == []
    assert sorted(one.short for one in gpu.types) == sorted(one.short for one in L40S.types), "nvidia-smi also lists the types that no VF currently offers"
    (vgpu,) = gpu.vgpus
    assert (vgpu.key, vgpu.uuid, vgpu.parent, vgpu.index, vgpu.type) == ("0000:e8:00.5", None, "0000:e8:00.5", 1, "L40S-24Q")
    assert [one.vm for one in vgpu.holders] == ["web1"]


def test_a_gpu_off_the_bus_and_one_that_nobody_supports(make_host):
    host = make_host(gpus=[("0000:e8:00.0", A40), ("0000:01:00.0", GEFORCE)])
    host.pf("0000:e8:00.0").off_bus = True
    found = inventory.read(host.ctx)
    assert [gpu.address for gpu in found.gpus] == ["0000:01:00.0", "0000:e8:00.0"]
    assert not found.gpu("0000:e8:00.0").alive and found.gpu("0000:01:00.0").alive
    assert not found.gpu("0000:01:00.0").supported and found.gpu("0000:01:00.0").name == "NVIDIA GeForce RTX 3060"
    gpus, errors = found.select(["all"])
    assert [gpu.address for gpu in gpus] == ["0000:e8:00.0"] and not errors
    gpus, errors = found.select(["0000:01:00.0"])
    assert [gpu.address for gpu in gpus] == ["0000:01:00.0"] and not errors, "a GPU that is in no table must not cause an error"


def test_selectors(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40), ("0000:3b:00.0", T4)])
    found = inventory.read(host.ctx, with_types=False)

    def chosen(*words):
        gpus, errors = found.select(words)
        assert not errors
        return [gpu.address for gpu in gpus]

    assert chosen("all") == ["0000:3b:00.0", "0000:e7:00.0", "0000:e8:00.0"]
    assert chosen("e8:00.0") == chosen("00000000:E8:00.0") == chosen(" 0:e8:0.0 ") == ["0000:e8:00.0"]
    assert chosen("NVIDIA A40") == chosen("a40") == ["0000:e7:00.0", "0000:e8:00.0"]
    assert chosen(host.pf("0000:e7:00.0").uuid.lower().replace("gpu-", "GPU-")) == ["0000:e7:00.0"]
    assert chosen("T4", "e8:00.0", "0000:e8:00.0") == ["0000:3b:00.0", "0000:e8:00.0"]
    assert chosen("10de:2235") == chosen("10DE:2235:145A") == ["0000:e7:00.0", "0000:e8:00.0"] and chosen("10de:1eb8") == chosen("tesla t4")
    gpus, errors = found.select(["10de:2235:0001", "10de:20b5", "NVIDIA H100 PCIe"])
    assert gpus == [] and codes(errors) == ["unknown_gpu"] * 3
    gpus, errors = found.select(["0000:99:00.0", "H100"])
    assert gpus == [] and codes(errors) == ["unknown_gpu"] * 2
    assert "'0000:99:00.0'" in str(errors[0]) and "0000:e8:00.0 (A40)" in str(errors[0])


def test_a_product_name_selects_one_board_of_a_model(make_host):
    pcie, nvl = FakeModel("0x2331", "NVIDIA H100 PCIe", 80, 16, []), FakeModel("0x2321", "NVIDIA H100 NVL", 94, 16, [])
    for driver in ("nvidia", None):
        found = inventory.read(make_host(gpus=[("0000:e7:00.0", pcie), ("0000:e8:00.0", nvl)], driver=driver).ctx)
        names = {word: [gpu.address for gpu in found.select([word])[0]] for word in ("H100", "NVIDIA H100 NVL", "h100 pcie", "10de:2321")}
        assert names == {
            "H100": ["0000:e7:00.0", "0000:e8:00.0"], "NVIDIA H100 NVL": ["0000:e8:00.0"], "h100 pcie": ["0000:e7:00.0"],
            "10de:2321": ["0000:e8:00.0"],
        }


@pytest.mark.parametrize(
    "device, subsystem, driver, expected",
    [
        ("0x1e30", "0x129e", None, "RTX 8000"), ("0x1e30", "0x12ba", None, "RTX 6000"), ("0x1e78", "0x13d9", None, "RTX 6000"),
        ("0x1e78", "0x13d8", "nvidia", "RTX 8000"), ("0x1e30", "0x9999", None, "RTX 6000"), ("0x1e30", "0x9999", "nvidia", "RTX 8000"),
    ],
)
def test_an_rtx_8000_is_no_rtx_6000(make_host, device, subsystem, driver, expected):
    """The PCI subsystem ID distinguishes these two boards. A name that the driver reports takes precedence over the subsystem ID."""
    host = make_host(gpus=[("0000:e8:00.0", FakeModel(device, "Quadro RTX 8000", 48, 0, [], subsystem=subsystem))], driver=driver)
    (gpu,) = inventory.read(host.ctx).gpus
    assert (gpu.name, gpu.model.framebuffer_gib) == (expected, 48 if expected.endswith("8000") else 24)


def test_a_uuid_without_the_driver_is_refused_with_the_reason(make_host):
    host = make_host(driver=None)
    uuid = host.pf().uuid
    dummy, errors = inventory.read(host.ctx).select([uuid])
    assert codes(errors) == ["unknown_gpu"] and "known only while the driver is loaded" in str(errors[0])


def test_a_host_without_gpus_is_reported(make_host):
    dummy, errors = inventory.read(make_host(gpus=[]).ctx).select(["all"])
    assert "this host has no NVIDIA GPU" in str(errors[0])


def test_read_one_skips_vgpus_on_request(host):
    host.add("0000:e8:00.4", "A40-1Q", UUID)
    assert inventory.read_one(host.ctx, "0000:e8:00.0", with_vgpus=False).vgpus == []
    assert [one.uuid for one in inventory.read_one(host.ctx, "0000:e8:00.0").vgpus] == [UUID]


def test_what_is_wrong_with_a_vgpu_is_reported(host):
    from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks import mdev

    host.add("0000:e8:00.4", "A40-1Q", UUID)
    found = inventory.read(host.ctx)
    assert [one.uuid for one in found.mdevs] == [UUID]
    assert mdev.Mdev(host.ctx).complaint(UUID, "0000:e8:00.4", "557", "A40-1Q") is None
    assert "on 0000:e8:00.4" in mdev.Mdev(host.ctx).complaint(UUID, "0000:e8:00.5", "557", "A40-1Q")
    assert "type NVIDIA A40-1Q" in mdev.Mdev(host.ctx).complaint(UUID, "0000:e8:00.4", "558", "A40-2Q")
    assert "does not exist" in mdev.Mdev(host.ctx).complaint(UUID.replace("3f", "4f"), "0000:e8:00.4", "558", "A40-2Q")
