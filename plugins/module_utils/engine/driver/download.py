# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads a file from a URL. Errors are reported before the first write, and interrupted downloads are resumed.

The URL is a secret that this module never receives. The caller passes an opener, a function that accepts request headers and returns the response or
raises LinkError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import http.client
import os
import re
import shutil
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, TypeVar

from ..base.clock import Clock, until
from ..base.errors import EngineError, error
from ..system import files
from . import bundle

_BLOCK = 1 << 20
_EXPIRED = (401, 403, 410)
# An Opener accepts the headers of an HTTP request and returns a urllib response.
Opener = Callable[[Dict[str, str]], Any]
_T = TypeVar("_T")


@dataclass(eq=False, repr=False)
class LinkError(Exception):
    """The exception for a request that did not return the file.

    Attributes:
        reason: The cause, without the URL.
        status: The HTTP status, or None without a response.
        again: Whether another attempt can succeed.
        misplaced: Whether the server sent a different part of the file than requested.
    """

    reason: str
    status: int | None = None
    again: bool = False
    misplaced: bool = False


class Target:
    """The target path of a download. A partial download is stored in the same directory, and its file name includes the checksum."""

    def __init__(self, dest: str, checksum: str) -> None:
        self.checksum = bundle.check_form(dest, checksum)
        self.dest = os.path.abspath(dest)
        self.directory = os.path.dirname(self.dest)
        self.part = "%s.%s.part" % (self.dest, self.checksum[:12])

    @property
    def kept(self) -> int:
        """The number of bytes that are already downloaded."""
        try:
            return os.lstat(self.part).st_size
        except FileNotFoundError:
            return 0

    def there(self) -> bool:
        """Returns whether the complete file exists and has the expected checksum."""
        return os.path.isfile(self.dest) and bundle.sha256(self.dest) == self.checksum

    def discard(self) -> None:
        """Removes partial downloads of the file, and of earlier files with the same path."""
        for path in glob.glob(glob.escape(self.dest) + ".*.part"):
            os.unlink(path)


class _Answer:
    """A response that contains the whole file or only the missing part.

    Attributes:
        start: The file position of the response's first byte.
        total: The total file size in bytes, or None if the server does not report the size.
    """

    def __init__(self, response: Any, asked: int) -> None:
        self.response = response
        self.start = 0
        length = response.headers.get("Content-Length", "")
        if response.status == 206:
            match = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
            if not match or int(match.group(1)) != asked:
                response.close()
                raise LinkError("the server sent a different part of the file than requested", misplaced=True)
            self.start, length = asked, match.group(2)
        self.total = int(length) if length.isdigit() else None


def size(clock: Clock, opener: Opener, target: Target, timeout: float) -> int | None:
    """Returns the file size in bytes without a download, or None if the server does not report the size.

    Raises EngineError if the file cannot be downloaded.
    """

    def ask() -> int | None:
        answer = _ask(opener, target)
        if answer is None:
            return target.kept
        with contextlib.closing(answer.response):
            _check_space(target, answer)
        return answer.total

    return _patiently(clock, target, ask, timeout)


def get(clock: Clock, opener: Opener, target: Target, timeout: float) -> None:
    """Downloads the file to its target path, and verifies its checksum.

    Args:
        timeout: The maximum number of seconds without progress.
    """
    os.makedirs(target.directory, mode=0o700, exist_ok=True)
    # A partial download from an earlier run can be damaged. If the checksum does not match, the download is repeated once.
    attempts = 2 if target.kept else 1
    if attempts == 1:
        target.discard()
    for dummy in range(attempts):
        _patiently(clock, target, lambda: _attempt(opener, target), timeout)
        found = bundle.sha256(target.part)
        if found == target.checksum:
            os.rename(target.part, target.dest)
            files.sync("", target.dest)
            return
        target.discard()
    raise bundle.wrong_checksum(target.dest, found, target.checksum)


def _patiently(clock: Clock, target: Target, work: Callable[[], _T], timeout: float) -> _T:
    """Returns the result of *work*, which is called until the call succeeds.

    Raises EngineError if another attempt cannot succeed, or if the download makes no progress for *timeout* seconds.
    """
    answers: list[_T] = []
    last: list[LinkError] = []

    def got_further() -> bool:
        before = target.kept
        try:
            answers.append(work())
        except LinkError as exc:
            if not exc.again:
                raise _refused(exc, target) from exc
            last[:] = [exc]
        return bool(answers) or target.kept > before

    while not answers:
        if not until(clock, got_further, timeout, 1.0):
            raise _refused(last[0], target)
    return answers[0]


def _ask(opener: Opener, target: Target) -> _Answer | None:
    """Requests the missing part of the file, or the whole file if the server cannot send only the missing part.

    Returns None if the downloaded file is already complete.
    """
    kept = target.kept
    try:
        return _Answer(opener({"Range": "bytes=%d-" % kept} if kept else {}), kept)
    except LinkError as exc:
        if not kept or not (exc.misplaced or exc.status == 416):
            raise
    return None if bundle.sha256(target.part) == target.checksum else _Answer(opener({}), 0)


def _attempt(opener: Opener, target: Target) -> None:
    answer = _ask(opener, target)
    if answer is None:
        return
    try:
        _check_space(target, answer)
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
            target.discard()  # remove the partial download, because a full file system affects the whole host
        remedy = "Free disk space or repair the file system. Then rerun the playbook."
        raise error("the file cannot be written: %s" % exc.strerror, target.part, remedy=remedy) from exc
    finally:
        answer.response.close()
    if answer.total is not None and target.kept < answer.total:
        raise LinkError("the connection was closed after %d of %d MiB" % (target.kept >> 20, answer.total >> 20), again=True)


def _alone(number: int, target: Target) -> None:
    """Locks the partial download, because two simultaneous downloads of a file would corrupt the data."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        remedy = "Wait for the other download to finish. Then rerun the playbook."
        raise error("another program is downloading the file", target.dest, remedy=remedy, code="download_running") from exc


def _blocks(response: Any) -> Iterator[bytes]:
    """Yields the body of the response. Raises LinkError if the connection is interrupted.

    A truncated body is detected only if the server reports the body's length.
    """
    try:
        yield from iter(lambda: response.read(_BLOCK), b"")
        return
    except http.client.IncompleteRead as exc:
        yield exc.partial
    except (OSError, http.client.HTTPException):
        pass
    raise LinkError("the connection was interrupted", again=True)


def _check_space(target: Target, answer: _Answer) -> None:
    """Raises EngineError unless the disk has enough space for the rest of the download and, if the file is a zip, for the extracted package.

    The extracted package is smaller than the zip.
    """
    if answer.total is None:
        return
    directory = target.directory
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    free = shutil.disk_usage(directory).free
    needed = answer.total - answer.start + (answer.total if target.dest.endswith(".zip") else 0) + bundle.MARGIN
    if free < needed:
        found = "%d MiB are free, but the download and the extraction require %d MiB" % (free >> 20, needed >> 20)
        raise error(found, target.directory, remedy="Free disk space, or choose another directory.", code="no_space")


def _refused(exc: LinkError, target: Target) -> EngineError:
    """Returns the error for a URL that did not return the file."""
    remedy = "Check the connection from this host to the server (name resolution, proxy, and firewall), or use a file on the controller."
    if exc.status in _EXPIRED:
        remedy = "Get a new URL from the licensing portal. The signed URL is incomplete or has expired, because NVIDIA's URLs expire after a few hours."
    elif exc.status == 404:
        remedy = "Correct the path in the URL, or get a new URL from the licensing portal."
    if target.kept:
        remedy += " The downloaded %d MiB are kept, and the next run resumes the download." % (target.kept >> 20)
    code = "link_expired" if exc.status in _EXPIRED else "download_failed"
    return error(exc.reason, os.path.basename(target.dest), "the file from the URL, which is not shown because the URL can contain a secret", remedy, code)
