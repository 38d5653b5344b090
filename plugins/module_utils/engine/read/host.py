# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the host's state: the distribution, kernel, IOMMU, NVIDIA driver, Secure Boot, and boot loader."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Iterable

from ..base.numbers import number
from ..hardware import kernel_flags
from ..state import install_mark
from ..system import modinfo, packages
from ..system.context import Context
from ..system.files import read_text
from ..system.sysfs import Sysfs
from . import boot_loader, next_kernel, platform, secure_boot

_SCHEDULERS = {0x00: "best_effort", 0x01: "equal_share", 0x11: "fixed_share"}
_IOMMU_TABLES = (("DMAR", "intel"), ("IVRS", "amd"))  # the firmware's ACPI tables identify the IOMMU; the CPU vendor is not sufficient
UNINSTALL = "/usr/bin/nvidia-uninstall"  # NVIDIA's .run package installs this program
_CONTAINER = "/run/nvidia/driver"  # the NVIDIA driver container's root directory
# Each command rebuilds the initramfs for all kernels, because older kernels must not load an old driver.
_REBUILD = {"update-initramfs": ["update-initramfs", "-u", "-k", "all"], "dracut": ["dracut", "--force", "--regenerate-all"]}


@dataclass(eq=False, repr=False)
class Driver:
    """The NVIDIA driver on the host.

    ``flavour`` is vgpu (the host driver), guest (the driver in a VM), datacenter (a driver without vGPU manager and licensing), or none.
    ``scheduler`` is the policy for time-sliced vGPUs according to the loaded module, or None if unknown.
    ``has_manager`` is true if the vGPU manager's programs exist, even without a kernel module.
    ``unfinished`` is true if the collection's driver installation was interrupted. ``on_disk`` is then None, because driver files may be incomplete.
    ``removal`` is the command that removes the distribution's driver packages, or None if no driver packages are installed.
    """

    loaded: str | None
    on_disk: str | None
    flavour: str
    nouveau_loaded: bool
    scheduler: str | None
    has_manager: bool
    unfinished: bool
    removal: list[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the driver as a dictionary for the module result."""
        return {name: value for name, value in self.__dict__.items() if name not in ("has_manager", "unfinished", "removal")}


@dataclass(eq=False, repr=False)
class Identity:
    """The identity of the host. Unknown values are None.

    ``kernel`` is the release from 'uname -r', ``machine_id`` is from /etc/machine-id, and ``product_uuid`` is from the firmware.
    """

    kernel: str | None
    machine_id: str | None
    product_uuid: str | None

    @property
    def machine(self) -> str | None:
        """Returns text that distinguishes this host from other hosts. Clones of one installation can share a machine-id."""
        return "/".join(filter(None, (self.machine_id, self.product_uuid))) or None


@dataclass(eq=False, repr=False)
class HostState(Identity):
    """The state of the host, excluding GPUs.

    ``secure_boot`` is None if the firmware does not support Secure Boot. ``unsupported`` lists reasons why the collection cannot manage the host.
    """

    distribution: platform.Distribution
    driver: Driver
    bootloader: str
    initramfs_tool: str
    cpu_vendor: str | None
    cmdline: list[str]
    iommu_kind: str | None
    iommu_units: list[str]
    secure_boot: bool | None
    enrolled_certificates: list[str]
    unsupported: list[tuple[str, str]]
    next_kernel: next_kernel.NextKernel

    @property
    def iommu_active(self) -> bool:
        """Returns whether the kernel has an active IOMMU according to /sys/class/iommu, never the kernel log."""
        return bool(self.iommu_units)

    @property
    def initramfs_command(self) -> list[str]:
        """Returns the command that rebuilds the initramfs, or an empty list if the host has no suitable tool."""
        return _REBUILD.get(self.initramfs_tool, [])


def identity(ctx: Context) -> Identity:
    """Returns the host's identity without running programs. A vGPU plan only needs the identity if all GPUs offer vGPU types."""
    kernel, machine = ctx.sysfs.read_or("/proc/sys/kernel/osrelease"), (read_text(ctx.root, "/etc/machine-id") or "").strip() or None
    return Identity(kernel, machine, ctx.sysfs.read_or("/sys/class/dmi/id/product_uuid", "").strip().lower() or None)


def at_boot(ctx: Context, timeout: float = 30) -> HostState:
    """Returns the host's state without data about the next boot, because unreadable files in /boot must not cause the restore at boot to fail."""
    return _read(ctx, timeout, next_boot=False)


def read(ctx: Context, timeout: float = 30) -> HostState:
    """Returns the complete state of the host."""
    return ctx.once("host", lambda: _read(ctx, timeout))


def _read(ctx: Context, timeout: float, next_boot: bool = True) -> HostState:
    sysfs, known, driver, loader = ctx.sysfs, identity(ctx), read_driver(ctx, timeout), boot_loader.read(ctx)
    match = re.search(r"^vendor_id\s*:\s*(\S+)", sysfs.read_or("/proc/cpuinfo", ""), re.MULTILINE)
    secure = secure_boot.read(sysfs)
    running = next_kernel.Running(known.kernel, driver.on_disk, loader)
    return HostState(
        **vars(known),
        distribution=platform.read(ctx),
        driver=driver,
        bootloader=loader,
        initramfs_tool=_initramfs_tool(ctx),
        cpu_vendor=match.group(1) if match else None,
        cmdline=kernel_flags.words(sysfs.read_or("/proc/cmdline", "")),
        iommu_kind=next((kind for table, kind in _IOMMU_TABLES if sysfs.exists("/sys/firmware/acpi/tables/" + table)), None),
        iommu_units=sysfs.list("/sys/class/iommu"),
        secure_boot=secure,
        enrolled_certificates=secure_boot.enrolled(sysfs) if secure else [],
        unsupported=platform.unsupported(ctx),
        next_kernel=next_kernel.read(ctx, running, timeout) if next_boot else next_kernel.NextKernel(),
    )


def read_driver(ctx: Context, timeout: float = 30, trusting: bool = False) -> Driver:
    """Returns the driver's flavor, and the versions loaded and on disk. ``trusting`` also accepts an unfinished installation."""
    loaded = ctx.sysfs.read_or("/sys/module/nvidia/version")
    installed = modinfo.field(ctx, "version", timeout)
    unfinished = install_mark.is_open(ctx.root, install_mark.DRIVER)
    on_disk = installed if trusting or not unfinished else None
    manager, daemon, guest = (os.path.exists(ctx.root + "/usr/bin/" + name) for name in ("nvidia-vgpu-mgr", "nvidia-vgpud", "nvidia-gridd"))
    packaged = not os.path.exists(ctx.root + UNINSTALL)
    there = bool(on_disk) or not packaged or os.path.exists(ctx.root + _CONTAINER)
    flavour = "none"  # a module that is still loaded after driver removal has the flavor none
    if loaded or on_disk:
        flavour = "vgpu" if manager or daemon else "guest" if guest else "datacenter" if there else "none"
    if on_disk and modinfo.module(ctx, timeout) != modinfo.NVIDIA:
        flavour, packaged = "datacenter", True  # the kernel loads the distribution's driver, regardless of other installed drivers
    removal = packages.removal(ctx, on_disk, timeout) if flavour == "datacenter" and on_disk and packaged else None
    nouveau, scheduler = ctx.sysfs.exists("/sys/module/nouveau"), _scheduler(ctx.sysfs)
    return Driver(loaded, on_disk or None, flavour, nouveau, scheduler, has_manager=manager or daemon, unfinished=unfinished, removal=removal)


def _scheduler(sysfs: Sysfs) -> str | None:
    """Returns the scheduling policy in the loaded module's RmPVMRL registry key. The default is best effort."""
    match = re.search(r"^RegistryDwords:\s*\"?(.*?)\"?\s*$", sysfs.read_or("/proc/driver/nvidia/params", ""), re.MULTILINE)
    if not match:
        return None
    key = re.search(r"\bRmPVMRL=([^;\"]*)", match.group(1), re.IGNORECASE)
    if not key:
        return "best_effort"
    value = number(key.group(1))
    return "other" if value is None else _SCHEDULERS.get(value & 0xFF, "other")


def _initramfs_tool(ctx: Context) -> str:
    paths = [directory + tool for tool in ("update-initramfs", "dracut") for directory in ("/usr/sbin/", "/usr/bin/", "/sbin/")]
    return next((os.path.basename(path) for path in paths if os.path.exists(ctx.root + path)), "none")


def default_flags(state: HostState) -> list[str]:
    """Returns the kernel flags that the host's IOMMU requires.

    With iommu=pt (passthrough), the IOMMU translates addresses for VM devices, but not for host devices. AMD's IOMMU is enabled by default, and the
    kernel does not accept amd_iommu=on. The IOMMU type comes from the firmware, because hosts with other CPUs can have Intel's IOMMU.
    """
    intel = state.cpu_vendor == "GenuineIntel" or state.iommu_kind == "intel"
    return ["intel_iommu=on", "iommu=pt"] if intel else ["iommu=pt"]


def missing_flags(state: HostState, flags: Iterable[str]) -> list[str]:
    """Returns which of the given flags are not in effect in the running kernel."""
    return kernel_flags.missing(flags, state.cmdline)
