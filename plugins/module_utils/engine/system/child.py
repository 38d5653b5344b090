# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs system calls that might never return, in a child process that is abandoned after a deadline."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import time
from typing import Any, Callable, Iterable


def rows(work: Callable[[], Iterable[Any]], timeout: float) -> tuple[list[Any], bool]:
    """Returns (the rows that ``work`` yields, whether ``work`` finished within ``timeout`` seconds).

    Rows are passed as JSON. After an OSError, the last row is {"errno": number}. The child closes all inherited descriptors, so a child that hangs
    keeps neither the host's lock nor the pipes of an ssh session open. The child only makes system calls, which are safe after a fork while other
    threads run.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _run(work, writer)
        finally:
            os._exit(0)
    with os.fdopen(writer, "wb"):
        pass
    with os.fdopen(reader, "rb", buffering=0) as answer:
        text, ended = _read(answer, time.monotonic() + timeout)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0 if ended else os.WNOHANG)
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")], ended


def _run(work: Callable[[], Iterable[Any]], writer: int) -> None:
    """Performs the work in a child process, and writes the rows to a pipe."""
    os.setsid()
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number != writer:
            with contextlib.suppress(OSError):
                os.close(number)
    with os.fdopen(writer, "wb", buffering=0) as answer:
        try:
            for row in work():
                answer.write(json.dumps(row).encode() + b"\n")
        except OSError as exc:
            answer.write(json.dumps({"errno": exc.errno or errno.EIO}).encode() + b"\n")


def _read(answer: Any, deadline: float) -> tuple[bytes, bool]:
    """Returns the child's output until the child exits or the deadline passes, and whether the child exited."""
    found = b""
    with selectors.DefaultSelector() as selector:
        selector.register(answer, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            block = answer.read(1 << 16)
            if not block:
                return found, True
            found += block
    return found, False
