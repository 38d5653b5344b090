# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed and running: distribution, kernel, IOMMU, NVIDIA's driver, Secure Boot, boot loader."""

from __future__ import annotations

import os
import re

from ..base.numbers import number
from ..state import install_mark
from ..system.files import read_text
from . import next_kernel, platform, secure_boot

_PARAMS = "/proc/driver/nvidia/params"
_SCHEDULERS = {0x00: "best_effort", 0x01: "equal_share", 0x11: "fixed_share"}
_LOADER = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


class Driver:
    """NVIDIA's driver. flavour: vgpu (the host driver), guest (of a VM with a vGPU), ordinary (neither vGPU manager nor licensing) or none.

    scheduler: of time-sliced vGPUs, as the loaded module was told; None when it isn't told.
    has_manager: whether the vGPU manager's programs are there, also where no module is.
    unfinished: an installation of ours was broken off, so that any file of it may be half there; then none is on disk.
    """

    def __init__(self, loaded, on_disk, flavour, nouveau_loaded, scheduler=None, has_manager=False, unfinished=False):
        self.loaded = loaded
        self.on_disk = on_disk
        self.flavour = flavour
        self.nouveau_loaded = nouveau_loaded
        self.scheduler = scheduler
        self.has_manager = has_manager
        self.unfinished = unfinished

    def as_dict(self):
        """For a module's result."""
        return {name: value for name, value in self.__dict__.items() if name not in ("has_manager", "unfinished")}


class Identity:
    """kernel: as uname -r tells; machine_id: of /etc/machine-id. Both None when not told."""

    def __init__(self, kernel, machine_id):
        self.kernel = kernel
        self.machine_id = machine_id


class HostState:
    """The host apart from its GPUs. secure_boot is None when the firmware has no such thing. unsupported: why nothing can be done here."""

    def __init__(self):
        self.distribution = None
        self.kernel = None
        self.machine_id = None
        self.cpu_vendor = None
        self.cmdline = []
        self.iommu_kind = None
        self.iommu_units = []
        self.secure_boot = None
        self.enrolled_certificates = []
        self.unsupported = []
        self.bootloader = None
        self.initramfs_tool = None
        self.driver = None
        self.next_kernel = next_kernel.NextKernel()

    @property
    def iommu_active(self):
        """Whether the kernel drives an IOMMU: /sys/class/iommu, never the kernel's log."""
        return bool(self.iommu_units)


def identity(ctx):
    """Which host this is, for a plan of vGPUs where nothing is in the way. No program is started."""
    return Identity(ctx.sysfs.read_or("/proc/sys/kernel/osrelease"), (read_text(ctx.root, "/etc/machine-id") or "").strip() or None)


def read(ctx, timeout=30):
    """Reads the host's state."""
    if ctx.memo is not None:
        if "host" not in ctx.memo:
            ctx.memo["host"] = _read(ctx, timeout)
        return ctx.memo["host"]
    return _read(ctx, timeout)


def _read(ctx, timeout):
    sysfs = ctx.sysfs
    state = HostState()
    state.distribution = platform.read(ctx)
    known = identity(ctx)
    state.kernel, state.machine_id = known.kernel, known.machine_id
    match = re.search(
        r"^vendor_id\s*:\s*(\S+)", sysfs.read_or("/proc/cpuinfo", ""), re.MULTILINE
    )
    state.cpu_vendor = match.group(1) if match else None
    state.cmdline = sysfs.read_or("/proc/cmdline", "").split()
    state.iommu_kind = _iommu_kind(sysfs)
    state.iommu_units = sysfs.list("/sys/class/iommu")
    state.secure_boot = secure_boot.read(sysfs)
    state.enrolled_certificates = secure_boot.enrolled(sysfs) if state.secure_boot else []
    state.unsupported = platform.unsupported(ctx)
    state.bootloader = _bootloader(ctx)
    state.initramfs_tool = _initramfs_tool(ctx)
    state.driver = read_driver(ctx, timeout)
    state.next_kernel = next_kernel.read(ctx, state.kernel, state.driver.on_disk, timeout)
    return state


def read_driver(ctx, timeout=30, trusting=False):
    """Versions loaded and on disk, and which of NVIDIA's drivers it is. trusting: also of an unfinished installation."""
    loaded = ctx.sysfs.read_or("/sys/module/nvidia/version")
    answer = ctx.command(["modinfo", "-F", "version", "nvidia"], timeout)
    broken_off = install_mark.is_open(ctx.root, install_mark.DRIVER)
    on_disk = answer.out.strip() if answer.rc == 0 and (trusting or not broken_off) else None
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
        ctx.sysfs.exists("/sys/module/nouveau"),
        _scheduler(ctx.sysfs),
        has_manager,
        broken_off,
    )


def _iommu_kind(sysfs):
    """intel or amd after the ACPI table that the firmware shows; the CPU's maker does not tell."""
    for table, kind in (("DMAR", "intel"), ("IVRS", "amd")):
        if sysfs.exists("/sys/firmware/acpi/tables/" + table):
            return kind
    return None


def _scheduler(sysfs):
    """The policy in RmPVMRL of the loaded module's registry keys; best effort is what there is without one."""
    match = re.search(r"^RegistryDwords:\s*\"?(.*?)\"?\s*$", sysfs.read_or(_PARAMS, ""), re.MULTILINE)
    if not match:
        return None
    key = re.search(r"\bRmPVMRL=([^;\"]*)", match.group(1), re.IGNORECASE)
    if not key:
        return "best_effort"
    value = number(key.group(1))
    return "other" if value is None else _SCHEDULERS.get(value & 0xFF, "other")


def _bootloader(ctx):
    if os.path.exists(ctx.root + "/run/ostree-booted"):
        return "ostree"
    if ctx.sysfs.exists(_LOADER):
        name = ctx.sysfs.read_bytes(_LOADER)[4:].decode("utf-16-le", "ignore")
        if "systemd-boot" in name:
            return "systemd-boot"
    return "grub" if os.path.exists(ctx.root + "/etc/default/grub") else "unknown"


def _initramfs_tool(ctx):
    for tool in ("update-initramfs", "dracut"):
        for folder in ("/usr/sbin", "/usr/bin", "/sbin"):
            if os.path.exists("%s%s/%s" % (ctx.root, folder, tool)):
                return tool
    return "none"


def missing_flags(state, flags):
    """Flags that the running kernel does not have in force: the last of one name wins."""
    last = {}
    for word in state.cmdline:
        last[word.split("=", 1)[0]] = word
    return [flag for flag in flags if last.get(flag.split("=", 1)[0]) != flag]
