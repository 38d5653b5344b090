# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Running other programs: output is kept for the error message, root only where it is needed."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from typing import Any, Sequence

from .progress import TwinError, say

# Root in a user namespace: this user is its root, and the ids of /etc/subuid are the others.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--map-auto"]

# Before a program that mounts or starts others: what it mounts and starts goes with it.
PRIVATE = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]


@functools.lru_cache(maxsize=None)
def _succeeds(*argv: str) -> bool:
    if not shutil.which(argv[0]):
        return False
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def may_sudo() -> bool:
    """Whether a rule lets this user sudo without a password. One given before does not count: the next command may have to ask again."""
    return _succeeds("sudo", "-k", "-n", "true")


@functools.lru_cache(maxsize=None)
def can_sudo() -> bool:
    """Whether sudo works: without a password, or with one that the user is asked for now, if there is a terminal."""
    if _succeeds("sudo", "-n", "true"):
        return True
    if not shutil.which("sudo") or not _has_terminal():
        return False
    say("sudo is required to install missing packages or to build images:")
    return subprocess.run(["sudo", "-v"], check=False).returncode == 0


def _has_terminal() -> bool:
    """Whether sudo could ask for a password; it does not read stdin."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def in_namespace() -> bool:
    """Whether `as_root` uses a user namespace: for a user who is not root and may not sudo without a password."""
    return os.geteuid() != 0 and not may_sudo() and _succeeds(*NAMESPACE, "true")


def as_root(argv: Sequence[str]) -> list[str]:
    """The command for building images, as root: really, by sudo, or in a user namespace."""
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
    """USER:GROUP that `as_root` must chown a file to so that it is this user's."""
    return "0:0" if in_namespace() else f"{os.getuid()}:{os.getgid()}"


def run(argv: Sequence[str], **kwargs: Any) -> str:
    """Run to the end; return stdout. A failure becomes a TwinError with the last lines of output."""
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
    """Let a program clean up that a terminal's Ctrl-C has reached, too; end it where the signal was for this process alone."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    for send, seconds in ((None, 5), (process.terminate, 10), (process.kill, 5)):
        with contextlib.suppress(subprocess.TimeoutExpired, PermissionError):
            if send:
                send()
            process.communicate(timeout=seconds)
            break
    for number, handler in former.items():
        signal.signal(number, handler)
