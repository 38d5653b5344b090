# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that sign the driver's modules for Secure Boot: what is wrong with one. Nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from ..base.errors import Trouble
from ..read.host import HostState

STEPS = (
    "Sign the modules with a key of yours (vgpu_driver_mok_key, vgpu_driver_mok_certificate) that is enrolled "
    "('mokutil --import CERTIFICATE.der', reboot, confirm on the console), or turn Secure Boot off in the firmware."
)


@dataclass
class KeyFile:
    """A file of the host that modules are signed with. shared: others than its owner may read it.

    fingerprint: SHA-256, None where it was not read.
    """

    path: str
    exists: bool
    is_file: bool
    shared: bool = False
    fingerprint: Optional[str] = None


def key_troubles(state: HostState, key: KeyFile, certificate: KeyFile) -> List[Trouble]:
    """What is wrong with the key and the certificate that the modules are to be signed with."""
    troubles = []
    for one, what in ((key, "signing key"), (certificate, "certificate of the signing key")):
        if not one.is_file:
            troubles.append(Trouble("the %s is not there" % what, device=one.path, wanted="a file on the managed host", code="signing_key_missing"))
    if troubles:
        return troubles
    if key.shared:
        found = "others than its owner may read the signing key"
        troubles.append(Trouble(found, device=key.path, wanted="mode 0600", remedy="chmod 600 it.", code="signing_key_open"))
    if state.secure_boot and certificate.fingerprint not in state.enrolled_certificates:
        troubles.append(not_enrolled(certificate.path))
    return troubles


def not_enrolled(certificate: str) -> Trouble:
    """The trouble of a key that this machine does not trust."""
    return Trouble(
        "Secure Boot is on, and this certificate is none that the machine trusts",
        device=certificate,
        wanted="a certificate (DER) that is enrolled",
        remedy="Enroll it: 'mokutil --import CERTIFICATE.der', reboot, confirm on the console. "
        "A PEM file becomes DER by 'openssl x509 -in FILE.pem -outform DER -out FILE.der'.",
        code="certificate_not_enrolled",
    )


def signature_trouble(certificate: str, der: bytes, key_id: str, signer: str) -> Optional[Trouble]:
    """The trouble of a module nvidia that this certificate's key has not signed, or None. key_id, signer: as modinfo prints them, empty for none."""
    expected = serial(der)
    found = "".join(key_id.split()).replace(":", "").lstrip("0").upper()
    if found and expected in (None, found):
        return None
    return Trouble(
        "the module nvidia is signed by %s" % (signer or "another key") if found else "the module nvidia is not signed",
        device=certificate,
        wanted="a signature by this certificate's key",
        remedy="Look into /var/log/nvidia-installer.log for what was said of signing. DKMS signs with mok_signing_key of "
        "/etc/dkms/framework.conf from its release 3.0 on; an older one takes a key of its own.",
        code="not_signed",
    )


def serial(der: bytes) -> Optional[str]:
    """The serial number of a certificate in hexadecimal, as a module's signature names it; None for what is no DER certificate."""
    try:
        body = _inside(_inside(der)[1])[1]  # of Certificate, its tbsCertificate
        tag, content, rest = _inside(body)
        if tag == 0xA0:  # the version, which may be left out
            tag, content, rest = _inside(rest)
    except IndexError:
        return None
    return content.hex().lstrip("0").upper() if tag == 0x02 else None


def _inside(der: bytes) -> Tuple[int, bytes, bytes]:
    """(tag, content, what follows) of the first element."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return tag, der[start:start + length], der[start + length:]
