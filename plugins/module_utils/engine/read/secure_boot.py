# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secure Boot: whether it is on, which certificates the firmware and shim trust, and the key that signs the driver's modules."""

from __future__ import annotations

import hashlib
import os
import stat
import struct

from ..base.errors import Trouble
from ..system.sysfs import SysfsError

_EFI = "/sys/firmware/efi/efivars"
_SECURE_BOOT = _EFI + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# The firmware's own list, and that of shim (Machine Owner Keys); shim splits a long one into MokListRT1, MokListRT2, …
_DB = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_MOK = "-605dab50-e046-4300-abb6-3dd810dd8b23"
_X509 = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")  # EFI_CERT_X509_GUID a5c059a1-94e4-4aa7-87b5-ab155c2bf072, its first three parts turned round
_LIST = struct.Struct("<16sIII")  # EFI_SIGNATURE_LIST: type, its size, size of a header, size of one signature
_OWNER = 16  # EFI_SIGNATURE_DATA begins with a GUID of who put it there

STEPS = (
    "Sign the modules with a key of yours (vgpu_driver_mok_key, vgpu_driver_mok_certificate) that is enrolled "
    "('mokutil --import CERTIFICATE.der', reboot, confirm on the console), or turn Secure Boot off in the firmware."
)


def read(sysfs):
    """True or False; None when the firmware has no such thing."""
    if not sysfs.exists(_SECURE_BOOT):
        return None
    return sysfs.read_bytes(_SECURE_BOOT)[-1:] == b"\x01"


def enrolled(sysfs):
    """Fingerprints (SHA-256, hexadecimal) of the certificates that the firmware and shim trust."""
    found = []
    for name in sysfs.list(_EFI):
        if name == _DB or (name.startswith("MokListRT") and name.endswith(_MOK)):
            try:
                blob = sysfs.read_bytes(_EFI + "/" + name)[4:]  # the first four bytes are the variable's attributes
            except SysfsError:
                continue  # what can't be read vouches for nothing
            found += [hashlib.sha256(one).hexdigest() for one in certificates(blob)]
    return sorted(set(found))


def certificates(blob):
    """The X.509 certificates (DER) of EFI signature lists. A list that is cut off ends it."""
    found = []
    while len(blob) >= _LIST.size:
        kind, whole, header, one = _LIST.unpack_from(blob)
        if whole < _LIST.size or whole > len(blob) or one <= _OWNER:
            break
        body = blob[_LIST.size + header:whole]
        if kind == _X509:
            found += [body[start + _OWNER:start + one] for start in range(0, len(body) - one + 1, one)]
        blob = blob[whole:]
    return found


def key_troubles(state, key, certificate):
    """What is wrong with the key and the certificate, files of the host, that the modules are to be signed with."""
    troubles = []
    for path, what in ((key, "signing key"), (certificate, "certificate of the signing key")):
        if not os.path.isfile(path):
            troubles.append(Trouble("the %s is not there" % what, device=path, wanted="a file on the managed host", code="signing_key_missing"))
    if troubles:
        return troubles
    if os.stat(key).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        troubles.append(
            Trouble("others than its owner may read the signing key", device=key, wanted="mode 0600", remedy="chmod 600 it.", code="signing_key_open")
        )
    if state.secure_boot:
        with open(certificate, "rb") as handle:
            fingerprint = hashlib.sha256(handle.read()).hexdigest()
        if fingerprint not in state.enrolled_certificates:
            troubles.append(not_enrolled(certificate))
    return troubles


def not_enrolled(certificate):
    """The trouble of a key that this machine does not trust."""
    return Trouble(
        "Secure Boot is on, and this certificate is none that the machine trusts",
        device=certificate,
        wanted="a certificate (DER) that is enrolled",
        remedy="Enroll it: 'mokutil --import CERTIFICATE.der', reboot, confirm on the console. "
        "A PEM file becomes DER by 'openssl x509 -in FILE.pem -outform DER -out FILE.der'.",
        code="certificate_not_enrolled",
    )


def signature_trouble(ctx, certificate, timeout=30):
    """The trouble of a module nvidia that this certificate's key has not signed, or None. Tools that sign with a key of their own exist: DKMS."""
    said = ctx.command(["modinfo", "-F", "sig_key", "nvidia"], timeout)
    signer = ctx.command(["modinfo", "-F", "signer", "nvidia"], timeout).out.strip()
    with open(certificate, "rb") as handle:
        wanted = serial(handle.read())
    found = "".join(said.out.split()).replace(":", "").lstrip("0").upper() if said.rc == 0 else ""
    if found and (wanted is None or found == wanted):
        return None
    return Trouble(
        "the module nvidia is signed by %s" % (signer or "another key") if found else "the module nvidia is not signed",
        device=certificate,
        wanted="a signature by this certificate's key",
        remedy="Look into /var/log/nvidia-installer.log for what was said of signing. DKMS signs with mok_signing_key of "
        "/etc/dkms/framework.conf from its release 3.0 on; an older one takes a key of its own.",
        code="not_signed",
    )


def serial(der):
    """The serial number of a certificate in hexadecimal, as a module's signature names it; None for what is no DER certificate."""
    try:
        body = _inside(_inside(der)[1])[1]  # of Certificate, its tbsCertificate
        tag, content, rest = _inside(body)
        if tag == 0xA0:  # the version, which may be left out
            tag, content, rest = _inside(rest)
    except IndexError:
        return None
    return content.hex().lstrip("0").upper() if tag == 0x02 else None


def _inside(der):
    """(tag, content, what follows) of the first element."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return tag, der[start:start + length], der[start + length:]
