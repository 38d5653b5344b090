# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that forty symptoms that operators reported in public threads lead to a code and a remedy.

Log lines occur in the logs of a fake host. nvidia_gpu_info with health, doctor, validate, and the report show them. The other symptoms are
states of a fake host.
"""

from __future__ import annotations

import time

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_grid_license_info, nvidia_guest_info, nvidia_mdev, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

UUID = "4bca2ed2-bf47-4a06-af38-103c5c22d1c6"
TWO = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
MGR, KERNEL, FABRIC = "nvidia-vgpu-mgr", "kernel", "nvidia-fabricmanager"
XML = "<domain><name>web1</name><devices><hostdev mode='subsystem' type='%s' managed='%s'><source>%s</source></hostdev></devices></domain>"

# (number, symptom, log, log line, code, text in the remedy)
IN_LOGS = [
    (1, "VFs do not appear because the IOMMU is disabled", KERNEL, "NVRM: Aborting probe for VF 0000:e8:00.4 since IOMMU is not present on the system.",
     "log_iommu_off", "iommu"),
    (2, "too little MMIO space for the VFs", KERNEL, "pci-pf-stub 0000:e8:00.0: not enough MMIO resources for SR-IOV", "log_no_room_for_vfs", "ARI"),
    (10, "GPU instances vanish, EIO or 0x38", KERNEL, "NVRM: Failed to add vgpu create request: 0x38", "log_no_gpu_instance", "the mig role"),
    (16, "Fabric Manager version mismatch (802)", FABRIC, "fabric manager NVIDIA GPU driver interface version 550.90.07 don't match with driver version"
         " 550.107.02. Please update with matching NVIDIA driver package", "log_fabric_version", "exactly the driver's version"),
    (17, "an unbind hangs, but lsof shows no user", KERNEL, "NVRM: Attempting to remove device 0000:e8:00.0 with non-zero usage count!",
     "log_unbind_waits", "reboot the host"),
    (18, "MIG-backed vGPUs fail on RTX PRO 6000", KERNEL, "NVRM: Failed to add vgpu create request: 0x38", "log_no_gpu_instance", "+gfx"),
    (19, "the driver build fails on kernel 6.14 and later", "installer", "Error! Bad return status for module build on kernel: 6.14.0-27-generic (x86_64)",
         "log_build_failed", "newer driver release"),
    (20, "nvidia-vgpu-vfio.ko cannot be loaded", "installer",
     "ERROR: Unable to load the kernel module 'nvidia-vgpu-vfio.ko'.  This happens most frequently when",
         "log_module_load", "the driver branch does not support the kernel"),
    (21, "client and module APIs differ", KERNEL, "NVRM: API mismatch: the client has the version 570.148.08, but", "log_api_mismatch", "guest driver"),
    (22, "the RM client cannot be initialized", MGR, "error: vmiop_env_log: Failed to initialize RM client: 0x26", "log_rm_client", "restart nvidia-vgpud"),
    (23, "H100: VFs but no types", "nvidia-vgpud", "GPU not supported by vGPU at PCI Id: 0:82:0:0 DevID: 0x10de / 0x2331", "log_no_types", "AI Enterprise"),
    (24, "the GSP firmware is not loaded", KERNEL, "NVRM: RmInitAdapter: Cannot initialize GSP firmware RM", "log_gsp_firmware", "/lib/firmware"),
    (25, "error getting device from group", "qemu", "qemu-kvm: vfio error: %s: error getting device from group 14: Input/output error" % UUID, "log_vfio_group",
         "journalctl -u nvidia-vgpu-mgr"),
    (26, "the vGPU manager finds no VM UUID", MGR, "error: vmiop_env_log: Failed to get VM UUID from QEMU command-line 0x57", "log_no_vm_uuid", "-uuid"),
    (27, "libvirt does not find mdevctl", "libvirtd", "Cannot find 'mdevctl' in path: No such file or directory", "log_no_mdevctl", "container"),
    (28, "live migration fails", "qemu", "qemu-system-x86_64: VFIO migration is not compatible with postcopy migration", "log_migration", "post-copy"),
    (29, "the second vGPU of a VM fails", "qemu", "qemu-kvm: vfio %s: error getting device from group 53: Input/output error" % UUID,
     "log_vfio_group", "Several vGPUs in one VM"),
    (31, "CUDA devices are busy although nvidia-smi works", MGR, "notice: vmiop_log: (0x0): vGPU license state: Unlicensed (Restricted)",
     "log_unlicensed", "guest_license"),
    (33, "a GPU fell off the bus", KERNEL, "NVRM: Xid (PCI:0000:e8:00): 79, GPU has fallen off the bus", "log_off_bus", "power-cycle"),
    (34, "the GSP does not respond", KERNEL, "NVRM: Xid (PCI:0000:e8:00): 119, pid=1, Timeout waiting for RPC from GSP!", "log_gsp_timeout", "reboot"),
    (35, "the GPU reports memory errors", KERNEL, "NVRM: Xid (PCI:0000:e8:00): 48, pid=1, DBE (double bit error)", "log_gpu_memory", "replaced"),
    (36, "the GPU requires the open kernel modules", KERNEL, "NVRM: installed in this system requires use of the NVIDIA open kernel modules.",
     "log_wrong_flavour", "open"),
    (37, "starting the vGPU times out", KERNEL, "[nvidia-vgpu-vfio] %s: start failed. status: 0x0 Timeout Occured" % UUID, "log_vgpu_start", MGR),
    (38, "Fabric Manager on a host without NVSwitches", FABRIC, "request to query NVSwitch device information from NVSwitch driver failed with error:WARNING"
         " Nothing to do [NV_WARN_NOTHING_TO_DO]", "log_fabric_no_switch", "disable"),
    (39, "the memory of the VM cannot be locked", "qemu", "qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory", "log_dma_map", "hard_limit"),
    (40, "AppArmor denies QEMU access to the device", KERNEL, 'audit: type=1400 apparmor="DENIED" operation="open" profile="libvirt-1" name="/dev/vfio/40"',
         "log_denied", "AppArmor"),
]


def found(host, code):
    """Returns the problem with that code from nvidia_gpu_info."""
    rows = [one for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if one["code"] == code]
    assert rows, [one["code"] for one in call(nvidia_gpu_info, host, health=True).ok["problems"]]
    return rows[0]


@pytest.mark.parametrize("number, symptom, log, words, code, remedy", IN_LOGS, ids=["%d-%s" % (one[0], one[4]) for one in IN_LOGS])
def test_words_in_a_log(host, number, symptom, log, words, code, remedy):
    if log == "installer":
        host.put("/var/log/nvidia-installer.log", "-> Installing.\n%s\n" % words)
    elif log == "qemu":
        host.put("/etc/libvirt/qemu/web1.xml", XML % ("mdev", "no", "<address uuid='%s'/>" % UUID))
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000001Z", time.gmtime(time.time() + 60))
        host.put("/var/log/libvirt/qemu/web1.log", "%s %s\nVerify all devices in group 14 are bound to vfio-<bus> or pci-stub\n" % (now, words))
    else:
        host.journal.append((log, words))
    one = found(host, code)
    assert remedy in one["remedy"] and one["severity"] in ("warning", "error") and words.split("  ")[0][:60] in one["found"], symptom


# --- states: (number, function that sets up the state and returns the problem or error)


def iommu_off(make_host):
    host = make_host()
    host.kernel.iommu_on = False
    host.pf().group = None
    return found(host, "iommu_off"), "VT-d"


def fewer_vfs(make_host):
    host = make_host()
    host.pf().directory.entries.pop("sriov_totalvfs")
    return found(host, "sriov_off"), "firmware"


def unbind_lock(make_host):
    host = make_host()
    host.kernel.add_process(812, "nv-hostengine", ["/usr/bin/nv-hostengine"], ["/dev/nvidia%d" % host.pf().number])
    return call(nvidia_sriov, host, timeout=5).result["errors"][0], "nv-hostengine"


def gone_after_a_reboot(make_host):
    host = make_host()
    call(nvidia_vgpu, host.vfs_on(), layout=TWO).ok
    host.reboot()
    host.pf().driver = "nvidia"
    return found(host, "vfs_missing"), "vgpuctl restore"


def sriov_manage_lies(make_host):
    host = make_host()
    host.faults.no_vfs = 9
    return call(nvidia_sriov, host, timeout=5).result["errors"][0], ""


def left_unbound(make_host):
    return found(make_host(driver=None), "gpu_unbound"), "nvidia_pci_driver"


def on_vfio(make_host):
    return found(make_host(driver="vfio-pci"), "gpu_on_vfio"), "gpu_release"


def no_mdev_bus(make_host):
    return call(nvidia_mdev, make_host(vendor_vfio=True).vfs_on(), parent="0000:e8:00.4", type="A40-24Q").result["errors"][0], "nvidia_vgpu"


def another_size(make_host):
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q"}, {"type": "A40-12Q"}]}]
    return call(nvidia_vgpu, make_host().vfs_on(), layout=layout).result["errors"][0], "mixed"


def no_module(make_host):
    host = make_host()
    host.on_disk = None
    return found(host, "driver_module_missing"), "DKMS"


def unsigned(make_host):
    host = make_host()
    host.kernel.secure_boot = True
    return found(host, "secure_boot"), "openssl"


def guest_driver(guest):
    rows = call(nvidia_guest_info, guest, host_version="535.161.05").ok["problems"]
    return [one for one in rows if one["code"] == "branches_differ"][0], ""


def unlicensed(guest):
    return call(nvidia_grid_license_info, guest).ok["reasons"][0], "vgpu_license_token"


def no_start(make_host):
    host = make_host().vfs_on()
    host.put("/etc/libvirt/qemu/web1.xml", XML % ("mdev", "no", "<address uuid='%s'/>" % UUID))
    return found(host, "vm_without_vgpu"), "vgpu_layout"


def trusted_store(guest):
    guest.journal.append("Failed to update local trusted store - Maximum buffer size exceeded")
    guest.journal.append("Failed to acquire license from license.example.com")
    rows = call(nvidia_grid_license_info, guest).ok["reasons"]
    return [one for one in rows if one["code"] == "trust_store_full"][0], "guest driver"


def route_to_physical(guest):
    guest.journal.append(("kernel", "NVRM: Unsupported ROUTE_TO_PHYSICAL control 0x20800a4c was called on vGPU guest"))
    rows = call(nvidia_guest_info, guest, health=True).ok["problems"]
    assert not call(nvidia_guest_info, guest).ok["problems"] or all(one["code"] != rows[-1]["code"] for one in call(nvidia_guest_info, guest).ok["problems"])
    return [one for one in rows if one["code"] == "log_route_to_physical"][0], "exporter"


OF_HOSTS = {
    1: (iommu_off, "iommu_off"), 2: (fewer_vfs, "sriov_off"), 3: (unbind_lock, "unbind_lock"), 4: (gone_after_a_reboot, "vfs_missing"),
    5: (sriov_manage_lies, "vfs_fewer"), 6: (left_unbound, "gpu_unbound"), 7: (on_vfio, "gpu_on_vfio"), 8: (no_mdev_bus, "vendor_vfio"),
    9: (another_size, "two_sizes"), 11: (no_module, "driver_module_missing"), 12: (unsigned, "secure_boot"), 15: (no_start, "vm_without_vgpu"),
}
OF_GUESTS = {
    13: (guest_driver, "branches_differ"), 14: (unlicensed, "token_missing"), 30: (trusted_store, "trust_store_full"),
    32: (route_to_physical, "log_route_to_physical"),
}


@pytest.mark.parametrize("number", sorted(OF_HOSTS))
def test_a_state_of_a_host(make_host, number):
    make, code = OF_HOSTS[number]
    one, words = make(make_host)
    assert one["code"] == code and one["remedy"] and words in one["remedy"] + one["found"], one


@pytest.mark.parametrize("number", sorted(OF_GUESTS))
def test_a_state_of_a_guest(guest, number):
    make, code = OF_GUESTS[number]
    one, words = make(guest)
    assert one["code"] == code and one["remedy"] and words in one["remedy"] + one["found"], one


def test_there_are_forty():
    assert {one[0] for one in IN_LOGS} | set(OF_HOSTS) | set(OF_GUESTS) == set(range(1, 41))
