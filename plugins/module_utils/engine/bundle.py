# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's bundle: finding the one package in it, and taking it out safely.

Names vary between releases, so packages are found by what they end with, not by a full name.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import struct
import zipfile
import zlib

from .driver_install import version_in
from .errors import trouble

# What zipfile raises for a damaged archive: beside its own error those of its parts, and of what it can't unpack.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError)

_PATTERNS = {
    ("host", "run"): ("*-vgpu-kvm*.run",),
    ("host", "deb"): ("nvidia-vgpu-*_amd64.deb",),
    ("host", "rpm"): ("NVIDIA-vGPU-*.x86_64.rpm",),
    ("guest", "run"): ("*-grid*.run",),
    ("guest", "deb"): ("nvidia-linux-grid-*_amd64.deb",),
    ("guest", "rpm"): ("nvidia-linux-grid-*.x86_64.rpm",),
}


class Package:
    """A package in a bundle, or by itself. member is None when it needs no taking out."""

    def __init__(self, path, version, member=None, size=0):
        self.path = path
        self.version = version
        self.member = member
        self.size = size


def sha256(path):
    """Checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check(path, checksum):
    """Raises EngineError unless the file is there and has the checksum (sha256:…)."""
    if not os.path.isfile(path):
        raise trouble("the bundle is not there", device=path, wanted="NVIDIA's zip, or a package out of it", code="bundle_missing")
    if not checksum:
        return
    method, dummy, wanted = checksum.partition(":")
    if method != "sha256" or len(wanted) != 64:
        raise trouble("%r is no checksum" % checksum, device=path, wanted="sha256: and 64 hexadecimal digits", code="bad_checksum")
    found = sha256(path)
    if found != wanted.lower():
        raise trouble(
            "its checksum is sha256:%s" % found,
            device=path,
            wanted="sha256:%s" % wanted.lower(),
            remedy="The file is damaged or another one: fetch it again from NVIDIA's portal.",
            code="wrong_checksum",
        )


def find(src, dest, kind, form):
    """The package of that kind (host, guest) and form (run, deb, rpm)."""
    patterns = _PATTERNS[(kind, form)]
    name = os.path.basename(src)
    if not name.endswith(".zip"):
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            return Package(src, version_in(name))
        raise trouble(
            "this is no %s package of the %s driver" % (form, kind), device=src, wanted="a .zip bundle or %s" % " or ".join(patterns), code="wrong_package"
        )
    try:
        with zipfile.ZipFile(src) as bundle:
            members = [info for info in bundle.infolist() if not info.is_dir()]
    except ZIP_ERRORS as exc:
        raise trouble(
            "it is no readable zip: %s" % exc, device=src, wanted="the whole zip of NVIDIA's bundle", remedy="Fetch it again.", code="bad_zip"
        ) from exc
    found = [
        info for info in members if any(fnmatch.fnmatch(os.path.basename(info.filename), pattern) for pattern in patterns)
    ]
    if len(found) != 1:
        have = ", ".join(os.path.basename(info.filename) for info in found or members[:12])
        raise trouble(
            "it holds %s %s packages of the %s driver: %s" % (len(found) or "no", form, kind, have),
            device=src,
            wanted="exactly one %s" % " or ".join(patterns),
            code="package_not_found",
        )
    if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise trouble(
            "%s is packed by a method (%d) that is none of NVIDIA's" % (found[0].filename, found[0].compress_type),
            device=src,
            remedy="The file is damaged or another one: fetch it again from NVIDIA's portal.",
            code="bad_zip",
        )
    name = os.path.basename(found[0].filename)
    return Package(os.path.join(dest, name), version_in(name), found[0].filename, found[0].file_size)


def extracted(package):
    """Whether the package lies there already, whole."""
    return package.member is None or (
        os.path.isfile(package.path) and os.path.getsize(package.path) == package.size
    )


def extract(src, package):
    """Takes the package out, to its own name alone: paths inside the zip decide nothing."""
    folder = os.path.dirname(package.path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < package.size + (64 << 20):
        raise trouble(
            "%d MiB are free, the package takes %d MiB" % (free >> 20, package.size >> 20),
            device=folder,
            remedy="Free space, or choose another folder.",
            code="no_space",
        )
    temporary = package.path + ".part"
    try:
        with zipfile.ZipFile(src) as bundle, bundle.open(package.member) as source:
            with open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
        os.chmod(temporary, 0o600)
        os.rename(temporary, package.path)
    except ZIP_ERRORS as exc:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise trouble("taking %s out failed: %s" % (package.member, exc), device=src, code="extract_failed") from exc
