# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the key that signs driver modules for Secure Boot. The checks do not access the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from ..base.errors import Refusal, error
from ..read.host import HostState

STEPS = (
    "Sign the modules with your own key. To create a key and a certificate, run 'openssl req -new -x509 -newkey rsa:2048 -nodes -days 3650 "
    "-subj /CN=vgpu/ -addext extendedKeyUsage=codeSigning -outform DER -keyout MOK.priv -out MOK.der'. To enroll the certificate, run "
    "'mokutil --import MOK.der', reboot, and confirm the enrollment on the console. Set vgpu_driver_mok_key and vgpu_driver_mok_certificate "
    "(in a guest, vgpu_guest_driver_mok_…). With DKMS, also set 'vgpu_driver_mok_on_host: true'. Alternatively, disable Secure Boot in the firmware."
)


@dataclass(eq=False, repr=False)
class KeyFile:
    """A module signing file: the key or its certificate.

    Attributes:
        shared: Whether the file's group or other users have any permission.
        fingerprint: The SHA-256 checksum of the file, or None if the file was not read.
        searched: The controller directories that were searched for the file, or empty for a file on the host.
    """

    path: str
    exists: bool
    is_file: bool
    shared: bool = False
    fingerprint: str | None = None
    searched: Sequence[str] = ()


def key_errors(state: HostState, key: KeyFile, certificate: KeyFile) -> list[Refusal]:
    """Returns the errors for the module signing key and its certificate."""
    errors = [_missing(one, what) for one, what in ((key, "signing key"), (certificate, "certificate of the signing key")) if not one.is_file]
    if errors:
        return errors
    if key.shared:
        restrict = "Run 'chmod 600 %s' on the %s." % (key.path, "controller, or encrypt the key with ansible-vault" if key.searched else "host")
        errors.append(Refusal("the signing key is group- or world-readable", key.path, "mode 0600", restrict, "signing_key_open"))
    if state.secure_boot and certificate.fingerprint not in state.enrolled_certificates:
        enroll = (
            "To enroll the certificate, run 'mokutil --import CERTIFICATE.der', reboot, and confirm the enrollment on the console. "
            "To convert a PEM file to DER, run 'openssl x509 -in FILE.pem -outform DER -out FILE.der'."
        )
        found = "Secure Boot is enabled, but this certificate is not enrolled"
        errors.append(Refusal(found, certificate.path, "an enrolled certificate in DER format", enroll, "certificate_not_enrolled"))
    return errors


def _missing(one: KeyFile, what: str) -> Refusal:
    expected, remedy = "a file on the managed host", None
    if one.searched:
        expected = "a file on the controller in one of these directories: %s" % ", ".join(one.searched)
        remedy = (
            "Set the absolute path of the file. If the file is on the managed host, set 'vgpu_driver_mok_on_host: true' "
            "(in a guest, vgpu_guest_driver_mok_on_host)."
        )
    return Refusal("the %s does not exist" % what, one.path, expected, remedy, "signing_key_missing")


def check_signature(certificate: str, der: bytes, key_id: str, signer: str) -> None:
    """Raises EngineError unless the nvidia module is signed with the certificate's key.

    Args:
        certificate: The certificate's path.
        der: The certificate's content.
        key_id: The module's sig_key value from modinfo, or an empty string.
        signer: The module's signer value from modinfo, or an empty string.
    """
    expected = serial(der)
    signed_by = "".join(key_id.split()).replace(":", "").lstrip("0").upper()
    if not signed_by or expected not in (None, signed_by):
        found = "the nvidia module is signed by %s" % (signer or "another key") if signed_by else "the nvidia module is not signed"
        remedy = (
            "Find the messages about signing in /var/log/nvidia-installer.log. DKMS 3.0 and later use the key that is set as mok_signing_key in "
            "/etc/dkms/framework.conf.d/vgpu-kvm.conf. Older releases of DKMS use their own key."
        )
        raise error(found, certificate, "a signature by this certificate's key", remedy, "not_signed")


def serial(der: bytes) -> str | None:
    """Returns a certificate's serial number in hexadecimal, or None if the data is not a certificate in DER format.

    A kernel module's signature identifies the signing key by the certificate's serial number.
    """
    try:
        body = _inside(_inside(der)[1])[1]  # the tbsCertificate field of the X.509 certificate
        tag, content, rest = _inside(body)
        if tag == 0xA0:  # the optional version field of the X.509 certificate
            tag, content, rest = _inside(rest)
    except IndexError:
        return None
    return content.hex().lstrip("0").upper() if tag == 0x02 else None


def _inside(der: bytes) -> tuple[int, bytes, bytes]:
    """Returns the tag and the content of the first DER element, and the remaining bytes."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return tag, der[start:start + length], der[start + length:]
