# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's vGPU software package (the bundle): finds the one package in it, and extracts it safely.

Names vary between releases, so packages are found by what they end with, not by a full name.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import Iterator

from ..base.errors import EngineError, error
from .plan import version_in

# What zipfile raises for a damaged archive: beside its own error those of its parts, and of what it can't unpack.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError)
MARGIN = 64 << 20  # what a package or a download must leave free

_PATTERNS = {
    ("host", "run"): "*-vgpu-kvm*.run",
    ("host", "deb"): "nvidia-vgpu-*_amd64.deb",
    ("host", "rpm"): "NVIDIA-vGPU-*.x86_64.rpm",
    ("guest", "run"): "*-grid*.run",
    ("guest", "deb"): "nvidia-linux-grid-*_amd64.deb",
    ("guest", "rpm"): "nvidia-linux-grid-*.x86_64.rpm",
}
_VARIABLES = {"host": "vgpu_driver", "guest": "vgpu_guest_driver"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*$")
# A package is compressed by itself and shrinks little in the zip; a tenth is far beyond what one does.
_RATIO = 10
_SMALL = 64 << 20


@dataclass(eq=False, repr=False)
class Package:
    """A package in a bundle, or by itself. member is None where nothing has to be extracted. crc: of the zip, CRC-32."""

    path: str
    version: str | None
    member: str | None = None
    size: int = 0
    crc: int = 0


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as handle:
        yield from iter(lambda: handle.read(1 << 20), b"")


def sha256(path: str) -> str:
    """Checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def check_form(path: str, checksum: str) -> str:
    """The digits of a checksum (sha256:…); raises EngineError unless it is one that is understood."""
    if not re.match(r"sha256:[0-9a-fA-F]{64}$", checksum):
        raise error("%r is no checksum" % checksum, path, "sha256: and 64 hexadecimal digits", code="bad_checksum")
    return checksum.partition(":")[2].lower()


def wrong_checksum(path: str, found: str, expected: str) -> EngineError:
    """The error of a file that is another one."""
    remedy = "The file is damaged or another one: fetch it again from NVIDIA's portal."
    return error("its checksum is sha256:%s" % found, path, "sha256:%s" % expected, remedy, "wrong_checksum")


def check(path: str, checksum: str | None) -> None:
    """Raises EngineError unless the file is there and has the checksum (sha256:…)."""
    if not os.path.isfile(path):
        raise error("the vGPU software package is not there", path, "NVIDIA's zip, or a package out of it", code="bundle_missing")
    if checksum:
        expected, found = check_form(path, checksum), sha256(path)
        if found != expected:
            raise wrong_checksum(path, found, expected)


def find(src: str, dest: str, kind: str, form: str) -> Package:
    """The package of that kind (host, guest) and form (run, deb, rpm)."""
    pattern = _PATTERNS[(kind, form)]
    name = os.path.basename(src)
    if fnmatch.fnmatch(name, pattern):
        return Package(src, version_in(name))
    if not name.endswith(".zip") and not zipfile.is_zipfile(src):
        raise error("this is no %s package of the %s driver" % (form, kind), src, "a .zip bundle or %s" % pattern, code="wrong_package")
    try:
        with zipfile.ZipFile(src) as bundle:
            names = {info: os.path.basename(info.filename) for info in bundle.infolist() if not info.is_dir()}
    except ZIP_ERRORS as exc:
        raise error("it is no readable zip: %s" % exc, src, "the whole zip of NVIDIA's vGPU software package", "Fetch it again.", "bad_zip") from exc
    found = [info for info, name in names.items() if fnmatch.fnmatch(name, pattern)]
    if len(found) != 1:
        have = ", ".join(repr(names[info])[1:-1] for info in (found or list(names))[:12])
        count = "it holds %s %s packages of the %s driver: %s" % (len(found) or "no", form, kind, have)
        others = [other for (of, other), one in _PATTERNS.items() if of == kind and not found and fnmatch.filter(names.values(), one)]
        remedy = "Set format: %s (in roles %s_format)." % (others[0], _VARIABLES[kind]) if others else None
        raise error(count, src, "exactly one %s" % pattern, remedy, "package_not_found")
    info, name = found[0], names[found[0]]
    _check_member(src, info, name)
    return Package(os.path.join(dest, name), version_in(name), info.filename, info.file_size, info.CRC)


def _check_member(src: str, info: zipfile.ZipInfo, name: str) -> None:
    """Raises EngineError for what NVIDIA does not pack: such a zip is not unpacked at all."""
    wrong, code = None, "unsafe_zip"
    if not _NAME.match(name):
        wrong = "the name of a package has characters that are not of file names"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        wrong = "the package is no file but a link or a device"
    elif info.flag_bits & 1:
        wrong = "the package is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong, code = "the package is packed by a method (%d) that is none of NVIDIA's" % info.compress_type, "bad_zip"
    elif info.file_size > max(_SMALL, info.compress_size * _RATIO):
        wrong = "the package would grow from %d to %d MiB" % (info.compress_size >> 20, info.file_size >> 20)
    if wrong:
        remedy = "The file is damaged or a trap: fetch it again from NVIDIA's portal."
        raise error("%s (%r)" % (wrong, info.filename[:200]), src, "a plain zip, as NVIDIA publishes it", remedy, code)


def extracted(package: Package) -> bool:
    """Whether the package lies there already, whole: the zip's own checksum of it is compared."""
    if package.member is None:
        return True
    if not os.path.isfile(package.path) or os.path.islink(package.path) or os.path.getsize(package.path) != package.size:
        return False
    crc = 0
    for block in _blocks(package.path):
        crc = zlib.crc32(block, crc)
    return crc == package.crc


def extract(src: str, package: Package) -> None:
    """Extracts the package to its own name alone: paths inside the zip decide nothing."""
    if package.member is None:
        return
    directory, name = os.path.split(package.path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < package.size + MARGIN:
        found = "%d MiB are free, the package takes %d MiB" % (free >> 20, package.size >> 20)
        raise error(found, directory, remedy="Free space, or choose another directory.", code="no_space")
    # An unpredictable name: in another user's directory a link might wait under a known one.
    number, temporary = tempfile.mkstemp(dir=directory, prefix=name + ".", suffix=".part")
    try:
        with os.fdopen(number, "wb") as target, zipfile.ZipFile(src) as bundle, bundle.open(package.member) as source:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.rename(temporary, package.path)
    except ZIP_ERRORS as exc:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise error("taking %s out failed: %s" % (package.member, exc), src, code="extract_failed") from exc
