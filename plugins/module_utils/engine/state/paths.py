# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths to the collection's files and to the system files that the collection edits."""

from __future__ import annotations

# The file that contains the layout for the restore at boot.
STORE = "/etc/vgpuctl/layout.json"
# The directory for marks of unfinished work, original versions of edited files, and the record of the last restore.
STATE = "/var/lib/vgpuctl"
# The command on the host (the engine in one file), the man page, and the unit.
COMMAND = "/usr/local/sbin/vgpuctl"
MANUAL = "/usr/local/share/man/man8/vgpuctl.8"
UNIT = "/etc/systemd/system/vgpu-restore.service"
# The symbolic link that enables vgpu-restore.service.
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/vgpu-restore.service"
# The files that determine which driver a GPU gets at boot.
MODPROBE = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
GRUB = "/etc/default/grub"
GRUB_DIRECTORY = "/etc/default/grub.d"
DRIVERCTL = "/etc/driverctl.d"
KERNEL_CMDLINE = "/etc/kernel/cmdline"
# The directories for systemd-boot entries on the EFI partition or the extended boot partition, at all common mount points.
LOADERS = ("/efi/loader", "/boot/loader", "/boot/efi/loader")
