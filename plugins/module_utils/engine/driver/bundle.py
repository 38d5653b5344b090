# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and safely extracts the driver package from NVIDIA's vGPU software package (the bundle).

File names vary between NVIDIA's releases, so driver packages are found by patterns instead of full names.
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

# For damaged archives and unsupported compression methods, zipfile raises BadZipFile or an exception from an underlying module.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError)
MARGIN = 64 << 20  # bytes that must remain free after a download or extraction

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
# The distribution family that can install each package format. NVIDIA's .run packages work on all distribution families.
FAMILIES = {"deb": "debian", "rpm": "redhat"}
VARIABLES = {"host": "vgpu_driver", "guest": "vgpu_guest_driver"}
_MOST = 12  # the maximum number of file names in a message
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*$")
# Driver packages are already compressed, so a zip compression ratio above ten indicates a zip bomb.
_RATIO = 10
_SMALL = 64 << 20


@dataclass(eq=False, repr=False)
class Package:
    """A driver package, either in a bundle or as a separate file.

    Attributes:
        member: The name of the package's zip entry, or None if the package is a separate file.
        crc: The CRC-32 checksum that the zip contains for the package.
        wrong: The reason why the package must not be extracted, or None.
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
        """The file name of the driver package."""
        return os.path.basename(self.path)


@dataclass(eq=False, repr=False)
class Contents:
    """The packages in a bundle for one kind of driver (host or guest).

    Attributes:
        names: The first file names in the bundle, for messages.
    """

    src: str
    kind: str
    packages: Sequence[Package]
    names: Sequence[str] = ()


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as handle:
        yield from iter(lambda: handle.read(1 << 20), b"")


def sha256(path: str) -> str:
    """Returns the SHA-256 checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def check_form(path: str, checksum: str) -> str:
    """Returns the digits of a checksum in the form sha256:<digits>. Raises EngineError for any other form."""
    checksum = checksum.strip()
    if not re.match(r"sha256:[0-9a-fA-F]{64}$", checksum):
        # The value can be the URL of a checksum list or of the bundle, and such a URL can contain a secret.
        found = shown_link(checksum) if looks_signed(checksum) else shown(checksum, 100)
        raise error("%s is not a checksum" % found, path, "sha256: followed by 64 hexadecimal digits", code="bad_checksum")
    return checksum.partition(":")[2].lower()


def wrong_checksum(path: str, found: str, expected: str) -> EngineError:
    """Returns the error for a file with an unexpected checksum."""
    remedy = "Download the file again from NVIDIA's portal, because the current file is damaged or is not the expected file."
    return error("the file has the checksum sha256:%s" % found, path, "sha256:%s" % expected, remedy, "wrong_checksum")


def check(path: str, checksum: str | None) -> None:
    """Raises EngineError unless the file exists and has the given checksum, in the form sha256:<digits>."""
    if not os.path.isfile(path):
        raise error("the vGPU software package does not exist", path, "NVIDIA's zip file, or a driver package from the zip file", code="bundle_missing")
    if checksum:
        expected, found = check_form(path, checksum), sha256(path)
        if found != expected:
            raise wrong_checksum(path, found, expected)


def read(src: str, dest: str, kind: str) -> Contents:
    """Returns the packages for one kind of driver (host or guest). Raises EngineError if the file is neither a bundle nor a matching package.

    Args:
        dest: The directory to which a package can be extracted later.
    """
    name = os.path.basename(src)
    for form in FORMATS:
        if fnmatch.fnmatch(name, _PATTERNS[(kind, form)]):
            return Contents(src, kind, [Package(src, version_in(name), form)], [name])
    if not name.endswith(".zip") and not zipfile.is_zipfile(src):
        expected = "a .zip bundle, or a file that matches one of these patterns: %s" % ", ".join(_PATTERNS[(kind, form)] for form in FORMATS)
        raise error("the file is neither a .zip bundle nor a package of the %s driver" % kind, src, expected, code="wrong_package")
    try:
        with zipfile.ZipFile(src) as bundle:
            names = {info: os.path.basename(info.filename) for info in bundle.infolist() if not info.is_dir()}
    except ZIP_ERRORS as exc:
        remedy = "Download the bundle again."
        raise error("the zip file cannot be read: %s" % exc, src, "the complete zip file of NVIDIA's vGPU software package", remedy, "bad_zip") from exc
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
    """Returns the only package in the given format. Raises EngineError if the bundle contains no package in the format, or several packages.

    The auto format selects the first format in the bundle that the distribution can install.
    """
    kind, held = contents.kind, [one for one in FORMATS if any(package.form == one for package in contents.packages)]
    suitable = [one for one in held if FAMILIES.get(one, distribution.family) == distribution.family]
    if form == AUTO and held and not suitable:
        raise error(
            "the bundle contains the %s driver only as %s packages, but the distribution is %s" % (kind, " and ".join(held), distribution.name), contents.src,
            "a package in a format that this distribution supports: run%s" % "".join(", " + one for one in FAMILIES if FAMILIES[one] == distribution.family),
            "Download NVIDIA's vGPU software package for this distribution or for Linux KVM.", "wrong_format",
        )
    form = (suitable or FORMATS)[0] if form == AUTO else form
    found = [package for package in contents.packages if package.form == form]
    if len(found) != 1:
        have = ", ".join(repr(name)[1:-1] for name in ([package.name for package in found] or contents.names)[:_MOST])
        if found:
            count = "the bundle contains %d %s packages of the %s driver: %s" % (len(found), form, kind, have)
        else:
            count = "the bundle contains no %s package of the %s driver, only these files: %s" % (form, kind, have)
        remedy = "Set 'format: %s' (in roles, the %s_format variable)." % ((suitable or held)[0], VARIABLES[kind]) if held and not found else None
        raise error(count, contents.src, "exactly one file that matches %s" % _PATTERNS[(kind, form)], remedy, "package_not_found")
    if found[0].wrong:
        raise EngineError(found[0].wrong)
    return found[0]


def _wrong_member(src: str, info: zipfile.ZipInfo, name: str) -> Refusal | None:
    """Returns the reason not to extract a zip entry, or None. NVIDIA's own zip files contain only extractable entries."""
    wrong, code = None, "unsafe_zip"
    if not _NAME.match(name):
        wrong = "the file name of the package contains invalid characters"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        wrong = "the package is a symbolic link or a device instead of a regular file"
    elif info.flag_bits & 1:
        wrong = "the package is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong, code = "the package is compressed with a method (%d) that NVIDIA does not use" % info.compress_type, "bad_zip"
    elif info.file_size > max(_SMALL, info.compress_size * _RATIO):
        wrong = "the package would expand from %d MiB to %d MiB" % (info.compress_size >> 20, info.file_size >> 20)
    if not wrong:
        return None
    remedy = "Download the file again from NVIDIA's portal, because the current file is damaged or malicious."
    return Refusal("%s (%r)" % (wrong, info.filename[:200]), src, "an unmodified zip file from NVIDIA", remedy, code)


def extracted(package: Package) -> bool:
    """Returns whether the complete package is already extracted, based on its size and CRC-32 in the zip."""
    if package.member is None:
        return True
    if not os.path.isfile(package.path) or os.path.islink(package.path) or os.path.getsize(package.path) != package.size:
        return False
    crc = 0
    for block in _blocks(package.path):
        crc = zlib.crc32(block, crc)
    return crc == package.crc


def extract(src: str, package: Package) -> None:
    """Extracts a package from the zip to package.path. Directories inside the zip are ignored."""
    if package.member is None:
        return
    directory, name = os.path.split(package.path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for left in glob.glob(glob.escape(package.path) + ".*.part"):  # remove the temporary files of a killed run
        os.unlink(left)
    free = shutil.disk_usage(directory).free
    if free < package.size + MARGIN:
        found = "%d MiB are free, but the package requires %d MiB plus a reserve of %d MiB" % (free >> 20, package.size >> 20, MARGIN >> 20)
        raise error(found, directory, remedy="Free disk space, or choose another directory.", code="no_space")
    # The temporary name is unpredictable. Otherwise, another user could create a symbolic link with the same name.
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
