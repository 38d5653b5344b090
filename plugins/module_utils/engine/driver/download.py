# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file from a link: what stands against it is reported before the first write, and an interrupted download continues where it stopped.

The link is a secret and never comes here: an opener is called with the headers of a request and returns the answer, or raises LinkError.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import http.client
import os
import re
import shutil
from typing import Any, Callable, Dict, Iterator, List, Optional

from ..base.clock import Clock, until
from ..base.errors import EngineError, trouble
from . import bundle

MARGIN = 64 << 20  # what a download must leave free
_BLOCK = 1 << 20
_EXPIRED = (401, 403, 410)
# From the headers of a request to a response: what urllib returns.
Opener = Callable[[Dict[str, str]], Any]


class LinkError(Exception):
    """The server returned no file. reason: why, without the link. status: of HTTP, if it answered. again: whether another attempt may help."""

    def __init__(self, reason: str, status: Optional[int] = None, again: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.again = again


class Target:
    """Where the file goes. What was fetched of it lies beside it, under a name that its checksum is part of."""

    def __init__(self, dest: str, checksum: str) -> None:
        bundle.check_form(dest, checksum)
        self.dest = os.path.abspath(dest)
        self.checksum = checksum.partition(":")[2].lower()
        self.folder = os.path.dirname(self.dest)
        self.part = "%s.%s.part" % (self.dest, self.checksum[:12])

    @property
    def kept(self) -> int:
        """Bytes that are there of it."""
        try:
            return os.lstat(self.part).st_size
        except FileNotFoundError:
            return 0

    def there(self) -> bool:
        """Whether the file lies there, whole."""
        return os.path.isfile(self.dest) and bundle.sha256(self.dest) == self.checksum

    def discard(self) -> None:
        """Forgets what was fetched, of this file or of another one that was to lie here."""
        for path in glob.glob(glob.escape(self.dest) + ".*.part"):
            os.unlink(path)


class _Answer:
    """An answer with the file or with the rest of it. start: its first byte.

    total: bytes of the whole file, None if the server does not report them.
    """

    def __init__(self, response: Any, asked: int) -> None:
        self.response = response
        self.start = 0
        self.total: Optional[int] = None
        length = response.headers.get("Content-Length", "")
        if response.status == 206:
            match = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
            if not match or int(match.group(1)) != asked:
                raise LinkError("the server sent another part of the file than was asked for", again=True)
            self.start = asked
            self.total = None if match.group(2) == "*" else int(match.group(2))
        elif length.isdigit():
            self.total = int(length)


def size(clock: Clock, opener: Opener, target: Target, timeout: float) -> Optional[int]:
    """The file's bytes, without fetching it; None where the server does not report them. Raises EngineError for what stands against it."""
    found: List[Optional[int]] = []

    def ask() -> None:
        answer = _ask(opener, target)
        if answer is not None:
            answer.response.close()
        found.append(target.kept if answer is None else answer.total)

    _patiently(clock, target, ask, timeout)
    return found[0]


def get(clock: Clock, opener: Opener, target: Target, timeout: float) -> None:
    """Fetches the file. timeout: seconds that may pass without any progress."""
    os.makedirs(target.folder, mode=0o700, exist_ok=True)
    resumed = target.kept > 0
    if not resumed:
        target.discard()
    _patiently(clock, target, lambda: _attempt(opener, target), timeout)
    found = bundle.sha256(target.part)
    if found != target.checksum and resumed:
        # What an earlier run left may be at fault: once more from the start.
        target.discard()
        _patiently(clock, target, lambda: _attempt(opener, target), timeout)
        found = bundle.sha256(target.part)
    if found != target.checksum:
        target.discard()
        raise bundle.wrong_checksum(target.dest, found, target.checksum)
    os.rename(target.part, target.dest)


def _patiently(clock: Clock, target: Target, work: Callable[[], None], timeout: float) -> None:
    """Does the work; tries again where that may help, until no try got any further for the time."""
    last: List[LinkError] = []

    def attempt() -> Optional[str]:
        before = target.kept
        try:
            work()
            return "done"
        except LinkError as exc:
            if not exc.again:
                raise _refused(exc, target) from exc
            last[:] = [exc]
        return "further" if target.kept > before else None

    while True:
        outcome = until(clock, attempt, timeout, 1.0)
        if outcome == "done":
            return
        if outcome is None:
            raise _refused(last[0], target)


def _ask(opener: Opener, target: Target) -> Optional[_Answer]:
    """The server's answer to a request for what is missing; None when nothing is."""
    kept = target.kept
    try:
        answer = _Answer(opener({"Range": "bytes=%d-" % kept} if kept else {}), kept)
    except LinkError as exc:
        if exc.status == 416 and kept:
            return None
        raise
    if answer.total is not None:
        try:
            _check_space(target, answer.start, answer.total)
        except EngineError:
            answer.response.close()
            raise
    return answer


def _attempt(opener: Opener, target: Target) -> None:
    answer = _ask(opener, target)
    if answer is None:
        return
    try:
        number = os.open(target.part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(number, "wb") as handle:
            _alone(number, target)
            os.fchmod(number, 0o600)
            handle.truncate(answer.start)
            handle.seek(answer.start)
            for block in _blocks(answer.response):
                handle.write(block)
            handle.flush()
            os.fsync(number)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            target.discard()  # a full file system harms the whole host
        raise trouble("it can't be written: %s" % exc.strerror, device=target.part, remedy="Free space or mend the file system, then run again.") from exc
    finally:
        answer.response.close()
    if answer.total is not None and target.kept < answer.total:
        raise LinkError("the connection ended after %d of %d MiB" % (target.kept >> 20, answer.total >> 20), again=True)


def _alone(number: int, target: Target) -> None:
    """Two downloads of one file would spoil each other's."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise trouble(
            "another program is downloading it at this moment", device=target.dest, remedy="Wait for it, then run again.", code="download_running"
        ) from exc


def _blocks(response: Any) -> Iterator[bytes]:
    """The body. An error of the network ends it; that it is short is seen by its length."""
    while True:
        try:
            block = response.read(_BLOCK)
        except http.client.IncompleteRead as exc:
            yield exc.partial
            return
        except (OSError, http.client.HTTPException):
            return
        if not block:
            return
        yield block


def _check_space(target: Target, start: int, total: int) -> None:
    """The rest must fit, and the package that a zip is unpacked to, which is smaller than the zip."""
    folder = target.folder
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    needed = total - start + (total if target.dest.endswith(".zip") else 0) + MARGIN
    if free < needed:
        raise trouble(
            "%d MiB are free, the download and the package in it take %d MiB" % (free >> 20, needed >> 20),
            device=target.folder,
            remedy="Free space, or choose another folder.",
            code="no_space",
        )


def _refused(exc: LinkError, target: Target) -> EngineError:
    """The error of a link that returned no file."""
    remedy = "Look at the way from this host to the server (name, proxy, firewall); a file on the controller needs none."
    if exc.status in _EXPIRED:
        remedy = "The signed link has expired or was cut short: NVIDIA's links end after some hours. Get a new one from the licensing portal."
    elif exc.status == 404:
        remedy = "Look at the link's path; get the link anew from the licensing portal."
    if target.kept:
        remedy += " The %d MiB that were fetched are kept: the next run goes on from there." % (target.kept >> 20)
    return trouble(
        exc.reason,
        device=os.path.basename(target.dest),
        wanted="the file behind the link (which is not shown: it may be signed)",
        remedy=remedy,
        code="link_expired" if exc.status in _EXPIRED else "download_failed",
    )
