# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures that operators meet, recognized from what was read, each with its remedy."""

from __future__ import annotations

from typing import Iterable

from ..base import refusals
from ..base.errors import Problem, Trouble
from ..binding.boot_files import Cause
from ..driver import signing
from ..hardware.gpu import Gpu
from ..read import host
from ..read.inventory import Inventory
from ..system.libvirt_xml import Domain


def find(
    inventory: Inventory, state: host.HostState, flags: Iterable[str] = (), causes: Iterable[Cause] = (), domains: Iterable[Domain] = ()
) -> list[Problem]:
    """All problems of a host, the host's own first."""
    found = [Problem(Trouble("%s: unsupported" % what, remedy=remedy, code="host_unsupported")) for what, remedy in state.unsupported]
    if not inventory.gpus:
        found.append(Problem(Trouble("there is no NVIDIA GPU on this host", remedy="Look at 'lspci -d 10de:'.", code="no_gpu")))
    found += _host(state, flags)
    for gpu in inventory.gpus:
        found += _gpu(gpu, state)
    for cause in causes:
        found.append(
            Problem(
                Trouble("'%s': %s" % (cause.line, cause.what), device=cause.path, remedy="Role gpu_release removes it.", code="boot_cause"),
                "warning",
            )
        )
    return found + _managed(inventory, domains)


def _managed(inventory: Inventory, domains: Iterable[Domain]) -> list[Problem]:
    """VFs that are vGPUs themselves and that libvirt would unbind from nvidia: the vGPU is gone then, and the VM does not start."""
    ours = {vf.address for gpu in inventory.gpus if gpu.claims_vfs for vf in gpu.vfs}
    return [
        Problem(
            Trouble(
                "libvirt's VM %s has this VF with managed='yes', which would bind it to vfio-pci" % domain.name,
                device=key,
                wanted="managed='no'",
                remedy="Change it by 'virsh edit %s'." % domain.name,
                code="libvirt_managed",
            ),
            "warning",
        )
        for domain in domains
        for key in sorted(domain.devices)
        if key in ours and domain.devices[key]
    ]


def _driver(state: host.HostState) -> list[Problem]:
    wrong = refusals.driver_trouble(state.driver)
    if wrong:
        return [Problem(wrong)]
    if state.driver.loaded == state.driver.on_disk:
        return []
    text = "the driver %s is loaded, %s is on disk" % (state.driver.loaded, state.driver.on_disk)
    return [Problem(Trouble(text, remedy="Reboot.", code="driver_mismatch"))]


def _host(state: host.HostState, flags: Iterable[str]) -> list[Problem]:
    found = _driver(state)
    coming = state.next_kernel
    if state.driver.on_disk and coming.release not in (None, state.kernel) and coming.driver != state.driver.on_disk:
        lacks = "whose module nvidia is %s" % coming.driver if coming.driver else "for which there is no module nvidia"
        found.append(
            Problem(
                Trouble(
                    "the next boot starts this kernel, %s" % lacks,
                    device="kernel %s" % coming.release,
                    wanted="the module nvidia %s for it, too" % state.driver.on_disk,
                    remedy="Install its headers and run 'dkms autoinstall -k %s'; without DKMS install the driver for it, "
                    "or boot the running kernel by default." % coming.release,
                    code="next_kernel_without_driver",
                ),
                "warning",
            )
        )
    if state.driver.nouveau_loaded:
        found.append(Problem(Trouble("nouveau is loaded", remedy="Role gpu_release keeps it away; then reboot.", code="nouveau_loaded"), "warning"))
    missing = host.missing_flags(state, flags)
    if missing:
        found.append(
            Problem(
                Trouble("the kernel runs without %s" % " ".join(missing), remedy="Role iommu sets it; then reboot.", code="iommu_flags_missing"),
                "warning",
            )
        )
    if state.secure_boot:
        found.append(
            Problem(
                Trouble(
                    "Secure Boot is on: the kernel loads only signed modules",
                    remedy=signing.STEPS,
                    code="secure_boot",
                ),
                "warning",
            )
        )
    if state.bootloader in ("systemd-boot", "ostree"):
        found.append(
            Problem(
                Trouble("this host boots by %s" % state.bootloader, wanted="GRUB", remedy="Set the kernel's flags by its own tool.", code="bootloader"),
                "warning",
            )
        )
    return found


def _gpu(gpu: Gpu, state: host.HostState) -> list[Problem]:
    found: list[Problem] = []
    if not gpu.supported:
        return [Problem(refusals.unsupported(gpu), "warning")]
    if not gpu.alive:
        return [Problem(refusals.no_vfs_yet(gpu, state)[0])]
    if not gpu.model:
        found.append(Problem(Trouble("the GPU is not in our table, but offers vGPU types: it is used", device=gpu.address, code="gpu_unknown"), "warning"))
    if not gpu.iommu_group and gpu.sriov:
        found.append(Problem(refusals.iommu_trouble(gpu, state)))
    names = {"vfio-pci": "gpu_on_vfio", "nouveau": "gpu_on_nouveau", "pci-pf-stub": "gpu_on_stub"}
    if gpu.driver != "nvidia":
        found.append(
            Problem(
                Trouble(
                    "the GPU is bound to %s" % (gpu.driver or "no driver"),
                    device=gpu.address,
                    wanted="nvidia",
                    remedy="Role gpu_release and module nvidia_pci_driver bring it to nvidia.",
                    code=names.get(gpu.driver or "", "gpu_unbound"),
                )
            )
        )
    if gpu.model and gpu.model.sriov and not gpu.total_vfs:
        found.append(Problem(refusals.sriov_off(gpu)))
    if gpu.num_vfs and len(gpu.vfs) < gpu.num_vfs:
        text = "sriov_numvfs is %d, but %d VFs are there" % (gpu.num_vfs, len(gpu.vfs))
        found.append(Problem(Trouble(text, device=gpu.address, remedy="Look into dmesg.", code="vfs_fewer")))
    unusable = [vf for vf in gpu.vfs if not vf.usable]
    if unusable:
        found.append(
            Problem(
                Trouble(
                    "%d VFs are not bound to nvidia (%s on %s …)" % (len(unusable), unusable[0].address, unusable[0].driver or "no driver"),
                    device=gpu.address,
                    remedy="Find what takes them (cloud agent, driverctl, vfio-pci ids); nvidia_sriov brings free ones back.",
                    code="vfs_unbound",
                )
            )
        )
    if gpu.mig and gpu.mig.current != gpu.mig.pending:
        found.append(
            Problem(
                Trouble(
                    "MIG mode is %s and waits to be %s" % tuple("on" if word else "off" for word in (gpu.mig.current, gpu.mig.pending)),
                    device=gpu.address,
                    remedy="Stop what uses the GPU and run role mig again, or reboot.",
                    code="mig_pending",
                ),
                "warning",
            )
        )
    if gpu.vfs and gpu.driver == "nvidia" and not unusable and gpu.framework == "none":
        found.append(Problem(refusals.no_types(gpu, state)[0]))
    return found


def reboot_reasons(inventory: Inventory, state: host.HostState, flags: Iterable[str] = ()) -> list[str]:
    """Why the host must reboot before vGPUs can work; empty when it needn't."""
    reasons = []
    missing = host.missing_flags(state, flags)
    if missing:
        reasons.append("the kernel runs without %s" % " ".join(missing))
    driver = state.driver
    if driver.loaded and driver.on_disk and driver.loaded != driver.on_disk:
        reasons.append("the driver %s is loaded, %s is on disk" % (driver.loaded, driver.on_disk))
    on_nouveau = [gpu.address for gpu in inventory.gpus if gpu.driver == "nouveau" and gpu.supported]
    if on_nouveau:
        reasons.append("%s on nouveau" % ", ".join(on_nouveau))
    return reasons
