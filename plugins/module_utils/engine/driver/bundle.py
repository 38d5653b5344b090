# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's vGPU software package (the bundle): finds the one package in it, and extracts it safely.

Names vary between releases, so packages are found by what they end with, not by a full name.
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
AUTO = "auto"
FORMATS = ("run", "deb", "rpm")
# The family of distributions that installs a format. NVIDIA's .run suits all, so it comes first.
FAMILIES = {"deb": "debian", "rpm": "redhat"}
VARIABLES = {"host": "vgpu_driver", "guest": "vgpu_guest_driver"}
_MOST = 12  # names in a message
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*$")
# A package is compressed by itself and shrinks little in the zip; a tenth is far beyond what one does.
_RATIO = 10
_SMALL = 64 << 20


@dataclass(eq=False, repr=False)
class Package:
    """A package in a bundle, or by itself. member is None where nothing has to be extracted. crc: of the zip, CRC-32.

    wrong: why it must not be extracted.
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
        """The file's name."""
        return os.path.basename(self.path)


@dataclass(eq=False, repr=False)
class Contents:
    """What a bundle holds for one kind of driver. names: of its files, the first ones."""

    src: str
    kind: str
    packages: Sequence[Package]
    names: Sequence[str] = ()


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
    checksum = checksum.strip()
    if not re.match(r"sha256:[0-9a-fA-F]{64}$", checksum):
        # It may be a link to a list of checksums, or the bundle's own in the wrong variable.
        found = shown_link(checksum) if looks_signed(checksum) else shown(checksum, 100)
        raise error("%s is no checksum" % found, path, "sha256: and 64 hexadecimal digits", code="bad_checksum")
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


def read(src: str, dest: str, kind: str) -> Contents:
    """The packages of that kind (host, guest), which are extracted to dest; raises EngineError for what is no bundle."""
    name = os.path.basename(src)
    for form in FORMATS:
        if fnmatch.fnmatch(name, _PATTERNS[(kind, form)]):
            return Contents(src, kind, [Package(src, version_in(name), form)], [name])
    if not name.endswith(".zip") and not zipfile.is_zipfile(src):
        expected = "a .zip bundle or %s" % ", ".join(_PATTERNS[(kind, form)] for form in FORMATS)
        raise error("this is no package of the %s driver" % kind, src, expected, code="wrong_package")
    try:
        with zipfile.ZipFile(src) as bundle:
            names = {info: os.path.basename(info.filename) for info in bundle.infolist() if not info.is_dir()}
    except ZIP_ERRORS as exc:
        raise error("it is no readable zip: %s" % exc, src, "the whole zip of NVIDIA's vGPU software package", "Fetch it again.", "bad_zip") from exc
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
    """The one package of the format, or of the first format that the bundle holds and the distribution installs (auto)."""
    kind, held = contents.kind, [one for one in FORMATS if any(package.form == one for package in contents.packages)]
    suitable = [one for one in held if FAMILIES.get(one, distribution.family) == distribution.family]
    if form == AUTO and held and not suitable:
        raise error(
            "it holds the %s driver as %s only, and this is %s" % (kind, " and ".join(held), distribution.name), contents.src,
            "a package that this distribution installs (run%s)" % "".join(", " + one for one in FAMILIES if FAMILIES[one] == distribution.family),
            "Fetch NVIDIA's vGPU software package for this distribution, or the one for Linux KVM.", "wrong_format",
        )
    form = (suitable or FORMATS)[0] if form == AUTO else form
    found = [package for package in contents.packages if package.form == form]
    if len(found) != 1:
        have = ", ".join(repr(name)[1:-1] for name in ([package.name for package in found] or contents.names)[:_MOST])
        count = "it holds %s %s packages of the %s driver: %s" % (len(found) or "no", form, kind, have)
        remedy = "Set format: %s (in roles %s_format)." % ((suitable or held)[0], VARIABLES[kind]) if held and not found else None
        raise error(count, contents.src, "exactly one %s" % _PATTERNS[(kind, form)], remedy, "package_not_found")
    if found[0].wrong:
        raise EngineError(found[0].wrong)
    return found[0]


def _wrong_member(src: str, info: zipfile.ZipInfo, name: str) -> Refusal | None:
    """The error of what NVIDIA does not pack, which is not unpacked at all."""
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
    if not wrong:
        return None
    remedy = "The file is damaged or a trap: fetch it again from NVIDIA's portal."
    return Refusal("%s (%r)" % (wrong, info.filename[:200]), src, "a plain zip, as NVIDIA publishes it", remedy, code)


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
    for left in glob.glob(glob.escape(package.path) + ".*.part"):  # by a run that was killed
        os.unlink(left)
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
