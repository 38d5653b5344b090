# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that sign the driver's modules for Secure Boot."""

from __future__ import annotations

import hashlib
import os
import stat

from ..base.errors import Trouble

STEPS = (
    "Sign the modules with a key of yours (vgpu_driver_mok_key, vgpu_driver_mok_certificate) that is enrolled "
    "('mokutil --import CERTIFICATE.der', reboot, confirm on the console), or turn Secure Boot off in the firmware."
)


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
