# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where our own files lie, and those of the system that we edit."""

from __future__ import annotations

# The layout for the boot.
STORE = "/etc/vgpuctl/layout.json"
# Marks of work that was begun, the originals of edited files, the last restore.
STATE = "/var/lib/vgpuctl"
# The command on the host, which is the engine as one file, its man page, and its unit.
COMMAND = "/usr/local/sbin/vgpuctl"
MANUAL = "/usr/local/share/man/man8/vgpuctl.8"
UNIT = "/etc/systemd/system/vgpu-restore.service"
# What enables the unit.
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/vgpu-restore.service"
# What decides which driver takes a GPU at boot.
MODPROBE = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
GRUB = "/etc/default/grub"
GRUB_DIRECTORY = "/etc/default/grub.d"
DRIVERCTL = "/etc/driverctl.d"
KERNEL_CMDLINE = "/etc/kernel/cmdline"
# Where systemd-boot finds its entries: on the EFI partition or on the extended boot partition, wherever these are mounted.
LOADERS = ("/efi/loader", "/boot/loader", "/boot/efi/loader")
