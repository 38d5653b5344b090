# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's vGPU software package (the bundle): finds the driver's package in the bundle, and extracts it safely.

Names vary between releases, so packages are found by the ends of their names, not by full names.
"""

from __future__ import annotations

import fnmatch
import glob
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
from typing import Iterator, Sequence

from ..base.errors import EngineError, Refusal, error, looks_signed, shown, shown_link
from ..read.platform import Distribution
from .plan import version_in

# The exceptions of zipfile for damaged archives and unsupported compression: its own one, and those of its parts.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError)
MARGIN = 64 << 20  # the space that must remain free after a download or extraction

_PATTERNS = {
    ("host", "run"): "*-vgpu-kvm*.run",
    ("host", "deb"): "nvidia-vgpu-*_amd64.deb",
    ("host", "rpm"): "NVIDIA-vGPU-*.x86_64.rpm",
    ("guest", "run"): "*-grid*.run",
    ("guest", "deb"): "nvidia-linux-grid-*_amd64.deb",
    ("guest", "rpm"): "nvidia-linux-grid-*.x86_64.rpm",
}
AUTO = "auto"
FORMATS = ("run", "deb", "rpm")
# The formats with the distribution family that installs them. NVIDIA's .run works on all, so it comes first.
FAMILIES = {"deb": "debian", "rpm": "redhat"}
VARIABLES = {"host": "vgpu_driver", "guest": "vgpu_guest_driver"}
_MOST = 12  # the most names in a message
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*$")
# A package is already compressed and shrinks little in the zip. A ratio of more than ten is not plausible.
_RATIO = 10
_SMALL = 64 << 20


@dataclass(eq=False, repr=False)
class Package:
    """A package in a bundle, or on its own. member: None if nothing has to be extracted. crc: the CRC-32 in the zip.

    wrong: the reason for which the package must not be extracted.
    """

    path: str
    version: str | None
    form: str
    member: str | None = None
    size: int = 0
    crc: int = 0
    wrong: Refusal | None = None

    @property
    def name(self) -> str:
        """The package's file name."""
        return os.path.basename(self.path)


@dataclass(eq=False, repr=False)
class Contents:
    """The packages of a bundle for one kind of driver. names: the first file names in the bundle."""

    src: str
    kind: str
    packages: Sequence[Package]
    names: Sequence[str] = ()


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as handle:
        yield from iter(lambda: handle.read(1 << 20), b"")


def sha256(path: str) -> str:
    """The checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def check_form(path: str, checksum: str) -> str:
    """The digits of a checksum (sha256:…). Raises EngineError for any other form."""
    checksum = checksum.strip()
    if not re.match(r"sha256:[0-9a-fA-F]{64}$", checksum):
        # The value may be a link to a list of checksums, or the bundle's link in the wrong variable.
        found = shown_link(checksum) if looks_signed(checksum) else shown(checksum, 100)
        raise error("%s is not a checksum" % found, path, "sha256: and 64 hexadecimal digits", code="bad_checksum")
    return checksum.partition(":")[2].lower()


def wrong_checksum(path: str, found: str, expected: str) -> EngineError:
    """The error of a file with another checksum."""
    remedy = "The file is damaged or not the expected one: download it again from NVIDIA's portal."
    return error("its checksum is sha256:%s" % found, path, "sha256:%s" % expected, remedy, "wrong_checksum")


def check(path: str, checksum: str | None) -> None:
    """Raises EngineError unless the file exists and has the checksum (sha256:…)."""
    if not os.path.isfile(path):
        raise error("the vGPU software package does not exist", path, "NVIDIA's zip, or a package from it", code="bundle_missing")
    if checksum:
        expected, found = check_form(path, checksum), sha256(path)
        if found != expected:
            raise wrong_checksum(path, found, expected)


def read(src: str, dest: str, kind: str) -> Contents:
    """The packages of a kind (host, guest), to be extracted to dest. Raises EngineError if the file is not a bundle."""
    name = os.path.basename(src)
    for form in FORMATS:
        if fnmatch.fnmatch(name, _PATTERNS[(kind, form)]):
            return Contents(src, kind, [Package(src, version_in(name), form)], [name])
    if not name.endswith(".zip") and not zipfile.is_zipfile(src):
        expected = "a .zip bundle or %s" % ", ".join(_PATTERNS[(kind, form)] for form in FORMATS)
        raise error("this is not a package of the %s driver" % kind, src, expected, code="wrong_package")
    try:
        with zipfile.ZipFile(src) as bundle:
            names = {info: os.path.basename(info.filename) for info in bundle.infolist() if not info.is_dir()}
    except ZIP_ERRORS as exc:
        remedy = "Download the bundle again."
        raise error("the zip can't be read: %s" % exc, src, "the complete zip of NVIDIA's vGPU software package", remedy, "bad_zip") from exc
    packages = [
        Package(
            os.path.join(dest, one), version_in(one), form, info.filename, size=info.file_size, crc=info.CRC, wrong=_wrong_member(src, info, one),
        )
        for info, one in names.items()
        for form in FORMATS
        if fnmatch.fnmatch(one, _PATTERNS[(kind, form)])
    ]
    return Contents(src, kind, packages, list(names.values())[:_MOST])


def choose(contents: Contents, form: str, distribution: Distribution) -> Package:
    """The only package of the format. auto: of the first format in the bundle that the distribution can install."""
    kind, held = contents.kind, [one for one in FORMATS if any(package.form == one for package in contents.packages)]
    suitable = [one for one in held if FAMILIES.get(one, distribution.family) == distribution.family]
    if form == AUTO and held and not suitable:
        raise error(
            "the bundle has the %s driver only as %s, but this is %s" % (kind, " and ".join(held), distribution.name), contents.src,
            "a package that this distribution can install (run%s)" % "".join(", " + one for one in FAMILIES if FAMILIES[one] == distribution.family),
            "Download NVIDIA's vGPU software package for this distribution, or the one for Linux KVM.", "wrong_format",
        )
    form = (suitable or FORMATS)[0] if form == AUTO else form
    found = [package for package in contents.packages if package.form == form]
    if len(found) != 1:
        have = ", ".join(repr(name)[1:-1] for name in ([package.name for package in found] or contents.names)[:_MOST])
        count = "the bundle has %s %s packages of the %s driver: %s" % (len(found) or "no", form, kind, have)
        remedy = "Set format: %s (in roles %s_format)." % ((suitable or held)[0], VARIABLES[kind]) if held and not found else None
        raise error(count, contents.src, "exactly one %s" % _PATTERNS[(kind, form)], remedy, "package_not_found")
    if found[0].wrong:
        raise EngineError(found[0].wrong)
    return found[0]


def _wrong_member(src: str, info: zipfile.ZipInfo, name: str) -> Refusal | None:
    """The error of a zip entry that NVIDIA's zips never have, and that is therefore not extracted."""
    wrong, code = None, "unsafe_zip"
    if not _NAME.match(name):
        wrong = "the name of a package has characters that file names can't have"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        wrong = "the package is not a file but a link or a device"
    elif info.flag_bits & 1:
        wrong = "the package is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong, code = "the package is compressed by a method (%d) that NVIDIA does not use" % info.compress_type, "bad_zip"
    elif info.file_size > max(_SMALL, info.compress_size * _RATIO):
        wrong = "the package would grow from %d to %d MiB" % (info.compress_size >> 20, info.file_size >> 20)
    if not wrong:
        return None
    remedy = "The file is damaged or malicious: download it again from NVIDIA's portal."
    return Refusal("%s (%r)" % (wrong, info.filename[:200]), src, "a plain zip, as NVIDIA publishes it", remedy, code)


def extracted(package: Package) -> bool:
    """Whether the complete package exists already. Its checksum in the zip is compared."""
    if package.member is None:
        return True
    if not os.path.isfile(package.path) or os.path.islink(package.path) or os.path.getsize(package.path) != package.size:
        return False
    crc = 0
    for block in _blocks(package.path):
        crc = zlib.crc32(block, crc)
    return crc == package.crc


def extract(src: str, package: Package) -> None:
    """Extracts the package to its own name. Paths inside the zip are ignored."""
    if package.member is None:
        return
    directory, name = os.path.split(package.path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for left in glob.glob(glob.escape(package.path) + ".*.part"):  # files of a killed run
        os.unlink(left)
    free = shutil.disk_usage(directory).free
    if free < package.size + MARGIN:
        found = "%d MiB are free, but the package takes %d MiB" % (free >> 20, package.size >> 20)
        raise error(found, directory, remedy="Free space, or choose another directory.", code="no_space")
    # The name is unpredictable: another user's directory might have a link with a known name.
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
        raise error("extracting %s failed: %s" % (package.member, exc), src, code="extract_failed") from exc
