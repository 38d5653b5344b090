# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supports Proxmox VE's proxmox-boot-tool with GRUB or systemd-boot.

proxmox-boot-tool copies the boot configuration to the EFI partitions, from which the host boots.
"""

from __future__ import annotations

from typing import Iterator, Sequence

from ..base.errors import error
from ..read import boot_entries
from ..read.boot_entries import Entry
from ..state.paths import KERNEL_CMDLINE
from ..system import files, proxmox_boot_tool
from . import cmdline_file
from .grub_debian import Debian
from .loader import Added, Changes, Loader

RUN = "run proxmox-boot-tool refresh"


def _partitions(loader: Loader, grub: bool) -> Iterator[Entry]:
    """Yields the boot entries on all EFI partitions, because the firmware can boot from any EFI partition."""
    for partition in proxmox_boot_tool.read(loader.ctx):
        for path, text in partition.texts.items():
            place = "%s:%s" % (partition.uuid, path)
            if grub and path.endswith("grub.cfg"):
                yield from boot_entries.of_this_system(loader.ctx, boot_entries.of_grub(place, text))
            elif not grub and path.endswith(".conf"):
                entry = boot_entries.of_bls(place, text, {})
                yield from boot_entries.of_this_system(loader.ctx, [entry] if entry else [])


class ProxmoxGrub(Debian):
    """GRUB on Proxmox VE. The file edits are the same as on Debian, but proxmox-boot-tool applies the edits to the EFI partitions."""

    name = "GRUB (proxmox-boot-tool)"
    run = RUN

    def next_boot(self) -> list[Entry]:
        """Returns the grub.cfg entries on each EFI partition."""
        return list(_partitions(self, grub=True))

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs proxmox-boot-tool refresh."""
        proxmox_boot_tool.refresh(self.ctx, timeout)


class ProxmoxSystemdBoot(Loader):
    """systemd-boot on Proxmox VE, where proxmox-boot-tool generates the boot entries from /etc/kernel/cmdline."""

    name = "systemd-boot (proxmox-boot-tool)"

    def next_boot(self) -> list[Entry]:
        """Returns the boot entries on each EFI partition."""
        return list(_partitions(self, grub=False))

    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """Returns the changes that edit /etc/kernel/cmdline, then update the EFI partitions."""
        changes = Changes(run=RUN if rebuild else "")
        entries = self.next_boot()
        if not self.lacking(flags, entries) and (entries or not flags):
            return changes
        text = files.read_text(self.ctx.root, KERNEL_CMDLINE)
        if text is None:
            remedy = "Write the complete kernel command line from /proc/cmdline, without initrd=, to this file. Then rerun. Nothing was changed."
            raise error("this file is missing", KERNEL_CMDLINE, "the kernel command line for proxmox-boot-tool", remedy, "bootloader_unknown")
        edit = cmdline_file.added(text, flags)
        if edit:
            changes.edits.append(edit[0])
            changes.added[KERNEL_CMDLINE] = edit[1]
        changes.run = RUN
        return changes

    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """Returns the changes that remove the flags from /etc/kernel/cmdline, then update the EFI partitions."""
        edit = cmdline_file.taken(files.read_text(self.ctx.root, KERNEL_CMDLINE) or "", added.get(KERNEL_CMDLINE, ()))
        return Changes([edit] if edit else [], run=RUN if edit or rebuild else "")

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """Runs proxmox-boot-tool refresh."""
        proxmox_boot_tool.refresh(self.ctx, timeout)

    def source_of(self, word: str) -> str | None:
        """Returns the path of /etc/kernel/cmdline, or None if the file does not contain the word."""
        return KERNEL_CMDLINE if word in (files.read_text(self.ctx.root, KERNEL_CMDLINE) or "").split() else None
