# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests log lines from public reports, which must lead to a remedy. Healthy logs and unrelated failures must lead to no finding."""

from __future__ import annotations

import os
import re
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import logs, symptoms
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import logs as reader
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libvirt_xml
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.journal import Line
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

MGR, VGPUD, FABRIC, GRIDD, INSTALLER, LIBVIRT = (
    "nvidia-vgpu-mgr", "nvidia-vgpud", "nvidia-fabricmanager", "nvidia-gridd", "nvidia-installer", "libvirtd",
)
VM = "VM web1"
# A source is a vendor's page, the code of the program that prints the line, or a thread in a public issue tracker.
SOURCES = r"https://(docs|download)\.nvidia\.com/|https://(github|gitlab)\.com/.*/(issues|pull|blob|wikis)/|https://qemu\.googlesource\.com/"
START = "notice: vmiop_env_log: (0x0): Received start call from nvidia-vgpu-vfio module: mdev uuid %s GPU PCI id 00:e8:00.0 config params vgpu_type_id=558"
UUID = "4bca2ed2-bf47-4a06-af38-103c5c22d1c6"

# (log, line, code, device, text in the remedy). The addresses are examples. The wording comes from the threads that the table of symptoms names.
LINES = [
    ("kernel", "NVRM: Aborting probe for VF 0000:e8:00.4 since IOMMU is not present on the system.", "log_iommu_off", "0000:e8:00.4", "the iommu role"),
    ("kernel", "NVRM: Aborting probe for VF 0000:e8:00.4 since PF is not bound to nvidia driver.", "log_pf_unbound", "0000:e8:00.4", "nvidia_sriov"),
    ("kernel", "pci-pf-stub 0000:e8:00.0: not enough MMIO resources for SR-IOV", "log_no_room_for_vfs", "0000:e8:00.0", "above-4G"),
    ("kernel", "nvidia 0000:e8:00.0: SR-IOV: bus number out of range", "log_no_room_for_vfs", "0000:e8:00.0", "ARI"),
    ("kernel", "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:", "log_bar_invalid", "kernel", "firmware"),
    ("kernel", "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus", "log_off_bus", "0000:44:00.0", "power-cycle"),
    ("kernel", "NVRM: fallen off the bus and is not responding to commands.", "log_off_bus", "kernel", "power-cycle"),
    ("kernel", "NVRM: Xid (PCI:0000:44:00): 119, pid=1, Timeout waiting for RPC from GSP! Expected function 76", "log_gsp_timeout", "0000:44:00.0", "reboot"),
    ("kernel", "NVRM: Xid (PCI:0000:44:00): 94, pid='<unknown>', Contained: SM (0x1)", "log_gpu_memory", "0000:44:00.0", "replaced"),
    ("kernel", "NVRM: Xid (PCI:0000:44:00): 74, pid='<unknown>', NVLink: fatal error detected on link 3", "log_nvlink", "0000:44:00.0", "nvlink -e"),
    ("kernel", "NVRM: Xid (PCI:0000:44:00): 31, pid=77, MMU Fault", "log_xid", "0000:44:00.0", "Xid errors"),
    ("kernel", "NVRM: RmInitAdapter: Cannot initialize GSP firmware RM", "log_gsp_firmware", "kernel", "/lib/firmware/nvidia"),
    ("kernel", "nvidia 0000:98:00.0: loading /lib/firmware/nvidia/570.133.20/gsp_ga10x.bin failed with error -4",
     "log_gsp_firmware", "0000:98:00.0", "firmware"),
    ("kernel", "NVRM: installed in this system requires use of the NVIDIA open kernel modules.", "log_wrong_flavour", "kernel", "vgpu_driver_module_type"),
    ("kernel", "NVRM: installed in this system is not supported by the\nNVRM: NVIDIA 550.90.07 driver release.", "log_gpu_unsupported", "kernel", "release"),
    ("kernel", "NVRM: GPU 0000:98:00.0: RmInitAdapter failed! (0x62:0x65:1792)", "log_init_failed", "0000:98:00.0", "reboot"),
    ("kernel", "NVRM: API mismatch: the client has the version 570.148.08, but", "log_api_mismatch", "kernel", "guest driver does not belong"),
    ("kernel", "NVRM: API mismatch: the client 'nvidia-powerd' (pid 849)", "log_api_mismatch", "kernel", "Reboot"),
    ("kernel", "NVRM: Attempting to remove device 0000:8a:00.0 with non-zero usage count!", "log_unbind_waits", "0000:8a:00.0", "reboot the host"),
    ("kernel", "nvidia_vgpu_vfio: Unknown symbol mdev_register_parent (err -2)", "log_module_symbols", "kernel", "headers"),
    ("kernel", "nvidia: version magic '6.8.0-45 SMP' should be '6.8.0-51 SMP'", "log_module_symbols", "kernel", "kernel"),
    ("kernel", "NVRM: Failed to add vgpu create request: 0x56", "log_vgpu_create", "kernel", "mixed_sizes"),
    ("kernel", "NVRM: Failed to add vgpu create request: 0x38", "log_no_gpu_instance", "kernel", "+gfx"),
    ("kernel", "[nvidia-vgpu-vfio] a581675d-19eb-4f50-aa64-6aeb378c58c3: start failed. status: 0x0 Timeout Occured", "log_vgpu_start",
     "a581675d-19eb-4f50-aa64-6aeb378c58c3", "journalctl -u nvidia-vgpu-mgr"),
    ("kernel", "NVRM: rmControl: Unsupported ROUTE_TO_PHYSICAL control 0x20800a4c was called on vGPU guest", "log_route_to_physical", "kernel", "exporter"),
    ("kernel", "NVRM: The NVIDIA probe routine was not called for 1 device(s).", "log_other_driver", "kernel", "gpu_release"),
    ("kernel", "NVRM: The NVIDIA probe routine failed for 1 device(s).", "log_probe_failed", "kernel", "NVRM"),
    ("kernel", "nvidia: probe of 0000:01:00.0 failed with error -1", "log_probe_failed", "0000:01:00.0", "NVRM"),
    ("kernel", 'audit: type=1400 apparmor="DENIED" operation="open" profile="libvirt-1" name="/dev/nvidia0" comm="qemu-system-x86"',
     "log_denied", "kernel", "AppArmor"),
    (MGR, "error: vmiop_env_log: Failed to initialize RM client: 0x26", "log_rm_client", MGR + ".service", "modinfo -F version nvidia"),
    (MGR, "error: vmiop_env_log: Failed to get VM UUID from QEMU command-line 0x57", "log_no_vm_uuid", MGR + ".service", "-uuid"),
    (MGR, "error: vmiop_log: (0x0): Incompatible Guest/Host drivers: Guest VGX version is newer than the maximum version supported by the Host."
          " Disabling vGPU.", "log_guest_driver", MGR + ".service", "vgpu.kvm.guest"),
    (MGR, "error: vmiop_log: (0x0): vGPU is supported only on VGX capable boards", "log_not_a_vgpu_board", MGR + ".service", "list of supported vGPU hardware"),
    (MGR, "error: vmiop_log: (0x0): init_device_instance failed for inst 0 with error 1 (error setting vGPU configuration)", "log_vgpu_init",
     MGR + ".service", "text in parentheses"),
    (MGR, "notice: vmiop_log: (0x0): vGPU license state: Unlicensed (Restricted)", "log_unlicensed", MGR + ".service", "guest_license"),
    (VGPUD, "GPU not supported by vGPU at PCI Id: 0:82:0:0 DevID: 0x10de / 0x2330 / 0x10de / 0x16c1", "log_no_types", VGPUD + ".service", "AI Enterprise"),
    (VGPUD, "error: failed to send vGPU configuration info to RM: 6", "log_vgpud", VGPUD + ".service", "restart nvidia-vgpud"),
    (FABRIC, "fabric manager NVIDIA GPU driver interface version 530.30.02 don't match with driver version 530.41.03. Please update with matching"
             " NVIDIA driver package.", "log_fabric_version", FABRIC + ".service", "exactly the driver's version"),
    (FABRIC, "request to query NVSwitch device information from NVSwitch driver failed with error:WARNING Nothing to do [NV_WARN_NOTHING_TO_DO]",
     "log_fabric_no_switch", FABRIC + ".service", "disable --now"),
    (GRIDD, "Failed to update local trusted store - Maximum buffer size exceeded", "log_trusted_store", GRIDD + ".service", "Update the guest driver"),
    (GRIDD, "Failed to acquire license from license.example.com", "log_no_license", GRIDD + ".service", "vgpu.kvm.validate"),
    (VM, "qemu-kvm: -device vfio-pci,id=hostdev0,sysfsdev=/sys/bus/mdev/devices/%s: vfio error: %s: error getting device from group 14:"
         " Input/output error" % (UUID, UUID), "log_vfio_group", VM, "Several vGPUs in one VM"),
    (VM, "qemu-kvm: -device vfio-pci,host=0000:e8:00.4: vfio 0000:e8:00.4: failed to open /dev/vfio/40: Device or resource busy",
     "log_vfio_busy", VM, "same vGPU"),
    (VM, "qemu-kvm: -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/%s: vfio %s: failed to open /dev/vfio/0: No such file or directory" % (UUID, UUID),
     "log_vfio_gone", VM, "managed='no'"),
    (VM, "qemu-kvm: -device vfio-pci,host=0000:e8:00.4: vfio 0000:e8:00.4: no such host device: No such file or directory", "log_vfio_gone", VM, "restore"),
    (VM, "qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory", "log_dma_map", VM, "hard_limit"),
    (VM, "qemu-system-x86_64: VFIO device doesn't support migration", "log_migration", VM, "without --postcopy"),
    (VM, "qemu-system-x86_64: vfio_dma_map(0x55a28c7659d0, 0xc0000, 0xb000, 0x7f1b11a00000) = -14 (Bad address)", "log_migration", VM, "same type"),
    (LIBVIRT, "Cannot find 'mdevctl' in path: No such file or directory", "log_no_mdevctl", LIBVIRT + ".service", "container"),
    (LIBVIRT, "internal error: cannot migrate a domain with <hostdev mode='subsystem' type='mdev'>", "log_migration", LIBVIRT + ".service", "post-copy"),
    (LIBVIRT, "internal error: unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported with VFIO devices", "log_migration",
     LIBVIRT + ".service", "post-copy"),
    (INSTALLER, "ERROR: Unable to load the kernel module 'nvidia-vgpu-vfio.ko'.  This happens most frequently when this kernel module was built against"
                " the wrong or improperly configured kernel sources", "log_module_load", INSTALLER, "Secure Boot"),
    (INSTALLER, "Error! Bad return status for module build on kernel: 6.14.0-27-generic (x86_64)", "log_build_failed", INSTALLER, "6.14"),
]

# The log of a healthy host: a boot, loading the driver, VFs, VMs that start and stop, and a license after two seconds.
QUIET = [
    ("kernel", "nvidia: loading out-of-tree module taints kernel."),
    ("kernel", "nvidia: module license 'NVIDIA' taints kernel."),
    ("kernel", "nvidia: module verification failed: signature and/or required key missing - tainting kernel"),
    ("kernel", "nvidia-nvlink: Nvlink Core is being initialized, major device number 234"),
    ("kernel", "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.148.06  Mon May  5 11:36:21 UTC 2025"),
    ("kernel", "NVRM: GPU at 0000:01:00.0 has software scheduler ENABLED with policy BEST_EFFORT."),
    ("kernel", "nvidia 0000:e8:00.0: enabling device (0140 -> 0142)"),
    ("kernel", "vfio_mdev %s: Adding to iommu group 80" % UUID),
    ("kernel", "[nvidia-vgpu-vfio] %s: vGPU migration enabled with upstreamed V2 migration protocol" % UUID),
    ("kernel", "[nvidia-vgpu-vfio] %s: vGPU migration disabled" % UUID),
    (VGPUD, "Verbose syslog connection opened"),
    (VGPUD, "Global settings:"),
    (VGPUD, "Homogeneous vGPUs: 1"),
    (VGPUD, "vGPU types: 653"),
    (VGPUD, "pciId of gpu [0]: 0:1:0:0"),
    (VGPUD, "License: GRID-Virtual-Apps,3.0"),
    (VGPUD, "Frame Rate Limiter enabled: 0x1"),
    (VGPUD, "PID file unlocked."),
    (VGPUD, "Shutdown (27664)"),
    (MGR, "notice: vmiop_env_log: nvidia-vgpu-mgr daemon started"),
    (MGR, "notice: vmiop_env_log: vmiop-env: guest_max_gpfn:0x0"),
    (MGR, "notice: vmiop_env_log: Unable to get VM name from QEMU commandline, using VM's UUID as VM name. 0x57"),
    (MGR, START % UUID),
    (MGR, "notice: vmiop_env_log: (0x0): pluginconfig: vgpu_type_id=558"),
    (MGR, "notice: vmiop_env_log: Successfully updated env symbols!"),
    (MGR, "notice: vmiop_log: (0x0): detected a VF at 0:3b:0.7"),
    (MGR, "notice: vmiop_log: (0x0): Cannot query ECC status. vGPU ECC support will be disabled."),
    (MGR, "notice: vmiop_log: (0x0): Guest usable FB size is reduced due to ECC."),
    (MGR, "notice: vmiop_log: (0x0): vGPU supported range: (0x70001, 0x140001)"),
    (MGR, "notice: vmiop_log: display_init inst: 0 successful"),
    (MGR, "notice: vmiop_log: ######## Guest NVIDIA Driver Information: ########"),
    (MGR, "notice: vmiop_log: Driver Version: 550.163.01"),
    (MGR, "notice: vmiop_log: (0x0): vGPU license state: Unlicensed (Unrestricted)"),
    (MGR, "notice: vmiop_log: (0x0): vGPU license state: Licensed"),
    (GRIDD, "Started (812)"),
    (GRIDD, "vGPU Software package (0)"),
    (GRIDD, "License acquired successfully. (Info: license.example.com, NVIDIA RTX Virtual Workstation; Expiry: 2026-12-01 7:29:4 GMT)"),
    (FABRIC, "Connected to 1 node."),
    (FABRIC, "Successfully configured all the available NVSwitches to route GPU NVLink traffic. NVLink Peer-to-Peer support will be enabled once the GPUs"
             " are successfully registered with the NVLink fabric."),
    (VM, "LC_ALL=C \\"),
    (VM, "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \\"),
    (VM, "-device '{\"driver\":\"vfio-pci\",\"id\":\"hostdev0\",\"sysfsdev\":\"/sys/bus/mdev/devices/%s\",\"display\":\"off\"}' \\" % UUID),
    (VM, "qemu-system-x86_64: -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/%s: warning: vfio %s: Could not enable error recovery for the"
         " device" % (UUID, UUID)),
    (VM, "char device redirected to /dev/pts/3 (label charserial0)"),
    (VM, "qemu-system-x86_64: terminating on signal 15 from pid 2114 (/usr/sbin/libvirtd)"),
    (VM, "shutting down, reason=shutdown"),
    (LIBVIRT, "libvirt version: 9.0.0, package: 9.0.0-4+deb12u2 (Debian)"),
    (INSTALLER, "-> Installing NVIDIA driver version 550.163.02."),
    (INSTALLER, "WARNING: nvidia-installer was forced to guess the X library path"),
]

# Failures that are unrelated to vGPUs.
UNRELATED = [
    ("kernel", "ata3.00: failed command: READ FPDMA QUEUED"),
    ("kernel", "blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ)"),
    ("kernel", "EXT4-fs error (device sdb1): ext4_find_entry:1463: inode #2: comm ls: reading directory lblock 0"),
    ("kernel", "i40e 0000:3b:00.0: not enough MMIO resources for SR-IOV"),
    ("kernel", "mlx5_core 0000:ab:00.0: mlx5_cmd_check: failed, status bad parameter(0x3)"),
    ("kernel", "usb 1-6: device descriptor read/64, error -71"),
    ("kernel", "vfio-pci 0000:3b:00.0: vfio_ecap_init: hiding ecap 0x1e@0x1a0, invalid"),
    ("kernel", "vboxdrv: version magic '6.8.0-45 SMP' should be '6.8.0-51 SMP'"),
    ("kernel", "Out of memory: Killed process 4711 (java)"),
    ("kernel", 'audit: type=1400 apparmor="DENIED" operation="open" profile="snap.firefox" name="/etc/fstab" comm="firefox"'),
    (VM, "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.07H:EBX.hle [bit 4]"),
    (VM, "qemu-system-x86_64: -drive file=/var/lib/x.qcow2: Could not open '/var/lib/x.qcow2': Permission denied"),
    (LIBVIRT, "internal error: Failed to start QEMU binary for probing: Permission denied"),
    (LIBVIRT, "End of file while reading data: Input/output error"),
]


def findings(*pairs):
    """Returns [(code, device)] and the Refusals for log lines, each given as (log, text) or (log, text, pid)."""
    lines = [Line(log, text, 1.7e9 + number, str((pid or ["7"])[0])) for number, (log, text, *pid) in enumerate(pairs)]
    found = logs.find(reader.Logs(lines))
    return [(one.code, one.device) for one in found], found


@pytest.mark.parametrize("log, line, code, device, words", LINES, ids=["%d-%s" % (number, one[2]) for number, one in enumerate(LINES)])
def test_from_the_words_to_the_remedy(log, line, code, device, words):
    rows, found = findings((log, line))
    assert rows == [(code, device)]
    assert words in found[0].remedy and " ".join(line.split())[:100] in found[0].found
    assert "2023-11-14 22:13:20 UTC" in found[0].found


def test_each_row_of_the_table_has_a_line_and_a_source():
    assert {(code, logs._kind(log)) for log, dummy, code, dummy, dummy in LINES} == {(row[0], row[1]) for row in symptoms.TABLE}
    for code, dummy, pattern, cause, remedy, dummy, source in symptoms.TABLE:
        assert (source == symptoms.FIELD or re.match(SOURCES, source)) and cause and remedy.endswith((".", ")")), code
        re.compile(pattern)
    assert all(source == symptoms.FIELD or re.match(SOURCES, source) for dummy, dummy, source in symptoms.HARMLESS)
    assert set(symptoms.ENDED) <= {row[0] for row in symptoms.TABLE}


def test_quiet_logs_are_no_finding():
    assert findings(*QUIET)[0] == []


@pytest.mark.parametrize("pair", UNRELATED)
def test_failures_of_others_are_no_finding(pair):
    assert findings(pair)[0] == []


def test_a_symptom_among_quiet_lines_is_found_alone():
    for log, line, code, device, dummy in LINES:
        rows = findings(*QUIET, (log, line, "99"), *UNRELATED)[0]
        assert rows == [(code, device)], line


def test_lines_that_nobody_knows_are_shown():
    pairs = [(MGR, "error: vmiop_log: (0x0): Plugin says %d: failed" % number) for number in range(9)]
    rows, found = findings(*pairs, ("kernel", "NVRM: something new failed"), (VM, "qemu-kvm: vfio-mdev: unable to frobnicate"))
    assert rows == [("log_unknown", MGR + ".service"), ("log_unknown", "kernel"), ("log_unknown", VM)]
    assert "9 lines" in found[0].found and "says 8" in found[0].found and "says 5" not in found[0].found
    assert "journalctl -b -u nvidia-vgpu-mgr" in found[0].remedy and "/var/log/libvirt/qemu/web1.log" in found[2].remedy


def test_many_lines_of_one_kind_are_one_finding():
    flood = [("kernel", "NVRM: Unsupported ROUTE_TO_PHYSICAL control 0x%x was called on vGPU guest" % number) for number in range(500)]
    rows, found = findings(*flood)
    assert rows == [("log_route_to_physical", "kernel")] and "500 times" in found[0].found and len(found[0].found) < 500


def test_what_a_later_line_ends_is_no_finding():
    other = UUID.replace("4bca", "5bca")
    state = "notice: vmiop_log: (0x0): vGPU license state: "
    unlicensed = [(MGR, state + "Unlicensed (Unrestricted)", pid) for pid in ("11", "12")]
    rows = findings((MGR, START % UUID, "11"), (MGR, START % other, "12"), *unlicensed, (MGR, state + "Licensed", "11"))[0]
    assert rows == [("log_unlicensed", other)], "each VM has its own license"
    failed = (MGR, "error: vmiop_env_log: Failed to initialize RM client: 0x26", "1")
    assert findings(failed, (MGR, "notice: vmiop_env_log: nvidia-vgpu-mgr daemon started", "2"))[0] == []
    assert findings((MGR, "notice: vmiop_env_log: nvidia-vgpu-mgr daemon started", "2"), failed)[0] == [("log_rm_client", MGR + ".service")]


def test_what_the_state_shows_is_not_repeated():
    lines = [Line("kernel", "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus")]
    assert logs.find(reader.Logs(lines), ["gpu_off_bus"]) == []


def test_nothing_that_a_terminal_obeys_and_no_token_is_shown():
    evil = "NVRM: \x1b]0;pwned\x07 Xid (PCI:0000:44:00): 31, \x1b[2Jfailed \x9b31m"
    token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJOTFMifQ.c2lnbmF0dXJlLW9mLW5vYm9keQ"
    found = findings(("kernel", evil), (MGR, "error: failed \x1b[31m token %s" % token))[1]
    assert len(found) == 2
    for one in found:
        assert one.found.isprintable() and str(one).isprintable() and token not in one.found


# --- reading the logs

XML = "<domain><name>web1</name><devices><hostdev mode='subsystem' type='mdev'><source><address uuid='%s'/></source></hostdev></devices></domain>" % UUID
QEMU = """2026-11-27 01:00:00.123+0000: starting up libvirt version: 9.0.0
2026-11-27T01:00:01.000001Z qemu-system-x86_64: vfio 1: error getting device from group 14: Input/output error
%(day)s 01:00:00.123+0000: starting up libvirt version: 9.0.0
-device vfio-pci
%(day)sT01:00:01.000001Z qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory
it goes on: vfio failed
"""


def domains(host):
    host.put("/etc/libvirt/qemu/web1.xml", XML)
    return libvirt_xml.domains(host.ctx)[0]


def test_qemu_s_log_since_the_last_start(host):
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    host.put("/var/log/libvirt/qemu/web1.log", QEMU % {"day": tomorrow})
    host.put("/var/log/libvirt/qemu/web2.log", QEMU % {"day": tomorrow})
    found = [(line.log, line.text) for line in reader.read(host.ctx, domains(host)).lines]
    assert [log for log, dummy in found] == [VM] * 3 and not any("group 14" in text for dummy, text in found)
    assert "qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory" in [text for dummy, text in found]


def test_old_and_strange_files_are_not_read(host):
    host.put("/var/log/libvirt/qemu/web1.log", QEMU % {"day": "2020-01-01"})
    assert reader.read(host.ctx, domains(host)).lines == [], "lines older than a day must be ignored"
    os.utime(host.root + "/var/log/libvirt/qemu/web1.log", (1, 1))
    assert reader.read(host.ctx, domains(host)).lines == []
    os.unlink(host.root + "/var/log/libvirt/qemu/web1.log")
    os.mkfifo(host.root + "/var/log/libvirt/qemu/web1.log")
    assert reader.read(host.ctx, domains(host)).lines == [], "reading a pipe would never finish"


def test_of_a_large_file_the_end_is_read(host):
    host.put("/var/log/nvidia-installer.log", "x" * 1000000 + "\nERROR: Unable to load the kernel module 'nvidia-vgpu-vfio.ko'.\n")
    found = reader.read(host.ctx).lines
    assert sum(len(line.text) for line in found) <= 64 * 1024 and found[-1].log == INSTALLER


def test_a_long_line_takes_no_time_and_fills_no_message(host):
    """A guest can make QEMU write a long line. A secret that is truncated at the end of a line cannot be recognized, so no part of it may be shown."""
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    token = "abcdefghi_" * 90
    for text in ("VFIO device " * 5000, "vfio_dma_map postcopy " * 2900, "iscsi:" * 10000, token + " error: " + "y" * 80 + " MARK" * 5000):
        host.put("/var/log/libvirt/qemu/web1.log", "%sT01:00:00.000001Z %s\n" % (tomorrow, text))
        begin = time.monotonic()
        found = reader.read(host.ctx, domains(host))
        texts = [str(one) for one in logs.find(found)]
        assert time.monotonic() - begin < 2 and all(len(line.text) <= 1000 for line in found.lines) and all(len(one) < 1000 for one in texts)
    cut = "%s nvidia error %s" % ("a" * 985, "TOKENTOKENTOKEN" * 3)
    host.put("/var/log/nvidia-installer.log", "ERROR: %s\n" % cut)
    assert not [one for one in logs.find(reader.read(host.ctx)) if "TOKEN" in str(one)]


def test_a_vgpu_is_of_the_manager_s_process_alone():
    """Log lines from the kernel and the installer have no PID. If such a line follows a line about a vGPU, it does not belong to that vGPU."""
    rows, dummy = findings(("kernel", START % UUID, ""), (INSTALLER, "ERROR: Unable to load the kernel module 'nvidia.ko'.", ""))
    assert ("log_module_load", INSTALLER) in list(rows), rows


@pytest.mark.parametrize("answer, unread", [
    (Result(127, "journalctl: No such file or directory"), 0),
    (Result(124, "", True), 2),
    (Result(1, "Failed to open journal\n"), 2),
    (Result(0, "-- No entries --\nnull\n[]\n{\"MESSAGE\": null}\n{\"MESSAGE\": 7}\n{\"MESSAGE\": \"x\", \"__REALTIME_TIMESTAMP\": \"no\"}\n"), 0),
])
def test_a_journal_that_gives_no_or_a_strange_answer(host, answer, unread):
    host.programs["journalctl"] = lambda argv, timeout: answer
    found = reader.read(host.ctx)
    assert len(found.unread) == unread
    codes = [one.code for one in logs.find(found)]
    assert codes == ["log_unread"] * unread


def test_a_message_of_bytes(host):
    text = b"NVRM: Xid (PCI:0000:44:00): 79, \x1b[2J GPU has fallen off the bus"
    answer = '{"MESSAGE": %s, "_TRANSPORT": "kernel"}\n' % list(text)
    host.programs["journalctl"] = lambda argv, timeout: Result(0, answer if "_TRANSPORT=kernel" in argv else "")
    (found,) = logs.find(reader.read(host.ctx))
    assert (found.code, found.device) == ("log_off_bus", "0000:44:00.0") and found.found.isprintable()


def test_the_journal_is_bounded(host):
    reader.read(host.ctx)
    asked = [argv for argv in host.calls if argv[0] == "journalctl"]
    assert len(asked) == 2 and all({"--boot", "--since=-24h", "--lines=2000"} <= set(argv) for argv in asked)


def test_health_has_them_and_a_plain_reading_has_not(host):
    host.journal.append(("kernel", "NVRM: Xid (PCI:0000:e8:00): 94, Contained"))
    plain = call(nvidia_gpu_info, host).ok["problems"]
    assert not [one for one in plain if one["code"].startswith("log_")] and not any(argv[0] == "journalctl" for argv in host.calls)
    (found,) = [one for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if one["code"].startswith("log_")]
    assert (found["code"], found["severity"], found["gpu"]) == ("log_gpu_memory", "warning", "0000:e8:00.0")
