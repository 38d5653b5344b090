# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads whether Secure Boot limits the kernel to signed modules, and which certificates the firmware and shim trust."""

from __future__ import annotations

import contextlib
import hashlib
import struct

from ..system.sysfs import Sysfs, SysfsError

_EFI = "/sys/firmware/efi/efivars"
_SECURE_BOOT = _EFI + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# The variables that contain the firmware's certificate list and shim's list (Machine Owner Keys).
# shim splits a long list into MokListRT1, MokListRT2, …
_DB = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_MOK = "-605dab50-e046-4300-abb6-3dd810dd8b23"
_STATE = _EFI + "/MokSBStateRT" + _MOK
_NON_VOLATILE = 1  # the non-volatile bit in a variable's attributes
_X509 = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")  # EFI_CERT_X509_GUID a5c059a1-94e4-4aa7-87b5-ab155c2bf072, partly little-endian
_LIST = struct.Struct("<16sIII")  # EFI_SIGNATURE_LIST: type, list size, header size, signature size
_OWNER = 16  # EFI_SIGNATURE_DATA begins with the owner's GUID


def read(sysfs: Sysfs) -> bool | None:
    """Returns whether Secure Boot is enabled for the kernel, or None if the firmware does not support Secure Boot."""
    if not sysfs.exists(_SECURE_BOOT):
        return None
    return sysfs.read_bytes(_SECURE_BOOT)[-1:] == b"\x01" and not _validation_off(sysfs)


def _validation_off(sysfs: Sysfs) -> bool:
    """Returns whether validation in shim is disabled ('mokutil --disable-validation'), which also disables validation in the kernel.

    The kernel's EFI stub performs the same check (drivers/firmware/efi/libstub/secureboot.c). shim's copy of the setting is volatile, so a
    non-volatile variable does not come from shim.
    """
    with contextlib.suppress(SysfsError):
        blob = sysfs.read_bytes(_STATE) if sysfs.exists(_STATE) else b""
        return blob[4:] == b"\x01" and not blob[0] & _NON_VOLATILE
    return False


def enrolled(sysfs: Sysfs) -> list[str]:
    """Returns the fingerprints (SHA-256, hexadecimal) of the certificates that the firmware and shim trust."""
    found: list[str] = []
    for name in sysfs.list(_EFI):
        if name == _DB or (name.startswith("MokListRT") and name.endswith(_MOK)):
            with contextlib.suppress(SysfsError):  # an unreadable list adds no trusted certificates
                blob = sysfs.read_bytes(_EFI + "/" + name)[4:]  # the first four bytes contain the variable's attributes
                found += [hashlib.sha256(one).hexdigest() for one in certificates(blob)]
    return sorted(set(found))


def certificates(blob: bytes) -> list[bytes]:
    """Returns the X.509 certificates (DER) in EFI signature lists. Parsing stops at a truncated list."""
    found: list[bytes] = []
    while len(blob) >= _LIST.size:
        kind, whole, header, one = _LIST.unpack_from(blob)
        if whole < _LIST.size or whole > len(blob) or one <= _OWNER:
            break
        body = blob[_LIST.size + header:whole]
        if kind == _X509:
            found += [body[start + _OWNER:start + one] for start in range(0, len(body) - one + 1, one)]
        blob = blob[whole:]
    return found
