# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests what nvidia_gpu_info reads from a host and which problems it reports."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, GEFORCE, T4

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
PF = "0000:e8:00.0"


def problems(host, **arguments):
    """Returns the problems by code. Asserts that each problem has a finding and that each error has a remedy."""
    outcome = call(nvidia_gpu_info, host, **arguments).ok
    assert outcome.writes == 0 and not outcome["changed"]
    for one in outcome["problems"]:
        assert one["found"] and one["severity"] in ("error", "warning")
        assert one["remedy"] or one["severity"] == "warning"
    return {one["code"]: one for one in outcome["problems"]}


def test_a_good_host_has_no_problems(make_host):
    host = make_host(gpus=[(PF, A40), ("0000:3b:00.0", T4)]).vfs_on()
    assert problems(host, iommu_flags=["intel_iommu=on", "iommu=pt"]) == {}


def test_all_about_a_host(host):
    host.add("0000:e8:00.4", "A40-8Q", UUID)
    host.kernel.use(UUID)
    outcome = call(nvidia_gpu_info, host).ok
    info = outcome["host"]
    assert info["kernel"] == "6.1.0-50-amd64" and info["cpu_vendor"] == "GenuineIntel" and "iommu=pt" in info["cmdline"]
    flags = ["intel_iommu=on", "iommu=pt"]
    assert info["iommu"] == {"active": True, "kind": "intel", "units": ["dmar0", "dmar1"], "default_flags": flags, "missing_flags": []}
    assert info["initramfs_command"] == ["update-initramfs", "-u", "-k", "all"]
    assert (info["bootloader"], info["initramfs_tool"], info["secure_boot"]) == ("grub", "update-initramfs", None)
    assert info["driver"] == {"loaded": "550.163.02", "on_disk": "550.163.02", "flavour": "vgpu", "nouveau_loaded": False, "scheduler": "best_effort"}
    (gpu,) = outcome["gpus"]
    assert gpu["vfs"][0]["vgpu"] == UUID and gpu["vfs"][1]["vgpu"] is None and len(gpu["types"]) == 22
    user = {"pid": 4711, "command": "qemu-system-x86", "vm": "web1"}
    assert gpu["vgpus"][0]["in_use_by"] == [user] and outcome["in_use"] == [dict(user, devices=[UUID])]
    assert outcome["reboot_required"] is False and outcome["reboot_reasons"] == []


def test_a_host_without_gpus(make_host):
    assert set(problems(make_host(gpus=[]))) == {"no_gpu"}


def test_missing_flags_and_reboot(make_host):
    host = make_host()
    host.kernel.cmdline = "intel_iommu=on iommu=pt intel_iommu=off"
    found = problems(host, iommu_flags=["intel_iommu=on", "iommu=pt"])
    assert "intel_iommu=on" in found["iommu_flags_missing"]["found"] and "iommu=pt" not in found["iommu_flags_missing"]["found"]
    outcome = call(nvidia_gpu_info, host, iommu_flags=["intel_iommu=on"]).ok
    assert outcome["reboot_required"] and outcome["reboot_reasons"] == ["the kernel runs without intel_iommu=on"]


def test_the_iommu_is_off(make_host):
    host = make_host()
    host.kernel.iommu_on, host.pf().group = False, None
    assert "intel_iommu=on" in problems(host)["iommu_off"]["found"] and "VT-d" in problems(host)["iommu_off"]["remedy"]
    host.kernel.cmdline = ""
    assert "the iommu role" in problems(host)["iommu_off"]["remedy"]
    host.kernel.iommu_on = True
    assert "no IOMMU group" in problems(host)["iommu_off"]["found"]


def test_the_driver_is_wrong_in_each_way(make_host):
    host = make_host()
    host.on_disk = "570.1.02"
    assert "driver 550.163.02 is loaded, but driver 570.1.02 is on disk" in problems(host)["driver_mismatch"]["found"]
    assert call(nvidia_gpu_info, host).ok["reboot_reasons"] == ["driver 550.163.02 is loaded, but driver 570.1.02 is on disk"]
    host.on_disk = None
    assert "DKMS" in problems(host)["driver_module_missing"]["remedy"]
    host.on_disk = "550.163.02"
    host.kernel.loaded.clear()
    assert "modprobe nvidia" in problems(host)["driver_not_loaded"]["remedy"]
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    assert "does not include the vGPU manager" in problems(host)["driver_datacenter"]["found"]
    host.on_disk = None
    assert "the driver role" in problems(host)["driver_missing"]["remedy"]


def test_a_gpu_on_each_wrong_driver(make_host):
    for driver, code in (("vfio-pci", "gpu_on_vfio"), ("nouveau", "gpu_on_nouveau"), ("pci-pf-stub", "gpu_on_stub"), (None, "gpu_unbound")):
        host = make_host(driver=driver)
        found = problems(host)
        assert found[code]["device"] == PF and (driver or "no driver") in found[code]["found"]
    host = make_host(driver="nouveau")
    host.kernel.loaded["nouveau"] = ""
    assert "nouveau_loaded" in problems(host)
    assert call(nvidia_gpu_info, host).ok["reboot_reasons"] == [PF + ": the bound driver is nouveau"]


def test_vfs_that_are_not_usable(make_host):
    host = make_host()
    host.faults.vf_driver = "vfio-pci"
    host.vfs_on()
    found = problems(host)["vfs_unbound"]
    assert "32 VFs" in found["found"] and "0000:e8:00.4 is bound to vfio-pci" in found["found"]
    host = make_host()
    host.faults.types_delay = 100
    host.vfs_on()
    assert "nvidia-vgpud" in problems(host)["no_types"]["remedy"]


def test_fewer_vfs_than_the_kernel_reports(host):
    host.pf().directory.entries["virtfn5"].when = lambda: False
    assert "sriov_numvfs is 32, but 31 VFs" in problems(host)["vfs_fewer"]["found"]


def test_the_firmware_hides_sriov(make_host):
    host = make_host()
    for name in ("sriov_totalvfs", "sriov_numvfs", "sriov_vf_device"):
        host.pf().directory.entries.pop(name)
    remedy = problems(host)["sriov_off"]["remedy"]
    assert "above-4G" in remedy and "itself a VM" in remedy


def test_a_gpu_off_the_bus_and_unsupported_ones(make_host):
    host = make_host(gpus=[(PF, A40), ("0000:01:00.0", GEFORCE)])
    host.pf(PF).off_bus = True
    found = problems(host)
    assert set(found) == {"gpu_off_bus", "gpu_unsupported"} and found["gpu_unsupported"]["severity"] == "warning"


def test_a_gpu_that_is_not_in_the_table_but_offers_types_is_used(make_host):
    from ansible_collections.vgpu.kvm.tests.unit.fake.models import FakeModel

    host = make_host(gpus=[(PF, FakeModel("0x2fff", "NVIDIA Z99", 48, 4, A40.types))]).vfs_on()
    assert set(problems(host)) == {"gpu_unknown"}
    assert call(nvidia_gpu_info, host).ok["gpus"][0]["name"] == "NVIDIA Z99"


def test_secure_boot_and_boot_loaders(make_host):
    host = make_host()
    host.kernel.secure_boot = True
    host.kernel.loader = "systemd-boot 255"
    assert set(problems(host)) == {"secure_boot"}
    host.kernel.loader = "rEFInd 0.14.0"
    assert {"secure_boot", "bootloader"} <= set(problems(host))
    host.kernel.secure_boot, host.kernel.loader = False, "GRUB 2.06"
    assert problems(host) == {} and call(nvidia_gpu_info, host).ok["host"]["secure_boot"] is False
    host.put("/run/ostree-booted", "")
    assert "ostree" in problems(host)["bootloader"]["found"]
    os.unlink(host.root + "/etc/default/grub")
    os.unlink(host.root + "/run/ostree-booted")
    assert call(nvidia_gpu_info, host).ok["host"]["bootloader"] == "unknown"


def test_boot_causes_are_reported_with_file_and_line(make_host):
    host = make_host(driver="vfio-pci")
    host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    found = problems(host)["boot_cause"]
    assert found["device"] == "/etc/modprobe.d/vfio.conf" and "10de:2235" in found["found"] and found["severity"] == "warning"


def test_users_of_a_gpu_are_returned_with_their_command_lines(make_host):
    host = make_host(driver="vfio-pci")
    host.kernel.add_process(5, "vfio-client", [], ["/dev/vfio/%s" % host.pf().group])
    host.kernel.add_process(6, "sh", ["/bin/sh", "-c", "x" * 100], ["/dev/kvm"])
    host.kernel.add_process(7, "bash", ["bash"], ["/dev/null"])
    assert call(nvidia_gpu_info, host).ok["in_use"] == [
        {"pid": 5, "command": "vfio-client", "vm": None, "devices": [PF]},
        {"pid": 6, "command": ("/bin/sh -c " + "x" * 100)[:60], "vm": None, "devices": []},
    ]


@pytest.mark.parametrize(
    "registry, scheduler",
    [("", "best_effort"), ("RmPVMRL=0x01", "equal_share"), ("RmX=1;RmPVMRL=0x11", "fixed_share"), ("RmPVMRL=0", "best_effort"), ("RmPVMRL=0x7", "other")],
)
def test_the_scheduler_of_the_loaded_module(host, registry, scheduler):
    host.kernel.registry = registry
    assert call(nvidia_gpu_info, host).ok["host"]["driver"]["scheduler"] == scheduler
