# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Programs that the twin requires on the user's machine. Missing programs are installed with apt."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Sequence

from .progress import TwinError, say
from .run import as_root, can_sudo, may_sudo, run

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "makeself": "makeself",
    "dpkg-deb": "dpkg",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "unxz": "xz-utils",
}
# Additional programs and files for machines with UEFI.
UEFI_PROGRAMS = {"mkfs.vfat": "dosfstools", "mcopy": "mtools"}
FIRMWARE = {"code": Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), "variables": Path("/usr/share/OVMF/OVMF_VARS_4M.fd")}  # package ovmf
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def extend_path() -> None:
    """Add the sbin directories to PATH. On Debian, users do not have them in PATH, but mke2fs and sfdisk are there."""
    have = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join(have + [p for p in SBIN if p not in have])


def missing(uefi: bool = False) -> list[str]:
    """Return the Debian packages of missing programs and of missing firmware."""
    programs = {**PROGRAMS, **(UEFI_PROGRAMS if uefi else {})}
    if os.geteuid() != 0 and not may_sudo():
        programs["newuidmap"] = "uidmap"  # images are built in a user namespace
    packages = {package for program, package in programs.items() if not shutil.which(program)}
    return sorted(packages | ({"ovmf"} if uefi and not all(path.is_file() for path in FIRMWARE.values()) else set()))


def check(others: Sequence[str] = ()) -> None:
    """Raise TwinError if `ensure` could not install missing packages (including `others`), or if images could not be built."""
    packages = sorted({*missing(), *others})
    if packages:
        _apt_get(packages)
    else:
        as_root(["true"])


def ensure(uefi: bool = False) -> None:
    """Install only the missing packages."""
    packages = missing(uefi)
    if not packages:
        return
    apt_get = _apt_get(packages)
    say(f"installing on this machine: {' '.join(packages)}")
    run([*apt_get, "update"])
    run([*apt_get, "-y", "--no-install-recommends", "install", *packages])
    left = missing(uefi)
    if left:
        raise TwinError(f"These packages are still missing after apt-get install: {' '.join(left)}")


def _apt_get(packages: list[str]) -> list[str]:
    """Return the apt-get command with the required privileges. Raises TwinError if no such command exists."""
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        raise TwinError(f"These packages are missing, and this machine has no apt-get: {names}. Install packages that provide the same programs.")
    if os.geteuid() != 0 and not can_sudo():
        raise TwinError(f"These packages are missing, and this user is not root and cannot use sudo: {names}. As root, run: apt-get install {names}")
    return [*([] if os.geteuid() == 0 else ["sudo"]), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
