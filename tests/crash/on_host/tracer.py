# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a function in a child process and kills the child before its n-th system call that writes.

A seccomp filter stops the child and its descendants at system calls that change files, and ptrace counts these calls. The child's code is not
modified, because the kernel stops the child. The module requires root, x86-64, and only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

TRACEME, PEEKUSER, CONT, SETOPTIONS = 0, 3, 7, 0x4200
EVENT_SECCOMP = 7
# Trace fork, vfork, and clone, report seccomp stops, and kill all traced processes if the tracer exits.
OPTIONS = 0x2 | 0x4 | 0x8 | 0x80 | 0x100000
WALL = 0x40000000
RSI, RDI, ORIG_RAX = 13 * 8, 14 * 8, 15 * 8
REGISTERS = (RDI, RSI, 12 * 8, 7 * 8)

# System calls that write to an open file: {number: name}. The file descriptor is the first argument.
THROUGH_FILE = {
    1: "write", 18: "pwrite64", 20: "writev", 40: "sendfile", 74: "fsync", 75: "fdatasync",
    77: "ftruncate", 91: "fchmod", 93: "fchown", 326: "copy_file_range",
}
# System calls with a path: {number: (name, index of the path's argument)}.
BY_PATH = {
    76: ("truncate", 0), 82: ("rename", 1), 83: ("mkdir", 0), 84: ("rmdir", 0), 85: ("creat", 0), 86: ("link", 1), 87: ("unlink", 0),
    88: ("symlink", 1), 90: ("chmod", 0), 92: ("chown", 0), 94: ("lchown", 0), 258: ("mkdirat", 1), 260: ("fchownat", 1),
    263: ("unlinkat", 1), 264: ("renameat", 3), 265: ("linkat", 3), 266: ("symlinkat", 2), 268: ("fchmodat", 1), 316: ("renameat2", 3),
}
# Loading or unloading a kernel module also changes the host.
MODULES = {175: "init_module", 176: "delete_module", 313: "finit_module"}
OPEN, OPENAT = 2, 257
CREATES = os.O_CREAT | os.O_TRUNC


class SockFprog(ctypes.Structure):
    """The C structure struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _program() -> bytes:
    """Return the seccomp filter. It stops at the system calls in this module's tables, and at open and openat if they create or truncate a file."""
    numbers = [*THROUGH_FILE, *BY_PATH, *MODULES]
    rows = [(0x20, 0, 0, 0)]
    length = 1 + len(numbers) + 2 + 1 + 6
    allow, trace = length - 2, length - 1
    for number in numbers:
        rows.append((0x15, trace - len(rows) - 1, 0, number))
    rows.append((0x15, 2, 0, OPENAT))
    rows.append((0x15, 3, 0, OPEN))
    rows.append((0x05, 0, 0, allow - len(rows) - 1))
    for offset in (32, 24):  # the flags are the third argument of openat and the second argument of open
        rows.append((0x20, 0, 0, offset))
        rows.append((0x45, trace - len(rows) - 1, allow - len(rows) - 1, CREATES))
    rows.append((0x06, 0, 0, 0x7FFF0000))
    rows.append((0x06, 0, 0, 0x7FF00000))
    assert len(rows) == length, (len(rows), length)
    return b"".join(struct.pack("HBBI", *row) for row in rows)


def _be_traced() -> None:
    LIBC.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    program = _program()
    argument = SockFprog(len(program) // 8, program)
    if LIBC.prctl(22, 2, ctypes.byref(argument), 0, 0):
        os._exit(99)


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    return LIBC.ptrace(request, pid, address, data)


def _text_at(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return memory.read(min(4096 - address % 4096, 512)).split(b"\0")[0].decode("utf-8", "replace")


def _point(pid: int) -> str:
    """Return the pending change of the stopped process, or "" if the call does not change the host (pipes, terminals, /dev/null)."""
    number = _ptrace(PEEKUSER, pid, ORIG_RAX)
    if number in MODULES:
        return MODULES[number]
    if number in THROUGH_FILE:
        fd = _ptrace(PEEKUSER, pid, RDI)
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            return ""
        return "" if not target.startswith("/") or target.startswith(("/dev/null", "/dev/pts", OUTPUT)) else f"{THROUGH_FILE[number]} {target}"
    name, which = BY_PATH.get(number) or ("open", 0 if number == OPEN else 1)
    path = _text_at(pid, _ptrace(PEEKUSER, pid, REGISTERS[which]))
    if path.startswith(("/dev/null", "/dev/tty")) or (name.startswith("mkdir") and os.path.isdir(path)):
        return ""
    return f"{name} {path}"


# Prefix of the files with the child's output. Writes to these files do not count as changes of the host.
OUTPUT = "/run/crash-output-"


class Outcome:
    """The result of a child. points: the changes of the child and its descendants in order. killed: the change before which the child was killed."""

    def __init__(self) -> None:
        self.status = 0
        self.points: list[str] = []
        self.killed = ""


def run(function: Callable[[], int], kill_at: int = 0, whole_tree: bool = True) -> Outcome:
    """Run `function` in a child and kill the child before its change number `kill_at` (from 1; 0: never).

    With `whole_tree`, also kill all descendants of the child, as at the end of a session. Otherwise, kill only the child, and let its descendants
    finish.
    """
    outcome = Outcome()
    main = os.fork()
    if main == 0:
        status = 98
        try:
            _be_traced()
            status = function()
        finally:
            os._exit(status)
    os.waitpid(main, WALL)
    _ptrace(SETOPTIONS, main, 0, OPTIONS)
    _ptrace(CONT, main)
    known = {main}
    while known:
        pid, status = os.waitpid(-1, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            known.discard(pid)
            if pid == main:
                outcome.status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            continue
        number, event, new = os.WSTOPSIG(status), status >> 16, pid not in known
        known.add(pid)
        if event == EVENT_SECCOMP and not outcome.killed:
            point = _point(pid)
            if point:
                outcome.points.append(point)
                if len(outcome.points) == kill_at:
                    outcome.killed = point
                    for one in known if whole_tree else {main}:
                        os.kill(one, signal.SIGKILL)
                    if whole_tree or pid == main:
                        continue
        passed_on = 0 if event or number == signal.SIGTRAP or (new and number == signal.SIGSTOP) else number
        _ptrace(CONT, pid, 0, passed_on)
    return outcome
