# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds work that a reboot would interrupt: collection runs, package and driver installations, and boot file updates."""

from __future__ import annotations

import os
import re
from typing import Sequence

from ..base.errors import command_line
from ..state import lock
from ..system import open_files
from ..system.context import Context

_LOCKS = (
    *(lock.PATH, "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/cache/apt/archives/lock"),
    *("/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock"),
)
# Programs that write files for the next boot. The engine searches for running programs as well as for locks, because some programs hold no lock,
# and because the kernel reports locks on btrfs with another device number.
_PROGRAMS = (
    *("dpkg", "apt", "apt-get", "aptitude", "dnf", "dnf-3", "dnf5", "yum", "microdnf", "zypper", "nvidia-installer", "nvidia-uninstall", "dkms"),
    *("update-initramfs", "mkinitramfs", "mkinitrd", "dracut", "kernel-install", "update-grub", "grub-mkconfig", "grub2-mkconfig"),
    *("grub-install", "grub2-install", "grubby", "depmod"),
)
_PACKAGE = re.compile(r"NVIDIA-.*\.run\Z")
_INTERPRETER = re.compile(r"(?:(?:ba|da)?sh|perl|(?:platform-)?python[0-9.]*)\Z")
_COMMAND = re.compile(r"-[a-z]*c\Z")  # matches options such as -c, whose argument is a command instead of a file
# Matches a line of /proc/locks, such as "1: POSIX  ADVISORY  WRITE 812 08:02:131 0 EOF".
_HELD = re.compile(r"^[0-9]+: \S+ +\S+ +WRITE +(-?[0-9]+) ([0-9a-f]+):([0-9a-f]+):([0-9]+) ", re.MULTILINE)


def find(ctx: Context) -> list[str]:
    """Returns clauses that describe the work in progress, or an empty list if the host can be rebooted."""
    locks = ctx.sysfs.read_or("/proc/locks")
    unknown = "/proc/locks cannot be read" if locks is None else open_files.inside(ctx.sysfs)
    if unknown is None and "1" not in ctx.sysfs.list("/proc"):
        unknown = "/proc hides the processes of other users (hidepid)"
    held = {(int(major, 16), int(minor, 16), int(inode)): int(pid) for pid, major, minor, inode in _HELD.findall(locks or "")}
    found: dict[int, str] = {}
    for path in _LOCKS:
        identity = _identity(ctx.root + path)
        pid = held.get(identity) if identity else None
        if pid is not None and pid != os.getpid():
            found.setdefault(pid, "%s holds %s" % (_named(ctx, pid), path))
    for pid in sorted(int(name) for name in ctx.sysfs.list("/proc") if name.isdigit()):
        if _installs(ctx, pid):
            found.setdefault(pid, "%s is running" % _named(ctx, pid))
    return [*found.values(), *(["it is unknown whether an installation is running: %s" % unknown] if unknown else ())]


def _identity(path: str) -> tuple[int, int, int] | None:
    """Returns the device and inode numbers that identify a file in /proc/locks, or None if the file does not exist."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


def _words(ctx: Context, pid: int) -> list[str]:
    return [word for word in ctx.sysfs.read_or("/proc/%d/cmdline" % pid, "").split("\0") if word]


def _named(ctx: Context, pid: int) -> str:
    # The kernel lists the process that took the lock. After that process exits, its child processes can still hold the lock.
    return "pid %d (%s)" % (pid, command_line(_words(ctx, pid)) or "this process has exited, but one of its child processes is still running")


def _installs(ctx: Context, pid: int) -> bool:
    words = _words(ctx, pid)
    if not words:  # the process is a kernel thread or has exited
        return False
    names = [os.path.basename(words[0])]
    if _INTERPRETER.match(names[0]):
        names.append(os.path.basename(_script(words[1:])))
    return any(name in _PROGRAMS or _PACKAGE.match(name) for name in names)


def _script(words: Sequence[str]) -> str:
    """Returns the file that an interpreter runs, or an empty string if the interpreter runs no file. Options before the file name (bash --norc) are skipped."""
    file = next((word for word in words if not word.startswith("-") or _COMMAND.match(word)), "")
    return "" if file.startswith("-") else file
