# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ordinary files: read, and replaced whole so that a crash leaves the old or the new one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

from ..base.errors import trouble

_LABEL = "security.selinux"
TEMPORARY = ".vgpu-"


def read_text(root, path):
    """A file's text, or None when there is none."""
    try:
        with open(root + path, encoding="utf-8", errors="surrogateescape") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise trouble("it can't be read: %s" % exc.strerror, device=path) from exc


def read_bytes(root, path):
    """A file's content, or None when there is none, or a folder in its place. For the many small ones: text takes Python four times as long."""
    try:
        number = os.open(root + path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(lambda: os.read(number, 1 << 16), b""))
        finally:
            os.close(number)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as exc:
        raise trouble("it can't be read: %s" % exc.strerror, device=path) from exc


def names(root, folder, ending=""):
    """Paths of a folder's files with that ending, sorted; none when it isn't there."""
    try:
        return [
            "%s/%s" % (folder, name)
            for name in sorted(os.listdir(root + folder))
            if name.endswith(ending)
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def write_atomic(root, path, content, mode=0o644, lasting=True):
    """Writes text or bytes beside the file, syncs, renames, syncs the folder. Keeps an old file's owner, mode and SELinux label.

    lasting: False where the caller brings many files to the disk at once, afterwards (bring_to_disk).
    """
    folder = os.path.dirname(root + path)
    temporary = None
    try:
        _make_folders(folder, lasting)
        number, temporary = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
        try:
            _write_all(number, content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
            if os.path.exists(root + path):
                old = os.stat(root + path)
                os.fchown(number, old.st_uid, old.st_gid)
                os.fchmod(number, old.st_mode & 0o7777)
                _keep_label(root + path, number)
            else:
                os.fchmod(number, mode)
            if lasting:
                os.fsync(number)
        finally:
            os.close(number)
        os.rename(temporary, root + path)
        temporary = None
        if lasting:
            _sync_folder(folder)
    except OSError as exc:
        raise trouble(
            "it can't be written: %s" % exc.strerror,
            device=path,
            remedy="The old file is untouched. Free space or mend the file system, then run again.",
        ) from exc
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _write_all(number, content):
    """write(2) until all is written: a full disk may take a part."""
    while content:
        content = content[os.write(number, content):]


def _keep_label(path, number):
    """Gives the new file the old one's SELinux label. A file that was not there has its folder's, as the kernel gives it."""
    try:
        label = os.getxattr(path, _LABEL)
    except OSError as exc:
        if exc.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return
        raise
    os.setxattr(number, _LABEL, label)


def sync(root, path):
    """Brings what another program wrote there, or removed, to the disk: the file if there is one, and the names in its folder and in the one above."""
    try:
        number = os.open(root + path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        pass
    else:
        try:
            os.fsync(number)
        finally:
            os.close(number)
    folder = os.path.dirname(root + path)
    for one in (folder, os.path.dirname(folder)):
        if os.path.isdir(one):
            _sync_folder(one)


def _sync_folder(folder):
    """Makes a folder's entries last."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def bring_to_disk(ctx, folders, device, timeout=300):
    """Brings the file systems of those folders to the disk: many files at once, and what other programs wrote. device: for the message.

    Not all file systems of the host, as os.sync() does: one that hangs must not make us hang.
    """
    answer = ctx.command(["sync", "-f"] + [ctx.root + folder for folder in folders], timeout)
    if answer.rc:
        raise trouble(
            "what was written could not be brought to the disk: %s" % (answer.tail() or "rc %d" % answer.rc),
            device=device,
            remedy="Look into dmesg for errors of the disk, then run again.",
            code="not_synced",
        )


def _make_folders(folder, lasting):
    """Folders that are missing, each made to last."""
    missing = []
    while folder and not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for one in reversed(missing):
        os.makedirs(one, exist_ok=True)
        if lasting:
            _sync_folder(os.path.dirname(one))


def sweep(root, folders):
    """Removes what a killed write_atomic left there. Only for who holds the host's lock: another's may be in use."""
    for folder in folders:
        for path in names(root, folder):
            if os.path.basename(path).startswith(TEMPORARY) and os.path.isfile(root + path):
                remove(root, path)


def remove(root, path):
    """Removes a file for good; one that is gone already is fine."""
    try:
        os.unlink(root + path)
        _sync_folder(os.path.dirname(root + path))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise trouble("it can't be removed: %s" % exc.strerror, device=path) from exc


def remove_tree(root, path):
    """Removes a folder and all that is in it for good; one that is gone already is fine."""
    try:
        shutil.rmtree(root + path)
        _sync_folder(os.path.dirname(root + path))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise trouble("it can't be removed: %s" % exc.strerror, device=path) from exc


def remove_empty(root, path):
    """Removes a folder for good if nothing is in it."""
    try:
        os.rmdir(root + path)
        _sync_folder(os.path.dirname(root + path))
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise trouble("it can't be removed: %s" % exc.strerror, device=path) from exc
