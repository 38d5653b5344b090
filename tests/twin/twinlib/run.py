# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs other programs. Error messages contain the programs' output, and root is used only if required."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from typing import Any, Sequence

from .progress import TwinError, say

# Prefix for root in a user namespace: this user becomes root, and /etc/subuid provides the other IDs.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--map-auto"]

# Prefix for a program that mounts file systems or starts processes: when the program exits, its mounts and processes are removed.
PRIVATE = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]


@functools.lru_cache(maxsize=None)
def _succeeds(*argv: str) -> bool:
    if not shutil.which(argv[0]):
        return False
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def may_sudo() -> bool:
    """Return whether sudo never requires a password from this user. A cached password does not count, because it can expire before the next command."""
    return _succeeds("sudo", "-k", "-n", "true")


@functools.lru_cache(maxsize=None)
def can_sudo() -> bool:
    """Return whether sudo works. If a terminal exists, sudo asks the user for the password if required."""
    if _succeeds("sudo", "-n", "true"):
        return True
    if not shutil.which("sudo") or not _has_terminal():
        return False
    say("sudo is required to install missing packages or to build images:")
    return subprocess.run(["sudo", "-v"], check=False).returncode == 0


def _has_terminal() -> bool:
    """Return whether sudo can ask for a password. sudo reads the terminal instead of stdin."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def in_namespace() -> bool:
    """Return whether `as_root` uses a user namespace: if the user is neither root nor can use sudo without a password."""
    return os.geteuid() != 0 and not may_sudo() and _succeeds(*NAMESPACE, "true")


def as_root(argv: Sequence[str]) -> list[str]:
    """Return a command that runs as root: unchanged, through sudo, or in a user namespace."""
    if os.geteuid() == 0:
        return list(argv)
    if in_namespace():
        return [*NAMESPACE, *argv]
    if can_sudo():
        return ["sudo", *argv]
    raise TwinError(
        f"Building images requires root: this user is not root and cannot use sudo, and '{' '.join(NAMESPACE)} true' fails. Run this command as root, "
        "or enable user namespaces: install the uidmap package, and add a line for this user to /etc/subuid and /etc/subgid."
    )


def owner() -> str:
    """Return the USER:GROUP for a chown through `as_root` that gives a file to this user."""
    return "0:0" if in_namespace() else f"{os.getuid()}:{os.getgid()}"


def run(argv: Sequence[str], **kwargs: Any) -> str:
    """Run a program and return its output. Raises TwinError with the last lines of output if the program fails."""
    with subprocess.Popen(
        [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **kwargs
    ) as process:
        try:
            output = process.communicate()[0]
        except KeyboardInterrupt:
            _end(process)
            raise
    if process.returncode:
        tail = "\n".join(output.strip().splitlines()[-25:])
        raise TwinError(f"{' '.join(map(str, argv[:4]))} … failed with {process.returncode}:\n{tail}")
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a program that received the terminal's Ctrl-C and cleans up. If only this process received a signal, stop the program."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    for send, seconds in ((None, 5), (process.terminate, 10), (process.kill, 5)):
        with contextlib.suppress(subprocess.TimeoutExpired, PermissionError):
            if send:
                send()
            process.communicate(timeout=seconds)
            break
    for number, handler in former.items():
        signal.signal(number, handler)
