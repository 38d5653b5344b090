# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits each host to one writer at a time with flock(2).

Child programs also hold the lock, so a child that outlives a killed run blocks other runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TextIO

from ..base.clock import until
from ..base.errors import EngineError, command_line, error
from ..system import command, files, mdevctl
from ..system.context import Context
from . import install_mark, migration, paths

PATH = "/run/nvidia-vgpu.lock"
# The directories in which a killed run can leave partially written files.
DIRECTORIES = (
    *(paths.STATE, paths.MODPROBE[0], paths.GRUB_DIRECTORY, paths.DRIVERCTL),
    *map(os.path.dirname, (paths.STORE, paths.GRUB, paths.UNIT, paths.COMMAND, paths.MANUAL, paths.KERNEL_CMDLINE)),
    *(directory + "/entries" for directory in paths.LOADERS),
    *("/boot/grub", "/boot/grub2"),
)


class HostLock:
    """The host's lock, which waits up to ``timeout`` seconds for another writer.

    Waiting runs display ``name``, because a program that Python reads from a pipe has no descriptive command line.
    """

    def __init__(self, ctx: Context, timeout: float = 60, path: str = PATH, name: str = "") -> None:
        self.ctx, self.timeout, self.path, self.name = ctx, timeout, ctx.root + path, name

    def _open(self) -> TextIO:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        try:
            # O_NOFOLLOW prevents writing to a link's target. O_NONBLOCK prevents blocking on a pipe.
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except PermissionError:
            raise
        except OSError as exc:
            raise _no_lock("the lock file is a link" if exc.errno == errno.ELOOP else "the lock file cannot be opened: %s" % exc.strerror) from exc
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise _no_lock("the lock file is not a regular file")
        return os.fdopen(number, "r+", encoding="utf-8", errors="replace")

    def _take(self) -> bool:
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False

    def _holders(self) -> str:
        """Returns the processes that hold the host's lock, as reported by the kernel.

        The PID in the lock file is not sufficient, because another process may now have the same PID.
        """
        sysfs = self.ctx.sysfs
        mine = os.fstat(self.handle.fileno())
        lock = "%02x:%02x:%d " % (os.major(mine.st_dev), os.minor(mine.st_dev), mine.st_ino)
        self.handle.seek(0)
        written, dummy, name = self.handle.read().strip().partition(" ")
        found = []
        for pid in filter(str.isdigit, sysfs.list("/proc")):
            for number in sysfs.list("/proc/%s/fd" % pid):
                if sysfs.target("/proc/%s/fd/%s" % (pid, number)) != self.path:
                    continue
                locks = sysfs.read_or("/proc/%s/fdinfo/%s" % (pid, number), "")
                if "FLOCK" in locks and lock in locks:
                    words = sysfs.read_or("/proc/%s/cmdline" % pid, "").split("\0")
                    shown = command_line(words, 200) or sysfs.read_or("/proc/%s/comm" % pid, "") or "?"
                    found.append("pid %s (%s%s)" % (pid, "%s: " % name if name and pid == written else "", shown))
                    break
        return ", ".join(found) or "an unknown process (not in /proc)"

    def __enter__(self) -> HostLock:
        self.handle = self._open()
        if not until(self.ctx.clock, self._take, self.timeout):
            holders = self._holders()
            self.handle.close()
            found = "this host has been locked by %s for more than %d s" % (holders, self.timeout)
            raise error(found, PATH, remedy="Wait until this process has finished changing the host, then rerun.", code="locked")
        with contextlib.suppress(OSError):  # on a full file system, messages identify the holder without a name
            os.ftruncate(self.handle.fileno(), 0)
            os.pwrite(self.handle.fileno(), ("%d %s" % (os.getpid(), self.name)).strip().encode() + b"\n", 0)
        command.INHERITED.add(self.handle.fileno())
        return self

    def __exit__(self, *dummy: object) -> None:
        command.INHERITED.discard(self.handle.fileno())
        self.handle.close()


def _no_lock(found: str) -> EngineError:
    return error(found, PATH, "a regular file that the first writer creates", "Find which program created the file, remove the file, then rerun.", "bad_lock")


def clean_leftovers(root: str) -> None:
    """Removes the collection's partially written files, and the mark of an installer that made no changes.

    No program reads partially written files, so the removal does not count as a change. Files that cannot be removed or listed (on a read-only file
    system or a damaged EFI partition) remain and are not an error, because the restore at boot must not fail.
    """
    definitions: list[str] = []
    with contextlib.suppress(EngineError, OSError):
        definitions = files.names(root, mdevctl.DIRECTORY)
    for directory in [*(migration.current(root, one) for one in DIRECTORIES), *definitions]:
        with contextlib.suppress(EngineError, OSError):
            files.sweep(root, [directory])
    with contextlib.suppress(EngineError, OSError):
        install_mark.drop_untouched(root)
