# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths of the collection's files, and of the system files that the collection edits."""

from __future__ import annotations

# The file with the layout that is restored at boot.
STORE = "/etc/vgpuctl/layout.json"
# The directory for marks of unfinished work, originals of edited files, and the record of the last restore.
STATE = "/var/lib/vgpuctl"
# The command on the host (which is the engine in one file), its man page, and its unit.
COMMAND = "/usr/local/sbin/vgpuctl"
MANUAL = "/usr/local/share/man/man8/vgpuctl.8"
UNIT = "/etc/systemd/system/vgpu-restore.service"
# The link that enables vgpu-restore.service.
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/vgpu-restore.service"
# The files that determine a GPU's driver at boot.
MODPROBE = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
GRUB = "/etc/default/grub"
GRUB_DIRECTORY = "/etc/default/grub.d"
DRIVERCTL = "/etc/driverctl.d"
KERNEL_CMDLINE = "/etc/kernel/cmdline"
# The directories of systemd-boot's entries on the EFI partition or the extended boot partition, at all common mount points.
LOADERS = ("/efi/loader", "/boot/loader", "/boot/efi/loader")
