# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds work that a reboot would interrupt: a run of this collection, and installations of packages, drivers and boot files."""

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
# These programs write files that the next boot reads. Some hold no lock, or their file system (btrfs) reports the lock under another device.
_PROGRAMS = (
    *("dpkg", "apt", "apt-get", "aptitude", "dnf", "dnf-3", "dnf5", "yum", "microdnf", "zypper", "nvidia-installer", "nvidia-uninstall", "dkms"),
    *("update-initramfs", "mkinitramfs", "mkinitrd", "dracut", "kernel-install", "update-grub", "grub-mkconfig", "grub2-mkconfig"),
    *("grub-install", "grub2-install", "grubby", "depmod"),
)
_PACKAGE = re.compile(r"NVIDIA-.*\.run\Z")
_INTERPRETER = re.compile(r"(?:(?:ba|da)?sh|perl|(?:platform-)?python[0-9.]*)\Z")
_COMMAND = re.compile(r"-[a-z]*c\Z")  # the next argument is a command, not a file
# 1: POSIX  ADVISORY  WRITE 812 08:02:131 0 EOF
_HELD = re.compile(r"^[0-9]+: \S+ +\S+ +WRITE +(-?[0-9]+) ([0-9a-f]+):([0-9a-f]+):([0-9]+) ", re.MULTILINE)


def find(ctx: Context) -> list[str]:
    """The work in progress, as clauses; empty if the host may be rebooted."""
    locks = ctx.sysfs.read_or("/proc/locks")
    unknown = "/proc/locks can't be read" if locks is None else open_files.inside(ctx.sysfs)
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
    """The kernel's name of a file in its list of locks."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


def _words(ctx: Context, pid: int) -> list[str]:
    return [word for word in ctx.sysfs.read_or("/proc/%d/cmdline" % pid, "").split("\0") if word]


def _named(ctx: Context, pid: int) -> str:
    # The kernel lists the process that took the lock. Its child processes may still hold the lock after it has ended.
    return "pid %d (%s)" % (pid, command_line(_words(ctx, pid)) or "this process has ended, but one of its child processes has not")


def _installs(ctx: Context, pid: int) -> bool:
    words = _words(ctx, pid)
    if not words:  # a kernel thread, or a process that has ended
        return False
    names = [os.path.basename(words[0])]
    if _INTERPRETER.match(names[0]):
        names.append(os.path.basename(_script(words[1:])))
    return any(name in _PROGRAMS or _PACKAGE.match(name) for name in names)


def _script(words: Sequence[str]) -> str:
    """The file that an interpreter runs, after options of the file's first line (bash --norc, python3 -sP); empty if there is none."""
    file = next((word for word in words if not word.startswith("-") or _COMMAND.match(word)), "")
    return "" if file.startswith("-") else file
