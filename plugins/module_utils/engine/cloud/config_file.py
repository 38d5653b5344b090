# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another program's configuration file: read with all its bytes, replaced whole, links to it kept."""

from __future__ import annotations

import os
import stat
from typing import List, Optional

from ..base.errors import trouble
from ..system import files

_HOPS = 40


def real_path(root: str, path: str) -> str:
    """The path with all links followed, as the host below root sees it."""
    todo, hops = _parts(path), 0
    done: List[str] = []
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = "/" + "/".join(done + [part])
        target = _target(root + here)
        if target is None:
            done.append(part)
            continue
        hops += 1
        if hops > _HOPS:
            remedy = "Put the link right, then run again."
            raise trouble("it is a link that leads to itself", device=path, wanted="a file", remedy=remedy, code="bad_link")
        if target.startswith("/"):
            done = []
        todo += _parts(target)
    return "/" + "/".join(done)


def _parts(path: str) -> List[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _target(path: str) -> Optional[str]:
    try:
        return os.readlink(path)
    except OSError:
        return None


def read(root: str, path: str) -> Optional[str]:
    """The file's text with its own line ends, or None when there is none. path: without links."""
    try:
        if not stat.S_ISREG(os.stat(root + path).st_mode):
            remedy = "Look what it is, put that right, then run again."
            raise trouble("it is no ordinary file", device=path, wanted="a file", remedy=remedy, code="no_file")
        with open(root + path, "rb") as handle:
            content = handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except OSError as exc:
        raise trouble("it can't be read: %s" % exc.strerror, device=path, wanted="to read it", remedy="Put that right, then run again.") from exc
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise trouble(
            "it is not UTF-8: the byte 0x%02x at offset %d" % (content[exc.start], exc.start),
            device=path,
            wanted="text in UTF-8",
            remedy="Nothing was written. Save it as UTF-8, then run again.",
            code="bad_encoding",
        ) from exc


def replace(root: str, path: str, old: Optional[str], new: str) -> None:
    """Writes the new text if the file still is the old one, and verifies it."""
    if read(root, path) != old:
        remedy = "Nothing was written to it. Run again."
        raise trouble("it was changed by somebody else at this moment", device=path, remedy=remedy, code="changed_meanwhile")
    files.write_atomic(root, path, new)
    if read(root, path) != new:
        remedy = "Another program changes it at the same time: end that."
        raise trouble("it is not what was written", device=path, remedy=remedy, code="not_kept")
