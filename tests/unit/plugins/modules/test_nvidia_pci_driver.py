# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how GPUs are released from other drivers on a fake host."""

from __future__ import annotations

import os

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import rebuilds
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_pci_driver
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

PF = "0000:e8:00.0"


def no_driver(host):
    """Removes NVIDIA's driver from the host and returns the host."""
    host.on_disk = None
    host.kernel.loaded.pop("nvidia", None)
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    return host


def test_from_vfio_pci_to_nvidia(make_host):
    host = make_host(driver="vfio-pci")
    host.pf().override = "vfio-pci"
    host.kernel.driver_ids["vfio-pci"].add("0x2235")
    outcome = call(nvidia_pci_driver, host).ok
    assert outcome["actions"] == [
        "remove the ID 10de:2235 from vfio-pci",
        PF + ": clear driver_override (vfio-pci)",
        PF + ": unbind the GPU from vfio-pci",
        PF + ": bind the GPU to nvidia",
    ]
    assert (host.pf().driver, host.pf().override) == ("nvidia", None) and not host.kernel.driver_ids["vfio-pci"]
    assert outcome["gpus"] == [{"address": PF, "driver_before": "vfio-pci"}]
    assert not call(nvidia_pci_driver, host).ok["changed"]


def test_released_before_the_driver_is_there(make_host):
    host = no_driver(make_host(driver="vfio-pci"))
    outcome = call(nvidia_pci_driver, host, driver="none").ok
    assert host.pf().driver is None and outcome["reboot_reasons"] == []
    assert not call(nvidia_pci_driver, host, driver="none").ok["changed"]
    assert call(nvidia_pci_driver, host).codes == ["driver_missing"]
    assert not call(nvidia_pci_driver, host, check=True, check_mode_assume=["driver"]).ok["changed"]


def test_the_module_is_loaded_once_for_several_gpus(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)], driver="vfio-pci")
    host.kernel.loaded.clear()
    outcome = call(nvidia_pci_driver, host).ok
    assert [argv for argv in host.calls if argv[0] == "modprobe"] == [["modprobe", "nvidia"]]
    assert {pf.driver for pf in host.kernel.pfs()} == {"nvidia"} and outcome["actions"].count("load the nvidia module") == 1


def test_a_gpu_that_a_vm_has_is_never_touched(make_host):
    host = make_host(driver="vfio-pci")
    host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    host.kernel.add_process(77, "qemu-system-x86", ["qemu-system-x86_64", "-name", "guest=db,x=y"], ["/dev/vfio/" + host.pf().group])
    outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["in_use"] and "VM db, pid 77 (qemu-system-x86)" in outcome.msg and outcome.writes == 0
    assert host.pf().driver == "vfio-pci" and host.kernel.harm == []


def test_nouveau_is_left_only_by_a_reboot(make_host):
    host = make_host(driver="nouveau")
    host.kernel.loaded = {"nouveau": ""}
    os.unlink(host.root + "/etc/modprobe.d/nouveau.conf")
    outcome = call(nvidia_pci_driver, host, driver="none").ok
    assert outcome["reboot_reasons"] == [PF + " is bound to nouveau, which releases a GPU only at a reboot"]
    assert outcome["initramfs_update_needed"] and not outcome["bootloader_update_needed"]
    assert "blacklist nouveau" in host.get("/etc/modprobe.d/nvidia-vgpu-nouveau.conf") and host.pf().driver == "nouveau"
    again = call(nvidia_pci_driver, host, driver="none").ok
    assert not again["changed"] and again["reboot_reasons"]
    assert call(nvidia_pci_driver, host).codes == ["gpu_on_nouveau"]


def test_boot_files_are_left_alone_on_request(make_host):
    host = make_host(driver="vfio-pci")
    host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    outcome = call(nvidia_pci_driver, host, boot=False).ok
    assert host.get("/etc/modprobe.d/vfio.conf") == "options vfio-pci ids=10de:2235\n" and host.pf().driver == "nvidia"
    assert outcome["boot_causes"] == []


def test_causes_are_reported_and_removed(make_host):
    host = make_host(driver="vfio-pci")
    host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    host.put("/usr/lib/modprobe.d/pkg.conf", "options vfio-pci ids=10de:2235\n")
    host.put("/etc/driverctl.d/" + PF, "vfio-pci\n")
    outcome = call(nvidia_pci_driver, host).ok
    assert host.get("/etc/modprobe.d/vfio.conf") == "" and host.get("/etc/driverctl.d/" + PF) is None
    assert [one["path"] for one in outcome["boot_causes"]] == ["/etc/modprobe.d/vfio.conf", "/usr/lib/modprobe.d/pkg.conf", "/etc/driverctl.d/" + PF]
    (warning,) = outcome.warnings
    assert "/usr/lib/modprobe.d/pkg.conf" in warning and "belongs to a package" in warning
    assert outcome["diff"][0]["before_header"] == "/etc/modprobe.d/vfio.conf"


def test_a_file_of_another_task_comes_into_the_initramfs(make_host):
    """A rebuild of the initramfs stays pending until it succeeds."""
    host, seen = make_host(driver="vfio-pci"), []
    fails = [True]

    def rebuild(argv, timeout):
        seen.append((list(argv), rebuilds.read(host.root)))
        return Result(int(fails.pop() if fails else False), "no space")

    host.programs["update-initramfs"] = rebuild
    options = {"gpus": [], "driver": "none", "boot": False, "initramfs": True, "initramfs_stale": True}
    assert call(nvidia_pci_driver, host, check=True, **options).ok["actions"] == ["run update-initramfs -u -k all"] and not seen
    assert call(nvidia_pci_driver, host, **options).codes == ["initramfs_failed"] and rebuilds.read(host.root) == {"initramfs"}
    assert call(nvidia_pci_driver, host, **options).ok["changed"] and rebuilds.read(host.root) == set()
    assert seen[0][1] == seen[1][1] == {"initramfs"} and host.pf().driver == "vfio-pci"
    assert not call(nvidia_pci_driver, host, **{**options, "initramfs_stale": False}).ok["changed"]


def test_an_id_that_others_share_is_refused(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)], driver="vfio-pci")
    host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    outcome = call(nvidia_pci_driver, host, gpus=[PF])
    assert outcome.codes == ["shared_id"] and "0000:e7:00.0" in outcome.msg and outcome.writes == 0


def test_a_driver_that_refuses_the_gpu_is_reported(make_host):
    host = make_host(driver="vfio-pci")
    host.faults.bind_errno = [19]
    outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["bind_failed"] and "ENODEV" in outcome.msg and "bound to no driver" in outcome.msg and "NVRM" in outcome.msg


def test_a_module_that_does_not_load_is_reported(make_host):
    host = make_host(driver="vfio-pci")
    host.kernel.loaded.clear()
    real = host.command

    def command(argv, timeout, env=None, keeps_lock=False):
        from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

        return Result(1, "modprobe: ERROR: Key was rejected by service\n") if argv[0] == "modprobe" else real(argv, timeout, env)

    host.ctx.command = command
    outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["modprobe_failed"] and "Key was rejected by service" in outcome.msg and "Secure Boot" in outcome.msg


def test_a_data_center_driver_and_a_gpu_off_the_bus(make_host):
    host = make_host(driver="vfio-pci")
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    host.pf().off_bus = True
    outcome = call(nvidia_pci_driver, host)
    assert sorted(outcome.codes) == ["driver_datacenter", "gpu_off_bus"] and "Xid 79" in outcome.msg
