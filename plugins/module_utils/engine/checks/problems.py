# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds common problems in a host's state, and reports the problems with their remedies."""

from __future__ import annotations

from typing import Iterable, Iterator

from ..base import refusals
from ..base.errors import Problem, Refusal
from ..binding.boot_files import Cause
from ..driver import signing
from ..hardware.gpu import Gpu
from ..read import boot_loader, host
from ..read.inventory import Inventory
from ..system import nvidia_smi
from ..system.libvirt_xml import Domain

# Codes of problems that are warnings. All other problems are errors.
WARNINGS = (
    *("boot_cause", "libvirt_managed", "next_kernel_without_driver", "nouveau_loaded", "iommu_flags_missing", "secure_boot", "bootloader"),
    *("gpu_unsupported", "gpu_unknown", "mig_pending", "service_not_enabled", "restore_failed", "vm_without_vgpu", "vgpu_in_two_vms", "fabric_mode"),
    *("mdevctl_autostart", "vgpu_mode", "fabric_not_installed", "fabric_version", "fabric_not_running", "fabric_starting", "fabric_partition_stale"),
    *("fabric_links_failed", "fabric_library_missing", "fabric_silent", "fabric_wrong_socket", "fabric_failed"),
)
_MISMATCH = "driver %s is loaded, but driver %s is on disk"
_FLAGS_MISSING = "the kernel runs without %s"
_ON_OTHER_DRIVER = {"vfio-pci": "gpu_on_vfio", "nouveau": "gpu_on_nouveau", "pci-pf-stub": "gpu_on_stub"}


def find(
    inventory: Inventory, state: host.HostState, flags: Iterable[str] = (), causes: Iterable[Cause] = (), domains: Iterable[Domain] = ()
) -> list[Problem]:
    """Returns all problems of a host, with host-wide problems before GPU problems."""
    found = [Refusal("%s: unsupported" % what, remedy=remedy, code="host_unsupported") for what, remedy in state.unsupported]
    if not inventory.gpus:
        found.append(Refusal(
            "this host has no NVIDIA GPU",
            remedy="Run 'lspci -d 10de:'. If the command lists no GPU, check the slot and the power supply of the GPU, and the PCI settings in the firmware.",
            code="no_gpu",
        ))
    found += _host(state, flags)
    for gpu in inventory.gpus:
        found += _gpu(gpu, state)
    found += [
        Refusal(
            "'%s': %s" % (one.line, one.what), one.path,
            remedy="Run the gpu_release role, which removes the setting unless a package owns the file.", code="boot_cause",
        ) for one in causes
    ]
    return rated([*found, *_managed(inventory, domains)])


def rated(errors: Iterable[Refusal]) -> list[Problem]:
    """Returns the errors as problems with severities. Log problems are warnings, because the problems might already be fixed."""
    return [Problem(one, "warning" if one.code in WARNINGS or one.code.startswith("log_") else "error") for one in errors]


def _managed(inventory: Inventory, domains: Iterable[Domain]) -> Iterator[Refusal]:
    """Yields the errors for VFs with vGPUs that libvirt would unbind from the nvidia driver.

    Unbinding a VF would remove its vGPU, and the VM would not start.
    """
    ours = {vf.address for gpu in inventory.gpus if gpu.claims_vfs for vf in gpu.vfs}
    for domain in domains:
        for key in sorted(domain.devices):
            if key in ours and domain.devices[key]:
                found = "the libvirt VM %s uses this VF with managed='yes', so libvirt would bind the VF to vfio-pci"
                remedy = "Run 'virsh edit %s', and set managed='no' for this VF."
                yield Refusal(found % domain.name, key, "managed='no'", remedy % domain.name, "libvirt_managed")


def _host(state: host.HostState, flags: Iterable[str]) -> Iterator[Refusal]:
    driver, coming = state.driver, state.next_kernel
    wrong = refusals.driver_error(driver)
    if wrong:
        yield wrong
    elif driver.loaded != driver.on_disk:
        yield Refusal(_MISMATCH % (driver.loaded, driver.on_disk), remedy="Reboot.", code="driver_mismatch")
    if driver.on_disk and coming.release not in (None, state.kernel) and coming.driver != driver.on_disk:
        lacks = "whose nvidia module has version %s" % coming.driver if coming.driver else "for which no nvidia module exists"
        dkms = ("Install the kernel's headers and run 'dkms autoinstall -k %s'. "
                "Without DKMS, install the driver for this kernel, or make the running kernel the default boot entry.")
        yield Refusal(
            "the next boot starts this kernel, %s" % lacks, "kernel %s" % coming.release, "the nvidia module %s for this kernel" % driver.on_disk,
            dkms % coming.release, "next_kernel_without_driver",
        )
    if driver.nouveau_loaded:
        yield Refusal("the nouveau module is loaded", remedy="Run the gpu_release role, which blocks nouveau, then reboot the host.", code="nouveau_loaded")
    missing = host.missing_flags(state, flags)
    if missing:
        yield Refusal(_FLAGS_MISSING % " ".join(missing), remedy="Run the iommu role, which sets the flags, then reboot the host.", code="iommu_flags_missing")
    if state.secure_boot:
        yield Refusal("Secure Boot is enabled, so the kernel loads only signed modules", remedy=signing.STEPS, code="secure_boot")
    if state.bootloader in boot_loader.UNSUPPORTED:
        remedy = "Set the kernel flags with the boot loader's own tool."
        yield Refusal("this host boots with %s" % state.bootloader, None, "GRUB or systemd-boot", remedy, "bootloader")


def _gpu(gpu: Gpu, state: host.HostState) -> Iterator[Refusal]:
    if not gpu.supported:
        yield refusals.unsupported(gpu)
        return
    if not gpu.alive:
        yield refusals.off_bus(gpu)
        return
    if not gpu.model and not gpu.offers:
        yield refusals.unlisted(gpu)
    elif not gpu.model:
        yield Refusal("the GPU is not in the collection's table of GPUs, but is used because the GPU offers vGPU types", gpu.address, code="gpu_unknown")
    if not gpu.iommu_group and gpu.sriov:
        yield refusals.iommu_error(gpu, state)
    if gpu.driver == "vfio-pci" and gpu.holders:
        return  # the whole GPU is passed through to a VM, which controls the GPU's state
    if gpu.driver != "nvidia":
        bound, code = "the GPU is bound to %s" % (gpu.driver or "no driver"), _ON_OTHER_DRIVER.get(gpu.driver or "", "gpu_unbound")
        yield Refusal(bound, gpu.address, "nvidia", "Run the gpu_release role or the nvidia_pci_driver module to bind the GPU to nvidia.", code)
    if gpu.model and gpu.model.sriov and not gpu.total_vfs:
        yield refusals.sriov_off(gpu)
    if gpu.host_mode and (gpu.host_mode == nvidia_smi.SRIOV) != gpu.sriov:
        yield _mode_differs(gpu)
    if gpu.num_vfs and len(gpu.vfs) < gpu.num_vfs:
        fewer = "sriov_numvfs is %d, but %d VFs exist" % (gpu.num_vfs, len(gpu.vfs))
        yield Refusal(fewer, gpu.address, remedy="Find the cause (PCI or SR-IOV errors) in the output of 'dmesg'.", code="vfs_fewer")
    unusable = [vf for vf in gpu.vfs if not vf.usable]
    if unusable:
        unbound = "%d VFs are not bound to nvidia (for example, %s is bound to %s)" % (len(unusable), unusable[0].address, unusable[0].driver or "no driver")
        remedy = "Find the program or setting that unbinds the VFs (cloud agent, driverctl, vfio-pci ids). Then run the nvidia_sriov module to rebind free VFs."
        yield Refusal(unbound, gpu.address, remedy=remedy, code="vfs_unbound")
    if gpu.mig and gpu.mig.current != gpu.mig.pending:
        mode = "MIG mode is %s, and a change to %s is pending" % tuple("enabled" if word else "disabled" for word in (gpu.mig.current, gpu.mig.pending))
        yield Refusal(mode, gpu.address, remedy="Stop all programs that use the GPU and rerun the mig role, or reboot the host.", code="mig_pending")
    if gpu.vfs and gpu.driver == "nvidia" and not unusable and gpu.framework == "none":
        yield refusals.no_types(gpu, state)[0]


def _mode_differs(gpu: Gpu) -> Refusal:
    """Returns the error for a GPU on which nvidia-smi and sysfs disagree about SR-IOV. The collection relies on sysfs when it creates vGPUs."""
    shown = "%d VFs for vGPUs" % gpu.total_vfs if gpu.sriov else "no VFs for vGPUs"
    remedy = "Enable SR-IOV, ARI, and above-4G decoding in the firmware, and find PCI errors in 'dmesg'." if gpu.host_mode == nvidia_smi.SRIOV else (
        "If the GPU's VFs list no vGPU types, find the cause in 'journalctl -u nvidia-vgpud', and send the 'lspci -nn' line of the GPU to the vgpu.kvm project."
    )
    found = "nvidia-smi reports 'Host VGPU Mode : %s', but sysfs shows %s" % (gpu.host_mode, shown)
    return Refusal(found, gpu.address, "the same mode in nvidia-smi and sysfs", remedy, "vgpu_mode")


def reboot_reasons(inventory: Inventory, state: host.HostState, flags: Iterable[str] = ()) -> list[str]:
    """Returns the reasons why the host must reboot before vGPUs can work, or an empty list if no reboot is required."""
    reasons = []
    missing = host.missing_flags(state, flags)
    if missing:
        reasons.append(_FLAGS_MISSING % " ".join(missing))
    driver = state.driver
    if driver.loaded and driver.on_disk and driver.loaded != driver.on_disk:
        reasons.append(_MISMATCH % (driver.loaded, driver.on_disk))
    on_nouveau = [gpu.address for gpu in inventory.gpus if gpu.driver == "nouveau" and gpu.supported]
    if on_nouveau:
        reasons.append("%s: the bound driver is nouveau" % ", ".join(on_nouveau))
    return reasons
