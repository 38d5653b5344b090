# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the boot loader that started the system is detected."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import boot_loader

GLOBAL = "/sys/firmware/efi/efivars/%s-8be4df61-93ca-11d2-aa0d-00e098032b8c"
INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
GRUB_LINE = "BOOT_IMAGE=/vmlinuz root=/dev/sda1"
ZFS_LINE = "root=zfs:rpool/ROOT/pve spl_hostid=0x1"
# An EFI device path consists of a partition node, a file node, and an end node.
_PARTITION = b"\x04\x01\x2a\x00" + b"\0" * 38


def option(name, path):
    """Returns an EFI_LOAD_OPTION, preceded by its attributes as in efivarfs."""
    file = path.encode("utf-16-le") + b"\0\0"
    nodes = _PARTITION + b"\x04\x04" + struct.pack("<H", len(file) + 4) + file + b"\x7f\xff\x04\x00"
    return b"\x07\0\0\0" + struct.pack("<IH", 1, len(nodes)) + name.encode("utf-16-le") + b"\0\0" + nodes


@pytest.fixture
def read(host, monkeypatch):
    """Returns a function that detects the boot loader from a kernel command line, EFI variables, and files."""

    def read(line, files=(), info=None, entry=None):
        host.kernel.cmdline = line
        variables = {INFO: b"\x06\0\0\0" + info.encode("utf-16-le")} if info else {}
        if entry:
            variables[GLOBAL % "BootCurrent"] = b"\x06\0\0\0\x0a\x00"
            variables[GLOBAL % "Boot000A"] = option(*entry)
        exists, content = host.sysfs.exists, host.sysfs.read_bytes
        monkeypatch.setattr(host.sysfs, "exists", lambda path: path in variables or exists(path))
        monkeypatch.setattr(host.sysfs, "read_bytes", lambda path, size=-1: variables[path] if path in variables else content(path, size))
        for path in files:
            host.put(path, "")
        return boot_loader.read(host.ctx)

    return read


@pytest.mark.parametrize("line, files, info, entry, expected", [
    (GRUB_LINE, (), None, None, "grub"),
    (GRUB_LINE, (), None, ("debian", "\\EFI\\debian\\shimx64.efi"), "grub"),
    (GRUB_LINE, (), "GRUB 2.12", ("debian", "\\EFI\\debian\\grubx64.efi"), "grub"),
    ("initrd=\\x root=/dev/sda1", (), "systemd-boot 252.30", ("Linux Boot Manager", "\\EFI\\systemd\\systemd-bootx64.efi"), "systemd-boot"),
    ("initrd=\\x root=/dev/sda1", (), None, ("Linux Boot Manager", "\\EFI\\systemd\\systemd-bootx64.efi"), "systemd-boot"),
    # In all of these cases, /etc/default/grub is a leftover that must be ignored.
    ("root=/dev/sda1", ("/boot/refind_linux.conf",), None, None, "refind"),
    ("root=/dev/sda1", (), None, ("rEFInd Boot Manager", "\\EFI\\refind\\refind_x64.efi"), "refind"),
    ("root=/dev/sda1", ("/boot/efi/EFI/refind/refind.conf",), "rEFInd 0.14.0.2", None, "refind"),
    (GRUB_LINE, ("/boot/refind_linux.conf",), None, ("rEFInd Boot Manager", "\\EFI\\refind\\refind_x64.efi"), "grub"),
    (ZFS_LINE, ("/etc/zfsbootmenu/config.yaml",), None, None, "zfsbootmenu"),
    (ZFS_LINE, ("/etc/zfsbootmenu/config.yaml",), "rEFInd 0.14.0.2", None, "zfsbootmenu"),
    (ZFS_LINE, (), None, ("ZFSBootMenu", "\\EFI\\ZBM\\VMLINUZ.EFI"), "zfsbootmenu"),
    ("BOOT_IMAGE=/vmlinuz " + ZFS_LINE, ("/etc/zfsbootmenu/config.yaml",), None, None, "grub"),
    ("root=/dev/sda1", (), None, ("Windows", "\\EFI\\Microsoft\\bootmgfw.efi"), "grub"),
    (GRUB_LINE, ("/run/ostree-booted",), "GRUB 2.12", None, "ostree"),
])
def test_what_started_this_system(read, line, files, info, entry, expected):
    assert read(line, files, info, entry) == expected
