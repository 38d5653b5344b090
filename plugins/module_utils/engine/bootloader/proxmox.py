# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxmox VE's proxmox-boot-tool, with GRUB or with systemd-boot: it copies what was set to the EFI partitions, which are what boots."""

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
    """The entries on all partitions, any of which the firmware may boot."""
    for partition in proxmox_boot_tool.read(loader.ctx):
        for path, text in partition.texts.items():
            place = "%s:%s" % (partition.uuid, path)
            if grub and path.endswith("grub.cfg"):
                yield from boot_entries.of_this_system(loader.ctx, boot_entries.of_grub(place, text))
            elif not grub and path.endswith(".conf"):
                entry = boot_entries.of_bls(place, text, {})
                yield from boot_entries.of_this_system(loader.ctx, [entry] if entry else [])


class ProxmoxGrub(Debian):
    """As Debian's, but for the last step."""

    name = "GRUB (proxmox-boot-tool)"
    run = RUN

    def next_boot(self) -> list[Entry]:
        """Of each partition's grub.cfg."""
        return list(_partitions(self, grub=True))

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """proxmox-boot-tool refresh."""
        proxmox_boot_tool.refresh(self.ctx, timeout)


class ProxmoxSystemdBoot(Loader):
    """/etc/kernel/cmdline is what entries are made of."""

    name = "systemd-boot (proxmox-boot-tool)"

    def next_boot(self) -> list[Entry]:
        """Of each partition's entries."""
        return list(_partitions(self, grub=False))

    def plan(self, flags: Sequence[str], rebuild: bool) -> Changes:
        """The edit of the file, then the partitions."""
        changes = Changes(run=RUN if rebuild else "")
        entries = self.next_boot()
        if not self.lacking(flags, entries) and (entries or not flags):
            return changes
        text = files.read_text(self.ctx.root, KERNEL_CMDLINE)
        if text is None:
            remedy = "Write the whole command line to it ('cat /proc/cmdline', without initrd=), then run again. Nothing was changed."
            raise error("this file is not there", KERNEL_CMDLINE, "the command line that proxmox-boot-tool gives to kernels", remedy, "bootloader_unknown")
        edit = cmdline_file.added(text, flags)
        if edit:
            changes.edits.append(edit[0])
            changes.added[KERNEL_CMDLINE] = edit[1]
        changes.run = RUN
        return changes

    def plan_back(self, added: Added, rebuild: bool) -> Changes:
        """The edit of the file, then the partitions."""
        edit = cmdline_file.taken(files.read_text(self.ctx.root, KERNEL_CMDLINE) or "", added.get(KERNEL_CMDLINE, ()))
        return Changes([edit] if edit else [], run=RUN if edit or rebuild else "")

    def apply_run(self, changes: Changes, timeout: float) -> None:
        """proxmox-boot-tool refresh."""
        proxmox_boot_tool.refresh(self.ctx, timeout)

    def source_of(self, word: str) -> str | None:
        """The file."""
        return KERNEL_CMDLINE if word in (files.read_text(self.ctx.root, KERNEL_CMDLINE) or "").split() else None
