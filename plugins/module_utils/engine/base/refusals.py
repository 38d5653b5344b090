# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a GPU offers no vGPU types, in one wording for all modules (the failures operators meet)."""

from __future__ import annotations

from typing import Sequence

from .errors import Trouble
from .facts import DriverFacts, GpuFacts, HostFacts


def driver_trouble(driver: DriverFacts) -> Trouble | None:
    """What is wrong with the host's driver as a whole, or None."""
    if driver.flavour == "ordinary":
        return Trouble(
            "NVIDIA's ordinary data-centre driver %s is installed; it has no vGPU manager"
            % (driver.on_disk or driver.loaded),
            wanted="the vGPU host driver (NVIDIA-Linux-x86_64-<version>-vgpu-kvm.run) alone",
            remedy="Set vgpu_driver_replace_ordinary: true to have it replaced, or uninstall it by hand.",
            code="driver_ordinary",
        )
    if driver.flavour == "guest":
        return Trouble(
            "the vGPU guest driver %s is installed; it belongs into VMs and has no vGPU manager" % (driver.on_disk or driver.loaded),
            wanted="the vGPU host driver (NVIDIA-Linux-x86_64-<version>-vgpu-kvm.run) alone",
            remedy="Set vgpu_driver_replace_ordinary: true to have it replaced, or uninstall it by hand.",
            code="driver_of_guest",
        )
    if driver.unfinished:
        return Trouble(
            "an installation of NVIDIA's driver was broken off, so that any of its files may be damaged",
            remedy="Run the playbook again: role host_driver (module nvidia_driver) installs it anew.",
            code="driver_unfinished",
        )
    if driver.flavour == "none" and driver.has_manager:
        return Trouble(
            "there is no module nvidia for the running kernel, although the vGPU manager is installed (as after a kernel update)",
            device="the module nvidia",
            wanted="the vGPU host driver for this kernel",
            remedy="Install the driver again (role host_driver does); with DKMS it is built at each kernel update.",
            code="driver_missing",
        )
    if driver.flavour == "none":
        return Trouble(
            "NVIDIA's vGPU host driver is not installed",
            remedy="Install it (role host_driver, variable vgpu_driver_bundle).",
            code="driver_missing",
        )
    if driver.on_disk is None:
        return Trouble(
            "the host driver %s is loaded, but there is no nvidia module on disk for this kernel"
            % driver.loaded,
            device="the module nvidia",
            wanted="a module for the running kernel",
            remedy="Install the driver for the running kernel (DKMS does so at each kernel update).",
            code="driver_module_missing",
        )
    if driver.loaded is None:
        return Trouble(
            "the host driver %s is installed but not loaded" % driver.on_disk,
            device="the module nvidia",
            wanted="the loaded module",
            remedy="Load it ('modprobe nvidia') or reboot; a module that does not load is explained in dmesg.",
            code="driver_not_loaded",
        )
    return None


def unsupported(gpu: GpuFacts) -> Trouble:
    """The trouble of a GPU that NVIDIA doesn't support for vGPU."""
    return Trouble(
        "this GPU (%s) does not support vGPU" % gpu.name,
        device=gpu.address,
        remedy="Leave it out of 'gpus' and of the layout.",
        code="gpu_unsupported",
    )


def off_bus(gpu: GpuFacts) -> Trouble:
    """The trouble of a GPU whose configuration space reads as all ones."""
    return Trouble(
        "the GPU does not answer any more: it fell off the bus",
        device=gpu.address,
        wanted="an answer from its configuration space",
        remedy="Power-cycle the host (a warm reboot may not do); if that brings it back, look at power, risers and dmesg (Xid 79).",
        code="gpu_off_bus",
    )


def no_vfs_yet(gpu: GpuFacts, state: HostFacts) -> list[Trouble]:
    """Why VFs can't be had on this GPU now: driver, IOMMU, firmware. A list of troubles."""
    if not gpu.supported:
        return [unsupported(gpu)]
    if not gpu.alive:
        return [off_bus(gpu)]
    wrong = driver_trouble(state.driver)
    if wrong:
        return [wrong]
    troubles = []
    if not gpu.iommu_group:
        troubles.append(iommu_trouble(gpu, state))
    if gpu.holders:
        troubles.append(passed_through(gpu))
    elif gpu.driver not in (None, "nvidia", "pci-pf-stub"):
        troubles.append(
            Trouble(
                "the GPU is bound to %s" % gpu.driver,
                device=gpu.address,
                wanted="nvidia",
                remedy="Release it (role gpu_release or module nvidia_pci_driver).",
                code="gpu_on_other_driver",
            )
        )
    return troubles


def iommu_trouble(gpu: GpuFacts, state: HostFacts) -> Trouble:
    """The GPU has no IOMMU group: flags missing, or the firmware has it off."""
    if state.iommu_active:
        found, remedy = (
            "the IOMMU is on, but this GPU has no IOMMU group",
            "Look at the firmware's IOMMU settings (DMAR/IVRS) and dmesg.",
        )
    elif any(word in state.cmdline for word in ("intel_iommu=on", "amd_iommu=on", "iommu=pt")):
        found, remedy = (
            "the kernel's flags ask for the IOMMU (%s), but it is not there"
            % " ".join(word for word in state.cmdline if "iommu" in word),
            "Turn on VT-d or AMD-Vi in the firmware; a later iommu=off flag wins over an earlier on.",
        )
    else:
        found, remedy = (
            "the IOMMU is off (/sys/class/iommu is empty)",
            "Turn it on: role iommu, then reboot (Intel: intel_iommu=on iommu=pt; AMD: iommu=pt).",
        )
    return Trouble(found, device=gpu.address, wanted="an IOMMU group for the GPU", remedy=remedy, code="iommu_off")


def no_types(gpu: GpuFacts, state: HostFacts) -> list[Trouble]:
    """Why a GPU offers no vGPU types. A list of troubles, never empty."""
    troubles = no_vfs_yet(gpu, state)
    if troubles:
        return troubles
    if gpu.sriov and not gpu.vfs:
        return [
            Trouble(
                "its VFs are off (sriov_numvfs is 0)",
                device=gpu.address,
                wanted="%d VFs" % gpu.total_vfs,
                remedy="Turn them on (role sriov or module nvidia_sriov).",
                code="vfs_off",
            )
        ]
    if not gpu.total_vfs and gpu.model and gpu.model.sriov:
        return [sriov_off(gpu)]
    if gpu.framework != "none":
        return [
            Trouble(
                "its VFs list no vGPU types, and nvidia-smi tells none",
                device=gpu.address,
                wanted="types in nvidia/creatable_vgpu_types of a VF, or in 'nvidia-smi vgpu -s -v'",
                remedy="Look at 'systemctl status nvidia-vgpud nvidia-vgpu-mgr' and dmesg.",
                code="no_types",
            )
        ]
    drivers = sorted({vf.driver or "no driver" for vf in gpu.vfs}) or [gpu.driver or "no driver"]
    if [vf for vf in gpu.vfs if vf.driver == "vfio-pci"]:
        remedy = (
            "Stop what took them (a cloud agent, driverctl, an id of vfio-pci), "
            "then bring them back to nvidia (role sriov or module nvidia_sriov)."
        )
    else:
        remedy = (
            "Look at 'systemctl status nvidia-vgpud nvidia-vgpu-mgr' and dmesg; "
            "a GPU with a display must be switched with NVIDIA's displaymodeselector first."
        )
    return [
        Trouble(
            "neither mdev_supported_types nor nvidia/current_vgpu_type is there (bound to %s)"
            % ", ".join(drivers),
            device=gpu.vfs[0].address if gpu.vfs else gpu.address,
            wanted="vGPU types on %s" % ("each VF" if gpu.vfs else "the GPU"),
            remedy=remedy,
            code="no_types",
        )
    ]


def sriov_off(gpu: GpuFacts) -> Trouble:
    """A GPU of an SR-IOV model that shows no SR-IOV capability."""
    return Trouble(
        "the GPU (%s) shows no SR-IOV capability" % gpu.name,
        device=gpu.address,
        wanted="sriov_totalvfs in sysfs",
        remedy="Turn on SR-IOV, ARI and above-4G decoding in the firmware. "
        "If this machine is itself a VM with a passed-through GPU: vGPUs are made on the bare host, not here.",
        code="sriov_off",
    )


def vendor_vfio(gpu: GpuFacts) -> Trouble:
    """A mediated device is asked for where there are none."""
    return Trouble(
        "this host has no mediated devices: the GPU is on the vendor-specific VFIO framework, where a VF itself becomes a vGPU",
        device=gpu.address,
        wanted="mdev_supported_types",
        remedy="Use the module nvidia_vgpu, which makes vGPUs on either framework.",
        code="vendor_vfio",
    )


def no_mig(gpu: GpuFacts, others: Sequence[str], asked: str) -> Trouble:
    """MIG is asked of a GPU that has none. others: addresses of this host's GPUs that have it."""
    return Trouble(
        "%s, but the GPU (%s) has no MIG" % (asked, gpu.name),
        device=gpu.address,
        wanted="a GPU with MIG; on this host: %s" % (", ".join(others) or "none"),
        remedy="Take time-sliced types here (without a number of slices, such as %s-4Q)." % (gpu.model.prefix if gpu.model else "A40"),
        code="mig_unsupported",
    )


def mig_unknown(gpu: GpuFacts) -> Trouble:
    """nvidia-smi, which alone knows of MIG, gave no answer about a GPU that should have it."""
    found = "its MIG mode is not known: %s" % (gpu.mig_silence or "nvidia-smi does not tell it (driver of the GPU: %s)" % (gpu.driver or "none"))
    remedy = "Run that by hand, and look at dmesg (NVRM, Xid)."
    if gpu.mig_silence and "not there" in gpu.mig_silence:
        remedy = "The host driver brings it: install that again (role host_driver)."
    return Trouble(
        found,
        device=gpu.address,
        wanted="an answer to 'nvidia-smi --query-gpu=pci.bus_id,mig.mode.current,mig.mode.pending --format=csv'",
        remedy=remedy,
        code="mig_unknown",
    )


def passed_through(gpu: GpuFacts) -> Trouble:
    """A VM has the whole GPU."""
    return in_use(
        gpu.address,
        gpu.holders,
        "releasing the GPU from %s" % (gpu.driver or "its VM"),
        instead="leave this GPU out: of 'gpus' (role variable vgpu_gpus) and of the layout",
    )


def in_use(device: str, holders: Sequence[object], doing: str, override: str | None = None, instead: str | None = None) -> Trouble:
    """A device that must not be touched because somebody uses it. override: the option that allows it, for named devices alone."""
    remedy = "Stop it first"
    if override:
        remedy += ", or name the device in %s" % override
    if instead:
        remedy += ", or %s" % instead
    return Trouble(
        "it is in use by %s" % ", ".join(map(str, holders)),
        device=device,
        wanted="nobody using it, for %s" % doing,
        remedy=remedy + ".",
        code="in_use",
    )
