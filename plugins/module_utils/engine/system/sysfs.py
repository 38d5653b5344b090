# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to the kernel's files below /sys, /proc and /dev.

Each error becomes a sentence with path, value and remedy, and no write error is
lost: sysfs reports through write(2), procfs attributes of NVIDIA's driver through
close(2), so both are checked.
"""

from __future__ import annotations

import errno
import os

from ..base.errors import EngineError, Trouble

# What an errno from the kernel's PCI, mdev and VFIO files means to an operator.
_MEANING = {
    errno.ENOENT: "the kernel has no such file, or its driver does not take this request",
    errno.ENODEV: "the device is gone or is going away",
    errno.ENOSPC: "no room is left on this GPU for that type",
    errno.EINVAL: "the driver does not accept this value",
    errno.EBUSY: "the device is in use",
    errno.EEXIST: "it exists already",
    errno.EIO: "the driver failed; 'dmesg' has its own words",
    errno.ENOMEM: "the firmware left no memory or bus numbers for it: turn on SR-IOV, ARI and above-4G decoding",
    errno.ERANGE: "the number is larger than the GPU allows",
    errno.EPERM: "the driver refuses: a VM uses the device, or the caller is not root",
    errno.EACCES: "the caller is not root",
    errno.ENXIO: "the GPU does not answer",
    errno.ETIMEDOUT: "the driver did not answer in time",
}


class SysfsError(EngineError):
    """A read or write that the kernel refused. number is the errno."""

    def __init__(self, path, number, value=None):
        self.path = path
        self.number = number
        self.value = value
        name = errno.errorcode.get(number, str(number))
        did = "reading it" if value is None else "writing %r to it" % value
        super().__init__(
            Trouble(
                "%s failed with %s: %s"
                % (did, name, _MEANING.get(number, os.strerror(number))),
                device=path,
                code="kernel_" + name.lower(),
            )
        )


def _text(content):
    return content.decode("utf-8", "replace").rstrip("\n")


class Sysfs:
    """Files of the running kernel, below an injectable root."""

    def __init__(self, root="/"):
        self.root = root.rstrip("/") or ""

    def real(self, path):
        """The path with the root before it."""
        return self.root + path

    def _bytes(self, path, size=-1):
        """As read_bytes, with the plain OSError. Bare calls: a host of 256 VFs has thousands of these files."""
        number = os.open(self.root + path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if size >= 0:
                return os.read(number, size)
            parts = []
            while True:
                part = os.read(number, 1 << 16)
                if not part:
                    return b"".join(parts)
                parts.append(part)
        finally:
            os.close(number)

    def read_bytes(self, path, size=-1):
        """A file's content, or its first bytes; SysfsError when it can't be read."""
        try:
            return self._bytes(path, size)
        except OSError as exc:
            raise SysfsError(path, exc.errno) from exc

    def read(self, path):
        """A file's text without the newline at its end."""
        return _text(self.read_bytes(path))

    def read_or(self, path, default=None):
        """As read, with a default for a file that isn't there or has nothing to say."""
        try:
            return _text(self._bytes(path))
        except OSError:
            return default

    def read_int(self, path, default=None):
        """A number of at most 64 bits in any base that Python's int knows, or the default: the kernel has no others."""
        text = self.read_or(path)
        try:
            found = int(text, 0)
        except (TypeError, ValueError):
            return default
        return found if -(1 << 63) <= found < 1 << 64 else default

    def write(self, path, value):
        """Writes in one write(2); an error of write or close raises SysfsError."""
        try:
            number = os.open(self.real(path), os.O_WRONLY)
            try:
                os.write(number, value.encode())
            except OSError:
                os.close(number)
                raise
            os.close(number)
        except OSError as exc:
            raise SysfsError(path, exc.errno, value) from exc

    def exists(self, path):
        """Whether the path is there."""
        return os.access(self.root + path, os.F_OK)

    def list(self, path):
        """Names in a folder, sorted; none when it isn't there."""
        try:
            return sorted(os.listdir(self.real(path)))
        except OSError:
            return []

    def link(self, path):
        """Last part of a link's target (a driver's or group's name), or None."""
        try:
            return os.readlink(self.root + path).rpartition("/")[2]
        except OSError:
            return None

    def target(self, path):
        """A link's target as it stands there, or None."""
        try:
            return os.readlink(self.real(path))
        except OSError:
            return None
