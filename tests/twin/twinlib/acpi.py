# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""ACPI tables that put every PCI device under QEMU's emulated IOMMU.

QEMU's DMAR and IVRS tables list single devices, so devices on buses that appear later get no IOMMU group.
The kernel replaces a table with one from an early initrd that has the same name and OEM IDs and a higher OEM
revision (CONFIG_ACPI_TABLE_UPGRADE). The layouts follow Intel's VT-d and AMD's IOMMU specifications. The
addresses are those of QEMU's q35 machine.
"""

from __future__ import annotations

import struct

from .cpio import Archive

OEM_REVISION = 2  # QEMU's tables have revision 1
IOAPIC_ID = 0
AMD_IOMMU_FUNCTION = 0x08  # 00:01.0, because the IOMMU is QEMU's first device (see qemu.py)


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, b"BOCHS ", b"BXPC    ", OEM_REVISION, b"BXPC", 1
    )
    raw = bytearray(head + body)
    raw[9] = -sum(raw) & 255
    return bytes(raw)


def dmar() -> bytes:
    """Return Intel's table: one remapping unit at fed90000 for all PCI devices (INCLUDE_PCI_ALL), and the IOAPIC."""
    ioapic = struct.pack("<BBHBBBB", 3, 8, 0, IOAPIC_ID, 0xFF, 0, 0)
    unit = struct.pack("<HHBBHQ", 0, 16 + len(ioapic), 1, 0, 0, 0xFED90000) + ioapic
    return _table(b"DMAR", 1, struct.pack("<BB10x", 38, 1) + unit)  # 39 address bits, interrupt remapping


def ivrs() -> bytes:
    """Return AMD's table: one IVHD block (type 10h) at fed80000 for all devices, and the IOAPIC."""
    everything = bytes([1, 0, 0, 0])
    ioapic = struct.pack("<BHBBHB", 0x48, 0, 0, IOAPIC_ID, 0x00A0, 1)
    entries = everything + ioapic
    flags = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7  # HtTunEn, IotlbSup, PrefSup, PPRSup: the same flags as in QEMU's table
    block = struct.pack("<BBHHHQHHI", 0x10, flags, 24 + len(entries), AMD_IOMMU_FUNCTION, 0x40, 0xFED80000, 0, 0, 0x44)
    return _table(b"IVRS", 1, struct.pack("<I8x", 40 << 8) + block + entries)


def early_initrd(iommu: str) -> bytes:
    """Return the archive for `intel` or `amd` that precedes the initrd."""
    name, table = {"intel": ("DMAR", dmar()), "amd": ("IVRS", ivrs())}[iommu]
    archive = Archive()
    archive.file(f"kernel/firmware/acpi/{name}.aml", table)
    return archive.data()
