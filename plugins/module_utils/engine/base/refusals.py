# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the errors for GPUs that offer no vGPU types or cannot be changed. All modules share these error messages."""

from __future__ import annotations

from typing import Any, Iterable, Protocol, Sequence

from .errors import Refusal

# The base package must not import other packages, so protocols declare the attributes that error texts use.


class DriverFacts(Protocol):
    """The attributes of read.host.Driver that error texts use."""

    loaded: str | None
    on_disk: str | None
    flavour: str
    has_manager: bool
    unfinished: bool
    removal: list[str] | None


class HostFacts(Protocol):
    """The attributes of read.host.HostState that error texts use."""

    cmdline: list[str]

    @property
    def driver(self) -> DriverFacts:
        """The state of NVIDIA's driver on the host."""

    @property
    def iommu_active(self) -> bool:
        """Whether the kernel has an active IOMMU."""


class GpuFacts(Protocol):
    """The attributes of hardware.gpu.Gpu that error texts use.

    The *model* attribute is a hardware.catalog.Model or None. *vfs* is a list of hardware.gpu.Vf objects.
    """

    address: str
    driver: str | None
    alive: bool
    iommu_group: str | None
    mig_silence: str | None
    types_silence: str | None
    total_vfs: int
    framework: str
    model: Any
    holders: Sequence[Any]
    vfs: list[Any]

    @property
    def name(self) -> str:
        """The GPU's product name."""

    @property
    def supported(self) -> bool:
        """Whether the GPU supports vGPUs."""

    @property
    def offers(self) -> bool:
        """Whether the driver offers vGPU types on the GPU."""

    @property
    def sriov(self) -> bool:
        """Whether the GPU's vGPUs are created on VFs."""


_HOST_DRIVER = "only the vGPU host driver (NVIDIA-Linux-x86_64-<version>-vgpu-kvm.run)"
_REPLACE = "Set 'vgpu_driver_replace_datacenter: true' to replace the installed driver, or uninstall that driver manually."
_MODULE = "the nvidia module"
NO_NVIDIA_SMI = "nvidia-smi is not installed"  # a GPU's mig_silence begins with this text if nvidia-smi is not installed


def driver_error(driver: DriverFacts) -> Refusal | None:
    """Returns the error for a missing or unusable host driver, or None if the driver is usable."""
    version = driver.on_disk or driver.loaded
    if driver.unfinished:
        unfinished = "an installation of NVIDIA's driver was interrupted, so any file of the driver can be damaged"
        install = "To reinstall the driver, rerun the playbook with the driver role or the nvidia_driver module."
        return Refusal(unfinished, remedy=install, code="driver_unfinished")
    if driver.flavour == "datacenter":
        found = "NVIDIA's data center driver %s is installed, which does not include the vGPU manager" % version
        return Refusal(found, expected=_HOST_DRIVER, remedy=packaged(driver, _REPLACE), code="driver_datacenter")
    if driver.flavour == "guest":
        of_guest = "the vGPU guest driver %s is installed, which is intended for VMs and does not include the vGPU manager" % version
        return Refusal(of_guest, expected=_HOST_DRIVER, remedy=_REPLACE, code="driver_of_guest")
    if driver.flavour == "none" and driver.has_manager:
        left = "the running kernel has no nvidia module, although the vGPU manager is installed (for example, after a kernel update)"
        again = "Reinstall the driver with the driver role. With DKMS, the module is rebuilt at each kernel update."
        return Refusal(left, _MODULE, "the vGPU host driver for this kernel", again, "driver_missing")
    if driver.flavour == "none":
        loaded = " (version %s of the nvidia module is loaded, but the files of this driver are not on disk)" % version if version else ""
        remedy = "Set vgpu_driver_bundle to NVIDIA's vGPU software package, then run the driver role."
        return Refusal("NVIDIA's vGPU host driver is not installed" + loaded, remedy=remedy, code="driver_missing")
    if driver.on_disk is None:
        gone = "the host driver %s is loaded, but no nvidia module for this kernel is on disk" % driver.loaded
        build = "Install the driver for the running kernel. With DKMS, the module is rebuilt at each kernel update."
        return Refusal(gone, _MODULE, "a module for the running kernel", build, "driver_module_missing")
    if driver.loaded is None:
        load = "Run 'modprobe nvidia' or reboot the host. If the module does not load, find the cause in the output of 'dmesg'."
        return Refusal("the host driver %s is installed but not loaded" % driver.on_disk, _MODULE, "a loaded module", load, "driver_not_loaded")
    return None


def packaged(driver: DriverFacts, remedy: str) -> str:
    """Returns the remedy for replacing the installed driver.

    NVIDIA's uninstaller does not remove distribution packages. For a packaged driver, the remedy includes the removal command.
    """
    if not driver.removal:
        return remedy
    return "%s, or run '%s' to remove the distribution's packages, then reboot the host." % (remedy.split(", or ", maxsplit=1)[0], " ".join(driver.removal))


def unsupported(gpu: GpuFacts) -> Refusal:
    """Returns the error for a GPU without vGPU support, for which no driver offers vGPU types and the kernel lists no VFs."""
    remedy = "Remove this GPU from 'gpus' and from the layout."
    found, expected = "this GPU (%s) does not support vGPU", "a GPU that offers vGPU types or supports SR-IOV"
    return Refusal(found % gpu.name, gpu.address, expected, remedy, "gpu_unsupported")


def unlisted(gpu: GpuFacts) -> Refusal:
    """Returns the warning for a GPU that is not in the model table and offers no vGPU types yet."""
    found = "this GPU (%s) is not in the table of vGPU-capable GPUs, and vGPU support is unknown until the host driver is loaded" % gpu.name
    remedy = "If this GPU was selected on purpose, do nothing. Otherwise, remove the GPU from 'gpus' and from the layout."
    return Refusal(found, gpu.address, "a GPU that NVIDIA supports for vGPU", remedy, "gpu_unknown")


def unlisted_warnings(gpus: Iterable[GpuFacts]) -> list[str]:
    """Returns a warning for each GPU that is not in the model table and offers no vGPU types yet."""
    return [str(unlisted(gpu)) for gpu in gpus if not gpu.model and not gpu.offers]


def off_bus(gpu: GpuFacts) -> Refusal:
    """Returns the error for a GPU that fell off the bus, so its PCI configuration space reads as all ones."""
    remedy = "Power-cycle the host, because a warm reboot might not help. If the GPU responds again, check the power supply, the risers, and dmesg (Xid 79)."
    found = "the GPU fell off the bus and no longer responds"
    return Refusal(found, gpu.address, "a readable configuration space", remedy, "gpu_off_bus")


def no_vfs_yet(gpu: GpuFacts, state: HostFacts) -> list[Refusal]:
    """Returns the errors that prevent VFs on the GPU, such as driver, IOMMU, and firmware errors."""
    if not gpu.alive:
        return [off_bus(gpu)]
    wrong = driver_error(state.driver)
    if wrong:
        return [wrong]
    if not gpu.supported and gpu.driver == "nvidia":
        return [unsupported(gpu)]
    errors = [] if gpu.iommu_group else [iommu_error(gpu, state)]
    if gpu.holders:
        errors.append(passed_through(gpu))
    elif gpu.driver not in (None, "nvidia", "pci-pf-stub"):
        remedy = "Release the GPU with the gpu_release role or the nvidia_pci_driver module."
        errors.append(Refusal("the GPU is bound to %s" % gpu.driver, gpu.address, "nvidia", remedy, "gpu_on_other_driver"))
    return errors


def iommu_error(gpu: GpuFacts, state: HostFacts) -> Refusal:
    """Returns the error for a GPU without an IOMMU group: kernel flags are missing, or the firmware disables the IOMMU."""
    flags = " ".join(word for word in state.cmdline if "iommu" in word)
    if state.iommu_active:
        found = "the IOMMU is enabled, but this GPU has no IOMMU group"
        remedy = "Find DMAR or IVRS errors in 'dmesg', and correct the firmware's IOMMU settings."
    elif any(word.startswith(("intel_iommu=on", "amd_iommu=on", "iommu=pt", "iommu.passthrough=1")) for word in state.cmdline):
        found = "the kernel flags enable the IOMMU (%s), but the kernel has no active IOMMU" % flags
        remedy = "Enable VT-d or AMD-Vi in the firmware. Remove any iommu=off that follows these flags."
    else:
        found = "the IOMMU is disabled (/sys/class/iommu is empty)"
        remedy = "Run the iommu role, which sets intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD). Then reboot the host."
    return Refusal(found, gpu.address, "an IOMMU group for the GPU", remedy, "iommu_off")


def no_types(gpu: GpuFacts, state: HostFacts) -> list[Refusal]:
    """Returns at least one error that explains why a GPU offers no vGPU types."""
    errors = no_vfs_yet(gpu, state)
    if errors:
        return errors
    if gpu.sriov and not gpu.vfs:
        enable = "Enable the VFs with the sriov role or the nvidia_sriov module."
        return [Refusal("the VFs of the GPU are disabled (sriov_numvfs is 0)", gpu.address, "%d VFs" % gpu.total_vfs, enable, "vfs_off")]
    if not gpu.total_vfs and gpu.model and gpu.model.sriov:
        return [sriov_off(gpu)]
    if gpu.framework != "none":
        types = "vGPU types in nvidia/creatable_vgpu_types of a VF or in the output of 'nvidia-smi vgpu -s -v'"
        services = "Find the cause in the output of 'systemctl status nvidia-vgpud nvidia-vgpu-mgr' and 'dmesg', fix the cause, then rerun."
        found = "the VFs of the GPU currently list no vGPU types, and %s" % (gpu.types_silence or "nvidia-smi reports no vGPU types")
        return [Refusal(found, gpu.address, types, services, "no_types")]
    if any(vf.driver == "vfio-pci" for vf in gpu.vfs):
        remedy = ("Stop the program or remove the setting that bound the VFs to vfio-pci (such as a cloud agent, driverctl, or a vfio-pci ID), "
                  "then rebind the VFs to nvidia with the sriov role or the nvidia_sriov module.")
    else:
        remedy = ("Find the cause in the output of 'systemctl status nvidia-vgpud nvidia-vgpu-mgr' and 'dmesg'. "
                  "If the GPU has display outputs, first disable the outputs with NVIDIA's displaymodeselector.")
    drivers = sorted({one.driver or "no driver" for one in gpu.vfs or [gpu]})
    found = "sysfs has neither mdev_supported_types nor nvidia/current_vgpu_type (bound driver: %s)" % ", ".join(drivers)
    expected = "vGPU types on %s" % ("each VF" if gpu.vfs else "the GPU")
    return [Refusal(found, (gpu.vfs or [gpu])[0].address, expected, remedy, "no_types")]


def sriov_off(gpu: GpuFacts) -> Refusal:
    """Returns the error for a GPU that exposes no SR-IOV capability although its model supports SR-IOV."""
    remedy = ("Enable SR-IOV, ARI, and above-4G decoding in the firmware. "
              "If this host is itself a VM with a passed-through GPU, create the vGPUs on the physical host instead.")
    return Refusal("the GPU (%s) exposes no SR-IOV capability" % gpu.name, gpu.address, "sriov_totalvfs in sysfs", remedy, "sriov_off")


def vendor_vfio(gpu: GpuFacts) -> Refusal:
    """Returns the error for a mediated device that was requested on a GPU without mediated device support."""
    found = "this host has no mediated devices, because the GPU uses the vendor-specific VFIO framework, in which a VF becomes a vGPU"
    return Refusal(found, gpu.address, "mdev_supported_types", "Use the nvidia_vgpu module, which creates vGPUs in either framework.", "vendor_vfio")


def no_mig(gpu: GpuFacts, others: Sequence[str], asked: str) -> Refusal:
    """Returns the error for a MIG request on a GPU that does not support MIG.

    The *others* argument lists the addresses of the host's MIG-capable GPUs.
    """
    expected = "one of the GPUs on this host that support MIG: %s" % (", ".join(others) or "none")
    remedy = "Use time-sliced vGPU types on this GPU (types without a number of slices, such as %s-4Q)." % (gpu.model.prefix if gpu.model else "A40")
    return Refusal("%s, but the GPU (%s) does not support MIG" % (asked, gpu.name), gpu.address, expected, remedy, "mig_unsupported")


def mig_unknown(gpu: GpuFacts) -> Refusal:
    """Returns the error for a MIG-capable GPU whose MIG mode nvidia-smi does not report.

    nvidia-smi is the only source of the MIG mode.
    """
    remedy = "Run this command manually, and find NVRM and Xid messages in the output of 'dmesg'."
    if (gpu.mig_silence or "").startswith(NO_NVIDIA_SMI):
        remedy = "Run the driver role to reinstall the host driver, which includes nvidia-smi."
    found = "the MIG mode of the GPU is unknown: %s" % (
        gpu.mig_silence or "nvidia-smi does not report the MIG mode (driver of the GPU: %s)" % (gpu.driver or "none"))
    answer = "a MIG mode in the output of 'nvidia-smi --query-gpu=pci.bus_id,mig.mode.current,mig.mode.pending --format=csv'"
    return Refusal(found, gpu.address, answer, remedy, "mig_unknown")


def passed_through(gpu: GpuFacts) -> Refusal:
    """Returns the error for a GPU that is passed through to a VM."""
    instead = "remove this GPU from 'gpus' (the vgpu_gpus role variable) and from the layout"
    return in_use(gpu.address, gpu.holders, "releasing the GPU from %s" % (gpu.driver or "the VM"), instead=instead)


def in_use(device: str, holders: Sequence[Any], doing: str, override: str | None = None, instead: str | None = None) -> Refusal:
    """Returns the error for a device that is in use and must not be changed.

    The *override* argument is the option that lists devices that may be changed while in use. *instead* is an alternative remedy.
    """
    who, unsure = ", ".join(map(str, holders)), [one for one in holders if one.remedy]  # a holder that cannot be identified counts as a user
    known = len(unsure) < len(holders)
    remedy = "Stop the VM or process that uses the device" if known else "To clarify whether the device is in use, %s" % unsure[0].remedy
    if override:
        remedy += ", or add the device to %s" % override
    if instead:
        remedy += ", or %s" % instead
    found = "the device is in use by %s" % who if known else "the device might be in use by %s" % who
    return Refusal(found, device, "a device that is not in use, as required for %s" % doing, remedy + ".", "in_use")
