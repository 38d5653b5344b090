# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accesses kernel files in /sys, /proc, and /dev for all other modules.

Each error message contains the path, the value, and the meaning.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, Callable, Iterable, Iterator, overload

from ..base.errors import EngineError, Refusal
from . import child

PCI = "/sys/bus/pci/devices"
PCI_DRIVERS = "/sys/bus/pci/drivers"
# The default time limit for one write, in seconds.
PATIENCE = 60
# The meaning of each errno from the kernel's PCI, mdev, and VFIO files.
_MEANING = {
    errno.ENOENT: "the file does not exist, or the device's driver does not accept the request",
    errno.ENODEV: "the device no longer exists or is being removed",
    errno.ENOSPC: "the GPU has no capacity left for the vGPU type",
    errno.EINVAL: "the driver does not accept this value",
    errno.EBUSY: "the device is in use",
    errno.EEXIST: "the device or ID already exists",
    errno.EIO: "the driver failed, and dmesg may show the cause",
    errno.ENOMEM: "the firmware reserved too little memory or too few bus numbers for the device: SR-IOV, ARI, or above-4G decoding might be disabled",
    errno.ERANGE: "the number is larger than the GPU allows",
    errno.EPERM: "the driver rejected the request, because a VM uses the device or the caller is not root",
    errno.EACCES: "the caller is not root",
    errno.ENXIO: "the GPU does not respond",
    errno.ETIMEDOUT: "the kernel is waiting for a process to release the device, or a process exited without releasing the device, which requires a reboot",
}


class SysfsError(EngineError):
    """The error for a read or write that the kernel refused. ``number`` is the errno."""

    def __init__(self, path: str, number: int, value: str | None = None) -> None:
        self.number = number
        name = errno.errorcode.get(number, str(number))
        did = "reading the file" if value is None else "writing %r" % value
        meaning = _MEANING.get(number, os.strerror(number))
        super().__init__(Refusal("%s failed with %s: %s" % (did, name, meaning), path, code="kernel_" + name.lower()))


def content(path: str, size: int = -1) -> bytes:
    """Returns a file's content, or the first ``size`` bytes.

    A host with 256 VFs has thousands of sysfs files, and Python's open() takes four times as long as the system calls used here.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(number, size) if size >= 0 else b"".join(iter(lambda: os.read(number, 1 << 16), b""))
    finally:
        os.close(number)


def _text(found: bytes) -> str:
    return found.decode("utf-8", "replace").rstrip("\n")


class Sysfs:
    """Access to the running kernel's files below ``root``, which tests can replace."""

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")

    def _bytes(self, path: str, size: int = -1) -> bytes:
        return content(self.root + path, size)

    def read_bytes(self, path: str, size: int = -1) -> bytes:
        """Returns a file's content, or the first ``size`` bytes. Raises SysfsError if the file cannot be read."""
        try:
            return self._bytes(path, size)
        except OSError as exc:
            raise SysfsError(path, exc.errno or 0) from exc

    def read(self, path: str) -> str:
        """Returns a file's text without the trailing newline."""
        return _text(self.read_bytes(path))

    @overload
    def read_or(self, path: str, default: str) -> str:
        ...

    @overload
    def read_or(self, path: str, default: None = None) -> str | None:
        ...

    def read_or(self, path: str, default: str | None = None) -> str | None:
        """Returns a file's text like ``read``, or the default if the file is missing or unreadable."""
        try:
            return _text(self._bytes(path))
        except OSError:
            return default

    @overload
    def read_int(self, path: str, default: int) -> int:
        ...

    @overload
    def read_int(self, path: str, default: None = None) -> int | None:
        ...

    def read_int(self, path: str, default: int | None = None) -> int | None:
        """Returns a number of at most 64 bits (the kernel's maximum) in any base that Python's int accepts, or the default."""
        try:
            found = int(self.read_or(path, ""), 0)
        except ValueError:
            return default
        return found if -(1 << 63) <= found < 1 << 64 else default

    def apart(self, work: Callable[[], Iterable[Any]], timeout: float) -> tuple[list[Any], bool]:
        """Runs ``work`` in a child process, like child.rows."""
        return child.rows(work, timeout)

    def write(self, path: str, value: str, timeout: float = PATIENCE) -> None:
        """Writes the value with one write(2). Raises SysfsError if write fails (as in sysfs) or close fails (as in NVIDIA's procfs files).

        The kernel can block the write until a process closes the device. After ``timeout`` seconds, the error is ETIMEDOUT, but the write continues.
        """

        def work() -> Iterator[int]:
            number = os.open(self.root + path, os.O_WRONLY)
            try:
                os.write(number, value.encode())
            except OSError:
                os.close(number)
                raise
            os.close(number)
            yield 0

        rows, ended = self.apart(work, timeout)
        if not ended:
            raise SysfsError(path, errno.ETIMEDOUT, value)
        if rows != [0]:  # an empty result means that the child was killed
            raise SysfsError(path, rows[0]["errno"] if rows else errno.EINTR, value)

    def exists(self, path: str) -> bool:
        """Returns whether the path exists."""
        return os.access(self.root + path, os.F_OK)

    def names(self, path: str) -> list[str]:
        """Returns the names in a directory. Raises OSError if the directory is unreadable."""
        return os.listdir(self.root + path)

    def list(self, path: str) -> list[str]:
        """Returns the sorted names in a directory, or an empty list if the directory does not exist."""
        try:
            return sorted(os.listdir(self.root + path))
        except OSError:
            return []

    def leads(self, path: str) -> str:
        """Returns a symbolic link's target. Raises OSError if the link is unreadable."""
        return os.readlink(self.root + path)

    def node(self, path: str) -> tuple[int, int] | None:
        """Returns the device number of the character device at the path, or None for other files. Raises OSError if stat fails."""
        found = os.stat(self.root + path)
        return (os.major(found.st_rdev), os.minor(found.st_rdev)) if stat.S_ISCHR(found.st_mode) else None

    def link(self, path: str) -> str | None:
        """Returns the last component of a link's target (such as a driver or group name), or None."""
        target = self.target(path)
        return None if target is None else target.rpartition("/")[2]

    def target(self, path: str) -> str | None:
        """Returns a symbolic link's unresolved target, or None."""
        try:
            return os.readlink(self.root + path)
        except OSError:
            return None
