# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identifies this system's boot loader from firmware and loader records, the kernel command line, and files, in this order."""

from __future__ import annotations

import os
import re

from ..hardware import kernel_flags
from ..state.paths import GRUB
from ..system.context import Context
from ..system.sysfs import SysfsError

GRUB_LOADER, SYSTEMD_BOOT, REFIND, ZFSBOOTMENU, OSTREE, UNKNOWN = "grub", "systemd-boot", "refind", "zfsbootmenu", "ostree", "unknown"
UNSUPPORTED = (REFIND, ZFSBOOTMENU, OSTREE)  # excludes UNKNOWN, because files can still identify the loader

_EFIVARS = "/sys/firmware/efi/efivars/"
_LOADER_INFO = _EFIVARS + "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_GLOBAL = _EFIVARS + "%s-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Patterns for loader names in the firmware's boot entry and in the record that the loader writes.
_NAMES = ((ZFSBOOTMENU, r"zfsbootmenu|\\zbm\\"), (REFIND, r"refind"), (SYSTEMD_BOOT, r"systemd-boot"), (GRUB_LOADER, r"grub|shim"))
_EFI_PARTITIONS = ("/boot/efi/EFI", "/efi/EFI", "/boot/EFI")
_FILES = {
    REFIND: ["/boot/refind_linux.conf"] + [directory + "/refind" for directory in _EFI_PARTITIONS],
    ZFSBOOTMENU: ["/etc/zfsbootmenu"] + [directory + name for directory in _EFI_PARTITIONS for name in ("/zbm", "/ZBM", "/zfsbootmenu")],
}


def read(ctx: Context) -> str:
    """Returns the boot loader's name, which is one of this module's constants."""
    if os.path.exists(ctx.root + "/run/ostree-booted"):
        return OSTREE
    line = kernel_flags.words(ctx.sysfs.read_or("/proc/cmdline", ""))
    if _has(ctx, ZFSBOOTMENU) and _is_zfs(line) and not any(word.startswith(("BOOT_IMAGE=", "initrd=")) for word in line):
        return ZFSBOOTMENU  # ZFSBootMenu starts the kernel with kexec, after any other loader
    itself, by_firmware = _named(_loader_info(ctx)), _named(_firmware_entry(ctx))
    if itself and itself != GRUB_LOADER:
        return itself
    if not itself and not any(word.startswith("BOOT_IMAGE=") for word in line):  # GRUB adds BOOT_IMAGE, even if rEFInd started GRUB
        if by_firmware and by_firmware != GRUB_LOADER:
            return by_firmware
        for name in () if by_firmware else (ZFSBOOTMENU, REFIND):
            if _has(ctx, name):
                return name
    return GRUB_LOADER if os.path.exists(ctx.root + GRUB) else UNKNOWN


def _named(text: str) -> str | None:
    return next((name for name, pattern in _NAMES if re.search(pattern, text, re.IGNORECASE)), None)


def _is_zfs(line: list[str]) -> bool:
    return any(word.lower().startswith(("root=zfs", "spl.", "spl_hostid=", "zfs=")) for word in line)


def _has(ctx: Context, name: str) -> bool:
    return any(os.path.exists(ctx.root + path) for path in _FILES[name])


def _variable(ctx: Context, path: str) -> bytes:
    """Returns a firmware variable's value without the attributes, or an empty value if the variable is missing or unreadable."""
    try:
        return ctx.sysfs.read_bytes(path)[4:] if ctx.sysfs.exists(path) else b""
    except SysfsError:
        return b""


def _loader_info(ctx: Context) -> str:
    """Returns the LoaderInfo variable, in which systemd-boot and newer releases of GRUB and rEFInd store the loader's name."""
    return _variable(ctx, _LOADER_INFO).decode("utf-16-le", "ignore")


def _firmware_entry(ctx: Context) -> str:
    """Returns the name and path from the booted firmware entry (an EFI_LOAD_OPTION)."""
    current = _variable(ctx, _GLOBAL % "BootCurrent")
    if len(current) < 2:
        return ""
    # An EFI_LOAD_OPTION begins with the attributes and the length of the path list, followed by UTF-16 text.
    return _variable(ctx, _GLOBAL % ("Boot%04X" % int.from_bytes(current[:2], "little")))[6:].decode("utf-16-le", "ignore").replace("\0", " ")
