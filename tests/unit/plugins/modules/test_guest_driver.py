# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the driver in a VM: which driver is installed, which driver is compatible, and which requests fail."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_gpu_info, nvidia_guest_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import ADDRESS, Guest, host_gpu
from ansible_collections.vgpu.kvm.tests.unit.fake.models import FakeModel

GUEST_RUN = "NVIDIA-Linux-x86_64-550.163.01-grid.run"


@pytest.fixture
def package(tmp_path):
    """Returns the path of the guest driver package in the VM."""
    path = tmp_path / GUEST_RUN
    path.write_text("")
    return str(path)


def codes(found):
    """Returns the codes of the problems."""
    return [one["code"] for one in found["problems"]]


# --- nvidia_guest_info


def test_a_guest_that_is_well(guest):
    found = call(nvidia_guest_info, guest, vgpu_type="NVIDIA A40-24Q", host_version="550.163.02").ok
    assert codes(found) == [] and not found["reboot_required"]
    (gpu,) = found["gpus"]
    assert (gpu["type"], gpu["framebuffer_mib"], gpu["virtualization"], gpu["subsystem_id"]) == ("A40-24Q", 24576, "VGPU", "0x14df")
    assert gpu["passthrough"] is False
    assert found["guest"]["driver"]["flavour"] == "guest"


def test_who_a_reboot_would_interrupt(guest):
    """The users are processes that have the device nodes of the GPU open, including a desktop on nouveau. NVIDIA's services are excluded."""
    guest.kernel.add_process(900, "nvidia-gridd", ["/usr/bin/nvidia-gridd"], ["/dev/nvidiactl", "/dev/nvidia0"])
    guest.kernel.add_process(901, "python3", ["python3", "train.py"], ["/dev/nvidia0"])
    assert [one["pid"] for one in call(nvidia_guest_info, guest).ok["gpus"][0]["in_use_by"]] == [901]
    guest.kernel.processes.clear()
    guest.without_driver()
    guest.pf().driver = "nouveau"
    guest.kernel.loaded = {"nouveau": ""}
    guest.kernel.add_process(950, "Xorg", ["/usr/lib/xorg/Xorg", ":0"], ["/dev/dri/card0"])
    assert [one["command"] for one in call(nvidia_guest_info, guest).ok["gpus"][0]["in_use_by"]] == ["/usr/lib/xorg/Xorg :0"]


def test_no_vgpu(tmp_path):
    found = call(nvidia_guest_info, Guest(tmp_path, gpus=()).without_driver()).ok
    assert codes(found) == ["no_vgpu"] and found["gpus"] == []


def test_a_container_is_no_guest(guest):
    """A container shows the kernel of its VM or host, so its results would not describe a guest."""
    guest.put("/run/.containerenv", "")
    (problem,) = call(nvidia_guest_info, guest, vgpu_type="A40-12Q").ok["problems"]
    assert problem["code"] == "not_a_guest" and problem["found"] == "the system is a container (podman)" and "Add the VM itself" in problem["remedy"]


def test_what_the_driver_reports_against_what_was_expected(guest):
    guest.mib = 12288
    assert codes(call(nvidia_guest_info, guest, vgpu_type="A40-12Q").ok) == ["wrong_type", "wrong_framebuffer"]
    assert codes(call(nvidia_guest_info, guest, host_version="535.161.05").ok) == ["branches_differ", "wrong_framebuffer"]
    guest.smi_rc = 9
    assert codes(call(nvidia_guest_info, guest).ok) == ["not_shown"]


def test_before_the_driver(guest):
    guest.without_driver()
    assert codes(call(nvidia_guest_info, guest, builds=True).ok) == ["headers_missing"]
    guest.kernel.pfs()[0].driver = "nouveau"
    found = call(nvidia_guest_info, guest, driver_version="570.86.01", host_version="550.163.02").ok
    assert codes(found) == ["nouveau_in_use", "branches_differ"]


@pytest.mark.parametrize(
    "expected, codes_of", [("A40-24Q", []), ("NVIDIA A40-24Q", []), (None, []), ("A40-12Q", ["wrong_type"])],
)
def test_the_type_by_its_pci_ids_before_the_driver(guest, expected, codes_of):
    found = call(nvidia_guest_info, guest.without_driver(), vgpu_type=expected).ok
    (gpu,) = found["gpus"]
    assert (gpu["type"], gpu["name"], gpu["passthrough"]) == ("A40-24Q", None, None) and len(found.warnings) == len(codes_of)
    assert [(one["code"], one["severity"]) for one in found["problems"]] == [(code, "warning") for code in codes_of]
    assert all("according to the PCI IDs, the type of the vGPU is A40-24Q" in one["found"] for one in found["problems"])


def test_a_type_whose_series_the_pci_ids_do_not_show(tmp_path):
    model = FakeModel("0x2235", "NVIDIA A40-24", 24, 0, [], subsystem="0x14ed")
    for expected, found in (("A40-24Q", []), ("A40-24A", []), ("A40-2Q", ["wrong_type"]), ("A40-48Q", ["wrong_type"])):
        root = tmp_path / expected
        root.mkdir()
        assert codes(call(nvidia_guest_info, Guest(root, gpus=((ADDRESS, model),)).without_driver(), vgpu_type=expected).ok) == found


@pytest.mark.parametrize("flavour", ["guest", "datacenter"])
def test_a_whole_gpu_is_no_vgpu(tmp_path, flavour):
    """The values come from a VM with a real, passed-through H100."""
    model = FakeModel("0x2330", "NVIDIA H100 80GB HBM3", 80, 0, [], subsystem="0x16c1")
    vm = Guest(tmp_path, gpus=((ADDRESS, model),))
    vm.name, vm.virtualization, vm.mib = "NVIDIA H100 80GB HBM3", "Pass-Through", 81559
    if flavour == "datacenter":
        os.unlink(vm.root + "/usr/bin/nvidia-gridd")
    for expected in (None, "H100XM-80C"):
        found = call(nvidia_guest_info, vm, vgpu_type=expected).ok
        (gpu,) = found["gpus"]
        assert (gpu["type"], gpu["virtualization"], gpu["passthrough"]) == (None, "Pass-Through", True)
        assert codes(found) == ["passed_through"] and "NVIDIA H100 80GB HBM3" in found["problems"][0]["found"]
    assert found["guest"]["driver"]["flavour"] == flavour and found["problems"][0]["expected"] == "H100XM-80C"


def test_a_host_is_no_guest(tmp_path):
    found = call(nvidia_guest_info, host_gpu(tmp_path)).ok
    assert "not_a_guest" in codes(found)


# --- nvidia_driver


def test_the_guest_driver_is_installed_once(guest, package):
    guest.without_driver()
    check = call(nvidia_driver, guest, check=True, kind="guest", src=package).ok
    real = call(nvidia_driver, guest, kind="guest", src=package).ok
    assert real["actions"] == check["actions"] == ["install the vGPU guest driver 550.163.01"] and real["diff"] == check["diff"]
    assert real["driver"]["flavour"] == "guest"
    assert not call(nvidia_driver, guest, kind="guest", src=package).ok["changed"]


def test_a_downgrade_only_where_it_is_allowed(guest, package):
    guest.on_disk = "570.86.01"
    outcome = call(nvidia_driver, guest, kind="guest", src=package, allow_downgrade=False)
    assert outcome.codes == ["downgrade"] and "570.86.01" in outcome.msg and "550.163.01" in outcome.msg
    assert call(nvidia_driver, guest, kind="guest", src=package).ok["changed"]


def test_the_wrong_package_and_the_wrong_machine(guest, make_host, package, tmp_path):
    host_package = package.replace("550.163.01-grid", "550.163.02-vgpu-kvm")
    outcome = call(nvidia_driver, guest, check=True, kind="guest", src=host_package)
    assert outcome.codes == ["wrong_kind"] and "vgpu-kvm" in outcome.msg and "-grid.run" in outcome.msg
    host = make_host()
    outcome = call(nvidia_driver, host, kind="guest", src=package)
    assert outcome.codes == ["not_a_guest"] and "0000:e8:00.0" in outcome.msg
    host.on_disk = "535.1.1"
    assert call(nvidia_driver, host, kind="host", src=package).codes == ["wrong_kind"]


def test_a_hosts_driver_is_not_removed_as_a_guests(make_host):
    host = make_host()
    host.put("/usr/bin/nvidia-uninstall", "")
    outcome = call(nvidia_driver, host, kind="guest", state="absent")
    assert outcome.codes == ["not_a_guest"] and host.on_disk == "550.163.02"


def test_a_guest_driver_on_a_host_is_reported_and_replaced_on_request(make_host, tmp_path):
    host = make_host()
    host._uninstall([], 1)
    host.put("/usr/bin/nvidia-gridd", "")
    host.put("/usr/bin/nvidia-uninstall", "")
    host.on_disk = "550.163.01"
    assert "driver_of_guest" in [one["code"] for one in call(nvidia_gpu_info, host).ok["problems"]]
    package = tmp_path / "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run"
    package.write_text("")
    assert call(nvidia_driver, host, src=str(package)).codes == ["driver_of_guest"]
    real = call(nvidia_driver, host, src=str(package), replace_datacenter=True, load=False).ok
    assert real["actions"][0] == "uninstall the vGPU guest driver 550.163.01"


def test_a_removed_driver_that_is_still_loaded_is_no_other_driver(guest, package):
    """After 'apt-get purge', no file on disk shows that the loaded driver is a data center driver.

    A driver from a driver container has no files on the machine and counts as a data center driver.
    """
    guest.on_disk = None
    for left in ("nvidia-gridd", "nvidia-uninstall"):
        if os.path.exists(guest.root + "/usr/bin/" + left):
            os.unlink(guest.root + "/usr/bin/" + left)
    before = call(nvidia_guest_info, guest).ok["guest"]["driver"]
    assert (before["loaded"], before["on_disk"], before["flavour"]) == ("550.163.01", None, "none")
    assert call(nvidia_driver, guest, check=True, kind="guest", state="absent").ok["actions"] == []
    check = call(nvidia_driver, guest, check=True, kind="guest", src=package, load=False).ok
    assert check["actions"] == ["install the vGPU guest driver 550.163.01"]
    os.makedirs(guest.root + "/run/nvidia/driver")
    assert call(nvidia_driver, guest, kind="guest", src=package, load=False).codes == ["driver_datacenter"]


def test_who_uses_the_vgpu_is_asked_and_named(guest, tmp_path):
    newer = tmp_path / "NVIDIA-Linux-x86_64-550.200.01-grid.run"
    newer.write_text("")
    guest.kernel.add_process(900, "nvidia-gridd", ["/usr/bin/nvidia-gridd"], ["/dev/nvidiactl", "/dev/nvidia0"])
    assert call(nvidia_driver, guest, check=True, kind="guest", src=str(newer)).ok["changed"]
    guest.kernel.add_process(901, "dcgm-exporter", ["/usr/bin/dcgm-exporter"], ["/dev/nvidia0"])
    assert call(nvidia_driver, guest, check=True, kind="guest", src=str(newer), load=False).ok["changed"], "monitoring must not count as use"
    guest.kernel.add_process(4711, "python3", ["python3", "train.py"], ["/dev/nvidia0"])
    outcome = call(nvidia_driver, guest, kind="guest", src=str(newer))
    assert ADDRESS in outcome.msg and "pid 4711 (python3 train.py)" in outcome.msg
