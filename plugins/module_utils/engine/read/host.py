# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed and running: distribution, kernel, IOMMU, NVIDIA's driver, Secure Boot, boot loader."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Iterable

from ..base.numbers import number
from ..state import install_mark
from ..state.paths import GRUB
from ..system import modinfo
from ..system.context import Context
from ..system.files import read_text
from ..system.sysfs import Sysfs
from . import next_kernel, platform, secure_boot

_PARAMS = "/proc/driver/nvidia/params"
_SCHEDULERS = {0x00: "best_effort", 0x01: "equal_share", 0x11: "fixed_share"}
_LOADER = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@dataclass(eq=False)
class Driver:
    """NVIDIA's driver. flavour: vgpu (the host driver), guest (of a VM with a vGPU), ordinary (neither vGPU manager nor licensing) or none.

    scheduler: of time-sliced vGPUs, as the loaded module has it; None when unknown.
    has_manager: whether the vGPU manager's programs are there, also where no module is.
    unfinished: an installation of ours was interrupted, so that any file of it may be incomplete; then none is on disk.
    """

    loaded: str | None
    on_disk: str | None
    flavour: str
    nouveau_loaded: bool
    scheduler: str | None = None
    has_manager: bool = False
    unfinished: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {name: value for name, value in self.__dict__.items() if name not in ("has_manager", "unfinished")}


@dataclass(eq=False)
class Identity:
    """kernel: as uname -r prints it; machine_id: of /etc/machine-id. Both None when unknown."""

    kernel: str | None
    machine_id: str | None


@dataclass(eq=False)
class HostState:
    """The host apart from its GPUs. secure_boot is None when the firmware has no such thing. unsupported: why nothing can be done here."""

    distribution: platform.Distribution
    kernel: str | None
    machine_id: str | None
    driver: Driver
    bootloader: str
    initramfs_tool: str
    cpu_vendor: str | None = None
    cmdline: list[str] = field(default_factory=list)
    iommu_kind: str | None = None
    iommu_units: list[str] = field(default_factory=list)
    secure_boot: bool | None = None
    enrolled_certificates: list[str] = field(default_factory=list)
    unsupported: list[tuple[str, str]] = field(default_factory=list)
    next_kernel: next_kernel.NextKernel = field(default_factory=next_kernel.NextKernel)

    @property
    def iommu_active(self) -> bool:
        """Whether the kernel drives an IOMMU: /sys/class/iommu, never the kernel's log."""
        return bool(self.iommu_units)


def identity(ctx: Context) -> Identity:
    """Which host this is, for a plan of vGPUs that nothing blocks. No program is started."""
    return Identity(ctx.sysfs.read_or("/proc/sys/kernel/osrelease"), (read_text(ctx.root, "/etc/machine-id") or "").strip() or None)


def read(ctx: Context, timeout: float = 30) -> HostState:
    """Reads the host's state."""
    if ctx.memo is None:
        return _read(ctx, timeout)
    state: HostState = ctx.memo.get("host") or _read(ctx, timeout)
    ctx.memo["host"] = state
    return state


def _read(ctx: Context, timeout: float) -> HostState:
    sysfs = ctx.sysfs
    known, driver = identity(ctx), read_driver(ctx, timeout)
    match = re.search(r"^vendor_id\s*:\s*(\S+)", sysfs.read_or("/proc/cpuinfo", ""), re.MULTILINE)
    secure = secure_boot.read(sysfs)
    return HostState(
        distribution=platform.read(ctx),
        kernel=known.kernel,
        machine_id=known.machine_id,
        driver=driver,
        bootloader=_bootloader(ctx),
        initramfs_tool=_initramfs_tool(ctx),
        cpu_vendor=match.group(1) if match else None,
        cmdline=sysfs.read_or("/proc/cmdline", "").split(),
        iommu_kind=_iommu_kind(sysfs),
        iommu_units=sysfs.list("/sys/class/iommu"),
        secure_boot=secure,
        enrolled_certificates=secure_boot.enrolled(sysfs) if secure else [],
        unsupported=platform.unsupported(ctx),
        next_kernel=next_kernel.read(ctx, known.kernel, driver.on_disk, timeout),
    )


def read_driver(ctx: Context, timeout: float = 30, trusting: bool = False) -> Driver:
    """Versions loaded and on disk, and which of NVIDIA's drivers it is. trusting: also of an unfinished installation."""
    loaded = ctx.sysfs.read_or("/sys/module/nvidia/version")
    installed = modinfo.field(ctx, "version", timeout)
    unfinished = install_mark.is_open(ctx.root, install_mark.DRIVER)
    on_disk = installed if trusting or not unfinished else None
    has_manager = any(
        os.path.exists(ctx.root + path)
        for path in ("/usr/bin/nvidia-vgpu-mgr", "/usr/bin/nvidia-vgpud")
    )
    flavour = "none"
    if loaded or on_disk:
        is_guest = os.path.exists(ctx.root + "/usr/bin/nvidia-gridd")
        flavour = "vgpu" if has_manager else "guest" if is_guest else "ordinary"
    return Driver(
        loaded,
        on_disk or None,
        flavour,
        nouveau_loaded=ctx.sysfs.exists("/sys/module/nouveau"),
        scheduler=_scheduler(ctx.sysfs),
        has_manager=has_manager,
        unfinished=unfinished,
    )


def _iommu_kind(sysfs: Sysfs) -> str | None:
    """intel or amd after the ACPI table that the firmware shows; the CPU's vendor is no proof."""
    for table, kind in (("DMAR", "intel"), ("IVRS", "amd")):
        if sysfs.exists("/sys/firmware/acpi/tables/" + table):
            return kind
    return None


def _scheduler(sysfs: Sysfs) -> str | None:
    """The policy in RmPVMRL of the loaded module's registry keys; best effort is what there is without one."""
    match = re.search(r"^RegistryDwords:\s*\"?(.*?)\"?\s*$", sysfs.read_or(_PARAMS, ""), re.MULTILINE)
    if not match:
        return None
    key = re.search(r"\bRmPVMRL=([^;\"]*)", match.group(1), re.IGNORECASE)
    if not key:
        return "best_effort"
    value = number(key.group(1))
    return "other" if value is None else _SCHEDULERS.get(value & 0xFF, "other")


def _bootloader(ctx: Context) -> str:
    if os.path.exists(ctx.root + "/run/ostree-booted"):
        return "ostree"
    if ctx.sysfs.exists(_LOADER):
        name = ctx.sysfs.read_bytes(_LOADER)[4:].decode("utf-16-le", "ignore")
        if "systemd-boot" in name:
            return "systemd-boot"
    return "grub" if os.path.exists(ctx.root + GRUB) else "unknown"


def _initramfs_tool(ctx: Context) -> str:
    for tool in ("update-initramfs", "dracut"):
        for directory in ("/usr/sbin", "/usr/bin", "/sbin"):
            if os.path.exists("%s%s/%s" % (ctx.root, directory, tool)):
                return tool
    return "none"


def missing_flags(state: HostState, flags: Iterable[str]) -> list[str]:
    """Flags that the running kernel does not have in force: the last of one name wins."""
    last = {}
    for word in state.cmdline:
        last[word.split("=", 1)[0]] = word
    return [flag for flag in flags if last.get(flag.split("=", 1)[0]) != flag]
