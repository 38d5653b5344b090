# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the host's state: distribution, kernel, IOMMU, NVIDIA's driver, Secure Boot, boot loader."""

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
_IOMMU_TABLES = (("DMAR", "intel"), ("IVRS", "amd"))  # tables of the firmware; the CPU's vendor is not sufficient
UNINSTALL = "/usr/bin/nvidia-uninstall"  # installed by NVIDIA's .run
_CONTAINER = "/run/nvidia/driver"  # the root directory of NVIDIA's driver container
# These rebuild the initramfs of all kernels: an older kernel must not load an old driver either.
_REBUILD = {"update-initramfs": ["update-initramfs", "-u", "-k", "all"], "dracut": ["dracut", "--force", "--regenerate-all"]}


@dataclass(eq=False, repr=False)
class Driver:
    """NVIDIA's driver. flavour: vgpu (the host driver), guest (of a VM with a vGPU), datacenter (neither vGPU manager nor licensing) or none.

    scheduler: of time-sliced vGPUs, from the loaded module; None if unknown.
    has_manager: whether the vGPU manager's programs exist, even without a module.
    unfinished: an installation of ours was interrupted, so any of its files may be incomplete. No driver counts as on disk then.
    removal: the command that removes the packages of a distribution's own driver, as words; None without packages.
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
        """The values for a module's result."""
        return {name: value for name, value in self.__dict__.items() if name not in ("has_manager", "unfinished", "removal")}


@dataclass(eq=False, repr=False)
class Identity:
    """The identity of the host. kernel: as in uname -r; machine_id: from /etc/machine-id; product_uuid: from the firmware. None if unknown."""

    kernel: str | None
    machine_id: str | None
    product_uuid: str | None

    @property
    def machine(self) -> str | None:
        """A text that distinguishes this host from others. Clones of one installation may share the machine-id."""
        return "/".join(filter(None, (self.machine_id, self.product_uuid))) or None


@dataclass(eq=False, repr=False)
class HostState(Identity):
    """The host without its GPUs. secure_boot: None if the firmware does not support it. unsupported: why the host can't be managed."""

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
        """Whether the kernel has an active IOMMU, from /sys/class/iommu and never from the kernel's log."""
        return bool(self.iommu_units)

    @property
    def initramfs_command(self) -> list[str]:
        """The command that rebuilds the initramfs; empty without a tool."""
        return _REBUILD.get(self.initramfs_tool, [])


def identity(ctx: Context) -> Identity:
    """The state of an unrestricted host, for a plan of vGPUs. No program is started."""
    kernel, machine = ctx.sysfs.read_or("/proc/sys/kernel/osrelease"), (read_text(ctx.root, "/etc/machine-id") or "").strip() or None
    return Identity(kernel, machine, ctx.sysfs.read_or("/sys/class/dmi/id/product_uuid", "").strip().lower() or None)


def at_boot(ctx: Context, timeout: float = 30) -> HostState:
    """The host's state without the next boot. The restore at boot uses this, as it must not fail because of unreadable files in /boot."""
    return _read(ctx, timeout, next_boot=False)


def read(ctx: Context, timeout: float = 30) -> HostState:
    """Reads the host's state."""
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
    """The driver's versions, loaded and on disk, and its flavour. trusting: whether an unfinished installation counts, too."""
    loaded = ctx.sysfs.read_or("/sys/module/nvidia/version")
    installed = modinfo.field(ctx, "version", timeout)
    unfinished = install_mark.is_open(ctx.root, install_mark.DRIVER)
    on_disk = installed if trusting or not unfinished else None
    manager, daemon, guest = (os.path.exists(ctx.root + "/usr/bin/" + name) for name in ("nvidia-vgpu-mgr", "nvidia-vgpud", "nvidia-gridd"))
    packaged = not os.path.exists(ctx.root + UNINSTALL)
    there = bool(on_disk) or not packaged or os.path.exists(ctx.root + _CONTAINER)
    flavour = "none"  # also for a loaded module without any other files of its driver, as after a removal
    if loaded or on_disk:
        flavour = "vgpu" if manager or daemon else "guest" if guest else "datacenter" if there else "none"
    if on_disk and modinfo.module(ctx, timeout) != modinfo.NVIDIA:
        flavour, packaged = "datacenter", True  # a distribution's driver: the kernel loads this one, whatever else is installed
    removal = packages.removal(ctx, on_disk, timeout) if flavour == "datacenter" and on_disk and packaged else None
    nouveau, scheduler = ctx.sysfs.exists("/sys/module/nouveau"), _scheduler(ctx.sysfs)
    return Driver(loaded, on_disk or None, flavour, nouveau, scheduler, has_manager=manager or daemon, unfinished=unfinished, removal=removal)


def _scheduler(sysfs: Sysfs) -> str | None:
    """The policy in RmPVMRL of the loaded module's registry keys. The default is best effort."""
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
    """The kernel flags that a host's IOMMU requires.

    iommu=pt is passthrough: the host's own devices are not translated, those of VMs still are. AMD's IOMMU is on by default, and amd_iommu=on is not
    a valid value for the kernel. The firmware determines the kind: machines with other CPUs may have Intel's, too.
    """
    intel = state.cpu_vendor == "GenuineIntel" or state.iommu_kind == "intel"
    return ["intel_iommu=on", "iommu=pt"] if intel else ["iommu=pt"]


def missing_flags(state: HostState, flags: Iterable[str]) -> list[str]:
    """The flags that are not in force in the running kernel."""
    return kernel_flags.missing(flags, state.cmdline)
