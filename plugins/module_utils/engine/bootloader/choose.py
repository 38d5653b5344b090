# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selects the class for the boot loader that booted the host. For an unsupported boot loader, the error contains manual instructions.

The class depends first on the boot loader that booted the host, and then on the installed tools.
"""

from __future__ import annotations

import os
import re
from typing import Sequence

from ..base.errors import EngineError, error
from ..read import boot_entries, boot_loader, platform
from ..state.paths import GRUB, LOADERS
from ..system import files, grub, grubby, proxmox_boot_tool
from ..system.context import Context
from .grub_bls import Bls
from .grub_debian import Debian
from .grub_suse import Suse
from .loader import Loader
from .proxmox import ProxmoxGrub, ProxmoxSystemdBoot
from .systemd_boot import SystemdBoot

_BY_HAND = {
    boot_loader.REFIND: "Add %s to the options in /boot/refind_linux.conf or in the stanza of refind.conf",
    boot_loader.ZFSBOOTMENU: "Run 'zfs set' to append %s to the org.zfsbootmenu:commandline property of the boot environment",
    boot_loader.OSTREE: "Run 'rpm-ostree kargs' to append %s",
    boot_loader.SYSTEMD_BOOT: "Add %s to /etc/kernel/cmdline, rebuild the unified kernel images with the new command line",
}
_UNKNOWN = "Add %s to the kernel command line with the boot loader's own tools"
UKI = ("/efi/EFI/Linux", "/boot/EFI/Linux", "/boot/efi/EFI/Linux")


def choose(ctx: Context) -> Loader | str:
    """Returns the boot loader, or a clause that explains why the boot loader is unsupported."""
    started = boot_loader.read(ctx)
    proxmox = proxmox_boot_tool.has(ctx)
    if started == boot_loader.SYSTEMD_BOOT:
        if proxmox:
            return ProxmoxSystemdBoot(ctx)
        if any(files.names(ctx.root, directory, ".efi") for directory in UKI):
            return "systemd-boot with unified kernel images, which include the command line"
        return SystemdBoot(ctx)
    if started != boot_loader.GRUB_LOADER:
        return started
    return _grub(ctx, proxmox)


def _grub(ctx: Context, proxmox: bool) -> Loader | str:
    if proxmox:
        return ProxmoxGrub(ctx)
    entries_off = re.search(r"^\s*GRUB_ENABLE_BLSCFG=[\"']?false", files.read_text(ctx.root, GRUB) or "", re.MULTILINE)
    if grubby.has(ctx) and files.names(ctx.root, boot_entries.BLS, ".conf") and not entries_off:
        return Bls(ctx)
    if grub.has(ctx, "update-grub"):
        return Debian(ctx)
    if _is_suse(ctx) and grub.has(ctx, "grub2-mkconfig") and not any(files.names(ctx.root, one + "/entries", ".conf") for one in LOADERS):
        return Suse(ctx)
    return "GRUB without any of the supported tools: update-grub, grubby with boot entries, SUSE's grub2-mkconfig, and proxmox-boot-tool"


def _is_suse(ctx: Context) -> bool:
    texts = (files.read_text(ctx.root, path) for path in ("/etc/os-release", "/usr/lib/os-release"))
    values = platform.parse(next((text for text in texts if text is not None), ""))
    return "suse" in "%s %s" % (values.get("ID", ""), values.get("ID_LIKE", "")) or values.get("ID", "") in ("sles", "sled")


def unsupported(ctx: Context, found: str, flags: Sequence[str]) -> EngineError:
    """Returns the error for an unsupported boot loader, with manual instructions."""
    started = boot_loader.read(ctx)
    remedy = (_BY_HAND.get(started, _UNKNOWN) % (" ".join(flags) or "the flags")) + ", reboot the host, and rerun. Nothing was changed."
    if found == boot_loader.UNKNOWN and not os.path.exists(ctx.root + GRUB):
        found = "unknown, because neither the firmware nor %s identifies the boot loader" % GRUB
    expected = "GRUB, systemd-boot, or proxmox-boot-tool"
    return error("the boot loader (%s) is unsupported" % found, "boot loader", expected, remedy, "bootloader_unsupported")
