# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Creates keys and certificates for tests: a certificate authority with a server certificate, and a machine owner key (MOK)."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import struct
import uuid
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _text(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _signed(name: str, key: rsa.RSAPrivateKey, issuer: str, by: rsa.RSAPrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    # The clocks of the machine and the controller can differ.
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=3))
    builder = builder.not_valid_after(now + datetime.timedelta(days=3)).add_extension(extension, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    return builder.sign(by, hashes.SHA256())


def server(folder: Path, address: str) -> tuple[Path, Path]:
    """Write the certificate of an authority, and the chain and key of a server at this address. Return both paths."""
    authority, key = _key(), _key()
    root = _signed("test authority", authority, "test authority", authority, x509.BasicConstraints(ca=True, path_length=0))
    leaf = _signed("test server", key, "test authority", authority, x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]))
    (folder / "ca.pem").write_bytes(root.public_bytes(PEM))
    (folder / "server.pem").write_bytes(leaf.public_bytes(PEM) + _text(key))
    return folder / "ca.pem", folder / "server.pem"


def owner_key(folder: Path, name: str, before: str) -> tuple[Path, Path]:
    """Write a key that follows a line of text (which PEM allows), and its certificate in DER format. Return both paths."""
    key = _key()
    public = _signed(name, key, name, key, x509.BasicConstraints(ca=False, path_length=None))
    paths = folder / f"{name}.priv", folder / f"{name}.der"
    paths[0].write_bytes(before.encode() + b"\n" + _text(key))
    paths[1].write_bytes(public.public_bytes(DER))
    return paths


def firmware_list(certificate: Path) -> bytes:
    """Return an EFI variable that trusts the certificate: four bytes of attributes and an EFI_SIGNATURE_LIST."""
    der = certificate.read_bytes()
    kind = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
    return b"\7\0\0\0" + kind + struct.pack("<III", 28 + 16 + len(der), 0, 16 + len(der)) + uuid.uuid4().bytes_le + der


def digest(path: Path) -> str:
    """Return a file's checksum as sha256:…."""
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
