# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and atomically replaces regular files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from typing import Callable, Container, Iterable, Iterator

from ..base.errors import error
from . import sysfs
from .context import Context

_LABEL = "security.selinux"
TEMPORARY = ".vgpu-"
# The maximum number of symbolic links in one path.
_HOPS = 40


def read_text(root: str, path: str) -> str | None:
    """Returns a file's text, or None if the file does not exist."""
    try:
        with open(root + path, encoding="utf-8", errors="surrogateescape") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise error("the file cannot be read: %s" % exc.strerror, device=path) from exc


def read_bytes(root: str, path: str) -> bytes | None:
    """Returns a file's content, or None if the file is missing or is a directory.

    Use bytes for many small files, because reading text takes four times as long in Python.
    """
    try:
        return sysfs.content(root + path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as exc:
        raise error("the file cannot be read: %s" % exc.strerror, device=path) from exc


def names(root: str, directory: str, ending: str = "") -> list[str]:
    """Returns the sorted paths of files with this suffix in a directory, or an empty list if the directory is missing."""
    try:
        return ["%s/%s" % (directory, name) for name in sorted(os.listdir(root + directory)) if name.endswith(ending)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise
    except OSError as exc:
        raise error("the directory cannot be listed: %s" % exc.strerror, device=directory) from exc


def real_path(root: str, path: str) -> str:
    """Returns the path with all symbolic links resolved, relative to the host's root directory."""
    todo, hops = path.split("/")[::-1], 0
    done: list[str] = []
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
        if part in ("", ".", ".."):
            continue
        done.append(part)
        try:
            target = os.readlink(root + "/" + "/".join(done))
        except OSError:
            continue  # this path component is not a symbolic link
        hops += 1
        if hops > _HOPS:
            raise error("the symbolic links in the path form a loop", path, "a file", "Correct the links, then rerun.", "bad_link")
        done = [] if target.startswith("/") else done[:-1]
        todo += target.split("/")[::-1]
    return "/" + "/".join(done)


def _written_path(root: str, path: str) -> str:
    """Returns the path to write: the target of a link, if the target is a file. Other users' links are not followed."""
    if not os.path.islink(root + path) or os.lstat(root + path).st_uid not in (0, os.geteuid()):
        return path
    target = real_path(root, path)
    return target if os.path.isfile(root + target) else path


def write_atomic(root: str, path: str, content: str | bytes, mode: int = 0o644, lasting: bool = True) -> None:
    """Replaces a file atomically, and syncs the file and the directory. Links, owner, mode, and SELinux label are kept.

    If ``lasting`` is False, the caller must sync the file.
    """
    temporary: str | None = None
    try:
        target = root + _written_path(root, path)
        directory = os.path.dirname(target)
        _make_directories(directory, lasting)
        number, temporary = tempfile.mkstemp(dir=directory, prefix=TEMPORARY)
        try:
            left = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
            while left:  # a full disk can accept only part of the content
                left = left[os.write(number, left):]
            if os.path.exists(target):
                old = os.stat(target)
                os.fchown(number, old.st_uid, old.st_gid)
                os.fchmod(number, old.st_mode & 0o7777)
                _keep_label(target, number)
            else:
                os.fchmod(number, mode)
            if lasting:
                os.fsync(number)
            os.rename(temporary, target)
            temporary = None
            if lasting:
                os.fsync(number)  # on FAT, fsync on the file (not the directory) writes the directory entry with size and position
                _sync(directory)
        finally:
            os.close(number)
    except OSError as exc:
        remedy = "The old file is unchanged. Free disk space or repair the file system, then rerun."
        raise error("the file cannot be written: %s" % exc.strerror, device=path, remedy=remedy) from exc
    finally:
        if temporary:
            with contextlib.suppress(OSError):  # the next run removes the temporary file
                os.unlink(temporary)


@contextlib.contextmanager
def handed(texts: Iterable[str]) -> Iterator[list[str]]:
    """Writes texts to temporary files that only the current user can read, and yields the paths while a program runs.

    Program arguments would be visible to all users in ps output.
    """
    with contextlib.ExitStack() as stack:
        paths: list[str] = []
        try:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix=TEMPORARY))
            for number, text in enumerate(texts):
                paths.append("%s/%d" % (directory, number))
                with open(paths[-1], "w", encoding="utf-8", errors="surrogateescape", newline="") as handle:
                    handle.write(text)
        except OSError as exc:
            found = "the temporary input file for a program cannot be written: %s" % exc.strerror
            raise error(found, "the directory for temporary files", remedy="Free disk space in this directory, then rerun.", code="no_space") from exc
        yield paths


def _keep_label(path: str, number: int) -> None:
    """Copies the old file's SELinux label to the new file. Without an old file, the new file inherits the directory's label.

    A file system without labels (FAT, NFS) reports the mount's label for every file, and does not accept labels.
    """
    try:
        os.setxattr(number, _LABEL, os.getxattr(path, _LABEL))
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def sync(root: str, path: str) -> None:
    """Syncs a path that another program wrote or removed: the file (if it exists), the directory, and the parent directory."""
    with contextlib.suppress(FileNotFoundError):
        _sync(root + path, os.O_NOFOLLOW)
    directory = os.path.dirname(root + path)
    for one in (directory, os.path.dirname(directory)):
        if os.path.isdir(one):
            _sync(one)


def _sync(path: str, flag: int = os.O_DIRECTORY) -> None:
    """Syncs a directory or, with another os.open flag, a file."""
    number = os.open(path, os.O_RDONLY | flag)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_to_disk(ctx: Context, directories: Iterable[str], device: str, timeout: float = 300) -> None:
    """Syncs the file systems that contain the directories. os.sync() would sync all file systems, and hang if one file system hangs.

    ``device`` is for the error message.
    """
    answer = ctx.command(["sync", "-f"] + [ctx.root + directory for directory in directories], timeout)
    if answer.rc:
        found = "the written files could not be synced to disk: %s" % (answer.tail() or "rc %d" % answer.rc)
        raise error(found, device, remedy="Check dmesg for disk errors, then rerun.", code="not_synced")


def _make_directories(directory: str, lasting: bool) -> None:
    """Creates missing directories. ``lasting`` also syncs each directory."""
    if directory and not os.path.isdir(directory):
        above = os.path.dirname(directory)
        _make_directories(above, lasting)
        os.makedirs(directory, exist_ok=True)
        if lasting:
            _sync(above)


def sweep(root: str, directories: Iterable[str], before: float | None = None) -> None:
    """Removes temporary files left by a killed write_atomic in the directories, and in the directories to which links in these directories lead.

    The caller must hold the host's lock, because another run might be using a temporary file.
    ``before`` limits the removal to files last written before this time.
    """
    found = {path: os.path.islink(root + path) for directory in directories for path in names(root, directory)}
    beyond = {os.path.dirname(real_path(root, path)) for path, is_link in found.items() if is_link and os.path.isfile(root + path)}
    for path in sorted({*found, *(path for directory in beyond for path in names(root, directory))}):
        if os.path.basename(path).startswith(TEMPORARY) and os.path.isfile(root + path):
            if before is None or os.lstat(root + path).st_mtime < before:
                remove(root, path)


def remove(root: str, path: str) -> None:
    """Removes a file and syncs the directory. A missing file is not an error."""
    _remove(root, path, os.unlink, (errno.ENOENT,))


def link(root: str, path: str, target: str) -> None:
    """Creates a symbolic link and missing directories, and syncs the link and directories."""
    try:
        _make_directories(os.path.dirname(root + path), True)
        os.symlink(target, root + path)
        _sync(os.path.dirname(root + path))
    except OSError as exc:
        raise error("the link to %s cannot be created: %s" % (target, exc.strerror), device=path) from exc


def rename(root: str, path: str, new: str) -> None:
    """Renames a directory within a file system, and syncs the rename. An empty directory with the new name is replaced."""
    try:
        os.rename(root + path, root + new)
        for one in sorted({os.path.dirname(root + path), os.path.dirname(root + new)}):
            _sync(one)
    except OSError as exc:
        remedy = "No data was lost. If the directory is a mount point, mount the file system at the new path, then rerun."
        raise error("the directory cannot be renamed to %s: %s" % (new, exc.strerror), device=path, remedy=remedy) from exc


def remove_tree(root: str, path: str) -> None:
    """Removes a directory and its contents, and syncs the parent directory. A missing directory is not an error."""
    _remove(root, path, shutil.rmtree, (errno.ENOENT,))


def remove_empty(root: str, path: str) -> None:
    """Removes an empty directory, and syncs the parent directory."""
    _remove(root, path, os.rmdir, (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST))


def _remove(root: str, path: str, how: Callable[[str], object], fine: Container[int]) -> None:
    """Removes a path with a function from os, and syncs the directory. ``fine`` contains the errno values to ignore."""
    try:
        how(root + path)
        _sync(os.path.dirname(root + path))
    except OSError as exc:
        if exc.errno not in fine:
            raise error("the path cannot be removed: %s" % exc.strerror, device=path) from exc
