# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the table of known log lines. Each row contains a pattern, the cause, the remedy, and the source.

A new row requires a log line from a program, and a test in tests/unit/plugins/module_utils/engine/checks/test_symptoms.py.
"""

from __future__ import annotations

import functools
import re
from typing import Pattern

from ..base.errors import Refusal

_MODULES = "https://github.com/NVIDIA/open-gpu-kernel-modules/"
_OPERATOR = "https://github.com/NVIDIA/gpu-operator/issues/"
_XID = "https://docs.nvidia.com/deploy/xid-errors/"
_QEMU = "https://gitlab.com/qemu-project/qemu/-/blob/master/hw/vfio/"
# The source for log lines that were observed on hosts, but do not appear in any vendor's documentation or source code.
FIELD = "seen in the field"
_REBOOT = "Stop all VMs that use the GPU, then reboot the host."
_SERVER = "Enable SR-IOV, ARI, and above-4G decoding in the host's firmware. If these settings are already enabled, update the firmware."

# Each row is (code, log, pattern, cause, remedy, codes of state checks that report the same problem, source).
# The log is "kernel", a unit, "qemu", "libvirt", or "nvidia-installer". The first pattern that matches a log line determines the code.
TABLE = (
    # --- the kernel's log
    ("log_iommu_off", "kernel", r"Aborting probe for VF .* since IOMMU is not present",
     "the driver did not bind to the VFs, because the IOMMU is disabled", "Enable VT-d or AMD-Vi in the firmware, run the iommu role, and reboot the host.",
     "iommu_off iommu_flags_missing", _MODULES + "blob/main/kernel-open/nvidia/nv-pci.c"),
    ("log_pf_unbound", "kernel", r"Aborting probe for VF .* since PF is not bound",
     "the driver did not bind to the VFs, because the GPU of the VFs was not bound to nvidia",
     "Rerun the vgpu.kvm.host playbook, in which the nvidia_sriov module first binds the GPU to nvidia.",
     "gpu_unbound gpu_on_stub gpu_on_vfio", _MODULES + "blob/main/kernel-open/nvidia/nv-pci.c"),
    ("log_no_room_for_vfs", "kernel", r"(?:nvidia|pci-pf-stub) [0-9a-f:.]+: (?:not enough MMIO resources for SR-IOV|SR-IOV: bus number out of range)",
     "the firmware assigned too few resources for the GPU's VFs", _SERVER, "sriov_off",
     "https://github.com/torvalds/linux/blob/master/drivers/pci/iov.c"),
    ("log_bar_invalid", "kernel", r"PCI I/O region assigned to your NVIDIA device is invalid",
     "the firmware assigned no usable memory window to the GPU", _SERVER, "", _MODULES + "blob/main/kernel-open/nvidia/nv-pci.c"),
    ("log_off_bus", "kernel", r"fallen off the bus",
     "the GPU fell off the bus and no longer responds", "Check the GPU's power, cooling, seating, and firmware, then power-cycle the host.",
     "gpu_off_bus", "https://github.com/NVIDIA/NVSentinel/issues/155"),
    ("log_gsp_timeout", "kernel", r"Xid .*\b(?:119|120),|Timeout (?:after \d+s of )?waiting for RPC(?: response)? from GSP",
     "the GPU's firmware (GSP) does not respond", _REBOOT + " If the error returns, update the driver to the newest release of the driver's branch.",
     "", _MODULES + "issues/446"),
    ("log_gpu_memory", "kernel", r"Xid .*: (?:48|63|64|92|94|95),",
     "the GPU reports memory errors (ECC)", _REBOOT + " If the errors return, run NVIDIA's field diagnostic and have the GPU replaced.", "", _XID),
    ("log_nvlink", "kernel", r"Xid .*: 74,|nvidia-nvswitch\d*: SXid", "NVLink or an NVSwitch reports errors",
     "Find the failed NVLink with 'nvidia-smi nvlink -e' and 'journalctl -u nvidia-fabricmanager'. "
     "If the errors return, have the connector or board replaced.", "", _XID),
    ("log_xid", "kernel", r"NVRM: Xid \(", "the driver reports a GPU error (Xid)",
     "Find the Xid number, which follows the GPU's address, in NVIDIA's list of Xid errors (docs.nvidia.com/deploy/xid-errors).", "gpu_off_bus", _XID),
    ("log_gsp_firmware", "kernel", r"Cannot initialize GSP firmware RM|gsp_\w+\.bin failed|unexpected WPR2 already up",
     "the GPU's firmware (GSP) could not be loaded",
     "Check that /lib/firmware/nvidia/VERSION/ exists for the loaded driver version. Reinstall the host driver, and reboot the host.",
     "", _MODULES + "issues/673"),
    ("log_wrong_flavour", "kernel", r"requires use of the NVIDIA open kernel modules",
     "this GPU requires the open kernel module, but the proprietary kernel module is loaded",
     "Set 'vgpu_driver_module_type: open', and reinstall the driver, which then includes the open kernel module.",
     "mixed_flavours", "https://download.nvidia.com/XFree86/Linux-x86_64/580.105.08/README/kernel_open.html"),
    ("log_gpu_unsupported", "kernel", r"installed in this system is not supported by",
     "the loaded driver does not support this GPU", "Install a vGPU software release that supports the GPU (see NVIDIA's release notes).",
     "gpu_unsupported", "https://github.com/NVIDIA/nvtrust/issues/55"),
    ("log_init_failed", "kernel", r"RmInitAdapter failed|rm_init_adapter failed",
     "the driver could not initialize the GPU", _REBOOT + " If the error returns, find the reason in the preceding lines of 'journalctl -k -b | grep NVRM'.",
     "gpu_off_bus", _MODULES + "issues/789"),
    ("log_api_mismatch", "kernel", r"API mismatch: the client",
     "the driver's programs or libraries and its kernel module have different versions",
     "Reboot the host if a driver was just installed. Otherwise, remove the other driver's packages. A guest driver does not belong on a host.",
     "driver_mismatch", _MODULES + "issues/829"),
    ("log_unbind_waits", "kernel", r"Attempting to remove device .* with non-zero usage count",
     "the kernel cannot yet unbind the GPU from nvidia, because the GPU's use count is not zero, possibly because of a program that has exited",
     "Find the programs that use the GPU with 'lsof /dev/nvidia*', and stop these programs. "
     "If no program uses the GPU, which is a known problem of driver 595, reboot the host.", "",
     _MODULES + "issues/1119"),
    ("log_module_symbols", "kernel", r"nvidia\w*: (?:version magic|disagrees about version of symbol|Unknown symbol|exports duplicate symbol)",
     "a driver module is incompatible with the running kernel",
     "Install the kernel headers and reinstall the driver, or install a driver release that supports this kernel.",
     "driver_module_missing", _OPERATOR + "1390"),
    ("log_vgpu_create", "kernel", r"Failed to add vgpu create request: 0x(?!38\b)",
     "the driver refused to create a vGPU although the driver lists the vGPU type",
     "Run 'vgpuctl status' to check whether the GPU is full or has vGPUs of another size. For two sizes on one GPU, use mixed_sizes in the layout.",
     "", "https://github.com/bigstack-oss/cubecos/issues/905"),
    ("log_no_gpu_instance", "kernel", r"Failed to add vgpu create request: 0x38",
     "the driver found no GPU instance for the vGPU's type",
     "Run the mig role, which creates GPU instances for the layout's types (RTX PRO 6000 requires profiles with +gfx, even for C types).",
     "mig_lost mig_instances_missing", "https://github.com/bigstack-oss/cubecos/issues/905"),
    ("log_vgpu_start", "kernel", r"\[nvidia-vgpu-vfio\] \S+: start failed",
     "the vGPU manager did not start a vGPU for a VM",
     "Find the reason in 'journalctl -u nvidia-vgpu-mgr'. If the service is not running, run 'systemctl start nvidia-vgpu-mgr'.",
     "manager_not_running", _OPERATOR + "527"),
    ("log_route_to_physical", "kernel", r"Unsupported ROUTE_TO_PHYSICAL control",
     "a program in this VM repeatedly requests values that a whole GPU provides, but a vGPU does not",
     "In the VM, find the exporter (DCGM, or nvidia-smi in a loop), and limit the exporter to fields that a vGPU supports. The vGPU itself works.",
     "", _MODULES + "blob/main/src/nvidia/src/kernel/rmapi/control.c"),
    ("log_other_driver", "kernel", r"NVIDIA probe routine was not called",
     "the GPU was bound to another driver (nouveau, vfio-pci) when the nvidia module was loaded",
     "Run the gpu_release role, which unbinds the GPU from the other driver and blocks nouveau.",
     "gpu_on_nouveau gpu_on_vfio nouveau_loaded", _MODULES + "blob/main/kernel-open/nvidia/nv.c"),
    ("log_probe_failed", "kernel", r"NVIDIA probe routine failed|nvidia.*probe of \S+ failed",
     "the nvidia driver did not bind to a GPU or VF", "Find the reason in the preceding lines of 'journalctl -k -b | grep NVRM'.",
     "", _MODULES + "blob/main/kernel-open/nvidia/nv.c"),
    ("log_denied", "kernel", r"(?:apparmor=.DENIED.|avc: +denied).*(?:nvidia|vfio|mdev)",
     "a security module denies a program access to an NVIDIA or VFIO device", "Allow the access in the AppArmor profile or SELinux policy of that program.",
     "", "https://gitlab.com/apparmor/apparmor/-/wikis/AppArmor_Failures"),
    # --- nvidia-vgpu-mgr
    ("log_rm_client", "nvidia-vgpu-mgr", r"Failed to initialize RM client",
     "the vGPU manager cannot connect to the driver, because the nvidia module is not loaded or has another version or type",
     "If /sys/module/nvidia/version differs from the output of 'modinfo -F version nvidia', reboot the host. "
     "Otherwise, run 'systemctl restart nvidia-vgpud nvidia-vgpu-mgr'.",
     "", FIELD),
    ("log_no_vm_uuid", "nvidia-vgpu-mgr", r"Failed to get VM UUID from QEMU command-line|kvm_plugin_global_init failed with error 0x57",
     "the vGPU manager found no UUID in the VM's QEMU command line",
     "Start QEMU with '-uuid UUID', as libvirt does. Other hypervisors must also pass the UUID.",
     "", "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/5319"),
    ("log_guest_driver", "nvidia-vgpu-mgr", r"Incompatible Guest/Host drivers",
     "the guest driver is incompatible with the host driver, so the vGPU was disabled",
     "Run the vgpu.kvm.guest playbook to install the guest driver of the host's vGPU software release in the VM.",
     "branches_differ", _MODULES + "blob/main/src/nvidia/src/kernel/vgpu/rpc.c"),
    ("log_not_a_vgpu_board", "nvidia-vgpu-mgr", r"vGPU is supported only on VGX capable boards|vGPU validation of the GPU failed",
     "NVIDIA's driver does not support vGPUs on this GPU", "Use a GPU from NVIDIA's list of supported vGPU hardware.",
     "gpu_unsupported", "https://github.com/NVIDIA/nvidia-installer/issues/15"),
    ("log_vgpu_init", "nvidia-vgpu-mgr", r"init_device_instance failed|Initialization: .* failed",
     "the vGPU manager could not set up a vGPU",
     "The text in parentheses is the reason. Find more details in the preceding lines of 'journalctl -u nvidia-vgpu-mgr'.",
     "", "https://github.com/NVIDIA/nvidia-installer/issues/15"),
    ("log_unlicensed", "nvidia-vgpu-mgr", r"vGPU license state: Unlicensed",
     "a VM has no license, so the vGPU becomes slow, and CUDA reports 'all CUDA-capable devices are busy or unavailable' although nvidia-smi works",
     "Run the vgpu.kvm.validate playbook for the VM, or 'journalctl -u nvidia-gridd' in the VM. To install the license token, run the guest_license role.",
     "", "https://github.com/DDMAL/Rodan/issues/1332"),
    # --- nvidia-vgpud
    ("log_no_types", "nvidia-vgpud", r"GPU not supported by vGPU",
     "the installed vGPU software has no vGPU types for this GPU, so the GPU's VFs list no types",
     "Install a vGPU software release that supports this GPU. With branch 550 or older, Hopper GPUs (H100, H200) require the NVIDIA AI Enterprise bundle "
     "(-aie). Pascal and Volta GPUs require an older branch.",
     "gpu_unsupported", FIELD),
    ("log_vgpud", "nvidia-vgpud", r"failed to (?:send vGPU configuration info to RM|allocate client)",
     "nvidia-vgpud could not pass the vGPU types to the driver",
     "Check that the vGPU host driver's module is loaded, then run 'systemctl restart nvidia-vgpud'.",
     "", FIELD),
    # --- nvidia-fabricmanager
    ("log_fabric_version", "nvidia-fabricmanager", r"n[o']t match with driver version",
     "Fabric Manager and the driver have different versions, so the NVSwitches stay uninitialized and CUDA in VMs fails with error 802",
     "Install the nvidia-fabricmanager package of exactly the driver's version.", "", _OPERATOR + "544"),
    ("log_fabric_no_switch", "nvidia-fabricmanager", r"NV_WARN_NOTHING_TO_DO",
     "Fabric Manager found no NVSwitch on this host",
     "Run 'systemctl disable --now nvidia-fabricmanager', because a host without NVSwitches does not require Fabric Manager.",
     "", "https://github.com/data-infra/cube-studio/issues/29"),
    # --- nvidia-gridd (guest)
    ("log_trusted_store", "nvidia-gridd", r"trusted store.*Maximum buffer size exceeded",
     "the license server's response is too large for this guest driver",
     "Update the guest driver to the newest release of the driver's branch, or shorten the server's certificate chain. Then restart nvidia-gridd.",
     "trust_store_full", "https://github.com/NVIDIA/nvidia-docker/issues/1787"),
    ("log_no_license", "nvidia-gridd", r"Failed to acquire .*licen[sc]e|Invalid feature type requested",
     "nvidia-gridd did not acquire a license", "Run the vgpu.kvm.validate playbook for this VM, which checks the daemon's journal, token, and configuration.",
     "not_acquired wrong_feature server_unreachable refused", "https://github.com/MicrosoftDocs/azure-docs/issues/32746"),
    # --- QEMU
    ("log_vfio_busy", "qemu", r"failed to open /dev/vfio/\S+: Device or resource busy",
     "another process uses the VM's vGPU",
     "Run 'vgpuctl status' to find the process. Either two VMs have the same vGPU, or the previous QEMU process did not exit.",
     "vgpu_in_two_vms", _QEMU + "container.c"),
    ("log_vfio_group", "qemu", r"error getting device from group [0-9]+",
     "QEMU could not open a vGPU, because the vGPU manager rejected the vGPU",
     "Find the reason in 'journalctl -u nvidia-vgpu-mgr'. "
     "Several vGPUs in one VM require support in the driver, the vGPU type, and the platform (Nova 33.0.0 or later).",
     "", "https://github.com/NVIDIA/nvidia-installer/issues/15"),
    ("log_vfio_gone", "qemu", r"vfio.*(?:no such host device|failed to open /dev/vfio/\S+: No such file)",
     "the VM's vGPU does not exist, or the vGPU's VF is not bound to nvidia",
     "Set managed='no' for the device in the VM's definition. Run 'vgpuctl restore', then start the VM.",
     "vm_without_vgpu vfs_unbound", "https://github.com/nutanix/libvfio-user/issues/53"),
    ("log_dma_map", "qemu", r"VFIO_MAP_DMA failed: Cannot allocate memory|vfio_dma_map.*= -12",
     "QEMU could not lock the VM's memory, although a vGPU requires locked memory",
     "Raise the VM's limit for locked memory (<memtune><hard_limit> in the VM's XML, or LimitMEMLOCK in the VM's systemd unit).",
     "", _QEMU + "container.c"),
    ("log_migration", "qemu", r"VFIO (?:device|migration).*(?:not support|n't support|not compatible)|[Pp]ost-?copy.*(?:VFIO|vfio)|vfio_dma_map.*= -14",
     "the VM cannot be migrated with its vGPU",
     "Check that both drivers support vGPU migration, and that both vGPUs have the same type. To disable post-copy, run 'virsh migrate' without --postcopy.",
     "", "https://qemu.googlesource.com/qemu/+/bf7ef7a2da3e61dc104f26c679c9465e3fbe7dde"),
    # --- libvirt
    ("log_no_mdevctl", "libvirt", r"Cannot find 'mdevctl' in path",
     "libvirt did not find mdevctl, which libvirt requires to create mediated devices",
     "Install mdevctl on the host, or in the container in which libvirt runs.",
     "", "https://github.com/vexxhost/atmosphere/pull/3313"),
    ("log_migration", "libvirt", r"cannot migrate a domain with <hostdev|[Pp]ost-?copy.*(?:VFIO|vfio)|VFIO migration is not",
     "the VM cannot be migrated with its vGPU",
     "Check that both drivers support vGPU migration, and that both vGPUs have the same type. To disable post-copy, run 'virsh migrate' without --postcopy.",
     "", "https://qemu.googlesource.com/qemu/+/bf7ef7a2da3e61dc104f26c679c9465e3fbe7dde"),
    # --- NVIDIA's installer
    ("log_module_load", "nvidia-installer", r"Unable to load the (?:kernel module )?'nvidia|Kernel module load error",
     "the module that the installer built does not load into the running kernel",
     "If Secure Boot rejects the module, sign the module. Otherwise, the driver branch does not support the kernel. "
     "Install a newer driver release, or boot a kernel that the release notes list.",
     "driver_module_missing not_signed", _OPERATOR + "1390"),
    ("log_build_failed", "nvidia-installer",
     r"(?:Bad return|bad exit) status|An error occurred while performing the step.*build|Unable to build the NVIDIA kernel module",
     "the driver module cannot be built for this kernel",
     "Install a newer driver release, or boot an older kernel. Older driver branches do not build on newer kernels (6.14 and later).",
     "driver_module_missing driver_missing", _MODULES + "issues/526"),
)

# Harmless lines that resemble failures. Each row is (log, pattern, source).
HARMLESS = (
    ("kernel", r"module verification failed: signature and/or required key missing", _OPERATOR + "554"),  # printed while Secure Boot is disabled
    ("nvidia-vgpu-mgr", r"Unable to get VM name from QEMU commandline, using VM's UUID",
     "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/7572"),
    ("nvidia-vgpu-mgr", r"Cannot query ECC status|frames returned by backtrace|vmiop_log: \S+\([^)]*\) \[0x", FIELD),
    ("qemu", r"Could not enable error recovery for the device", _QEMU + "pci.c"),
)

# Maps a code to the pattern of a later log line that ends the finding. If the second value is true, the same process must log that line.
ENDED = {
    "log_unlicensed": (r"vGPU license state: Licensed|Received stop call", True),
    "log_rm_client": (r"nvidia-vgpu-mgr daemon started", False),
    "log_no_license": (r"licen[sc]e (?:acquired|renewed) successfully", False),
    "log_trusted_store": (r"licen[sc]e (?:acquired|renewed) successfully", False),
}


@functools.lru_cache(maxsize=None)
def patterns(log: str) -> tuple[Pattern[str], tuple[tuple[str, Pattern[str]], ...], Pattern[str]]:
    """Returns the pattern for all known lines of a log, the log's codes with their patterns, and the pattern for harmless lines."""
    rows = [(code, pattern) for code, where, pattern, *dummy in TABLE if where == log]
    calm = [pattern for where, pattern, dummy in HARMLESS if where == log]
    matching = re.compile("|".join("(?:%s)" % pattern for dummy, pattern in rows) or r"(?!)", re.IGNORECASE)
    compiled = tuple((code, re.compile(pattern, re.IGNORECASE)) for code, pattern in rows)
    return matching, compiled, re.compile("|".join("(?:%s)" % pattern for pattern in calm) or r"(?!)", re.IGNORECASE)


def reported(code: str) -> list[str]:
    """Returns the codes of state checks that report the same problem as a log code. The log line adds no information to a state check."""
    return next((states.split() for one, dummy, dummy, dummy, dummy, states, dummy in TABLE if one == code), [])


def refusal(name: str, device: str, evidence: str) -> Refusal:
    """Returns the problem for a code in the symptom table. *evidence* is a clause that quotes the log line."""
    for code, dummy, dummy, cause, remedy, dummy, dummy in TABLE:
        if code == name:
            return Refusal("%s; %s" % (cause, evidence), device, remedy=remedy, code=code)
    raise KeyError(name)
