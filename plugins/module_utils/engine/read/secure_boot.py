# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secure Boot: whether the kernel loads signed modules alone, and which certificates the firmware and shim trust."""

from __future__ import annotations

import contextlib
import hashlib
import struct

from ..system.sysfs import Sysfs, SysfsError

_EFI = "/sys/firmware/efi/efivars"
_SECURE_BOOT = _EFI + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# The firmware's own list, and that of shim (Machine Owner Keys); shim splits a long one into MokListRT1, MokListRT2, …
_DB = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_MOK = "-605dab50-e046-4300-abb6-3dd810dd8b23"
_STATE = _EFI + "/MokSBStateRT" + _MOK
_NON_VOLATILE = 1  # of a variable's attributes
_X509 = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")  # EFI_CERT_X509_GUID a5c059a1-94e4-4aa7-87b5-ab155c2bf072, its first parts turned round
_LIST = struct.Struct("<16sIII")  # EFI_SIGNATURE_LIST: type, its size, size of a header, size of one signature
_OWNER = 16  # EFI_SIGNATURE_DATA begins with a GUID of who put it there


def read(sysfs: Sysfs) -> bool | None:
    """Whether it is on for the kernel, too; None when the firmware has no such thing."""
    if not sysfs.exists(_SECURE_BOOT):
        return None
    return sysfs.read_bytes(_SECURE_BOOT)[-1:] == b"\x01" and not _validation_off(sysfs)


def _validation_off(sysfs: Sysfs) -> bool:
    """Whether shim is configured to validate nothing ('mokutil --disable-validation'): then the kernel does not either.

    As the kernel's EFI stub has it (drivers/firmware/efi/libstub/secureboot.c): shim's copy of the setting is volatile. A variable that is not
    comes from somebody else.
    """
    with contextlib.suppress(SysfsError):
        blob = sysfs.read_bytes(_STATE) if sysfs.exists(_STATE) else b""
        return blob[4:] == b"\x01" and not blob[0] & _NON_VOLATILE
    return False


def enrolled(sysfs: Sysfs) -> list[str]:
    """Fingerprints (SHA-256, hexadecimal) of the certificates that the firmware and shim trust."""
    found: list[str] = []
    for name in sysfs.list(_EFI):
        if name == _DB or (name.startswith("MokListRT") and name.endswith(_MOK)):
            with contextlib.suppress(SysfsError):  # what can't be read vouches for nothing
                blob = sysfs.read_bytes(_EFI + "/" + name)[4:]  # the first four bytes are the variable's attributes
                found += [hashlib.sha256(one).hexdigest() for one in certificates(blob)]
    return sorted(set(found))


def certificates(blob: bytes) -> list[bytes]:
    """The X.509 certificates (DER) of EFI signature lists. A list that is cut off ends it."""
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
