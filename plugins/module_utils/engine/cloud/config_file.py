# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads another program's configuration file with its original line endings, and replaces the file atomically. Links to the file are preserved."""

from __future__ import annotations

import os
import stat

from ..base.errors import error
from ..system import files


def read(root: str, path: str) -> str | None:
    """Returns the file's text with its original line endings, or None if the file does not exist. *path* must not contain links."""
    try:
        if not stat.S_ISREG(os.stat(root + path).st_mode):
            raise error("this is not a regular file", path, "a file", "Replace it with a regular file, then run again.", "no_file")
        with open(root + path, encoding="utf-8", newline="") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except OSError as exc:
        raise error("the file can't be read: %s" % exc.strerror, path, "a readable file", "Fix this, then run again.") from exc
    except UnicodeDecodeError as exc:
        raise error(
            "the file is not UTF-8: the byte 0x%02x at offset %d" % (exc.object[exc.start], exc.start), path, "text in UTF-8",
            "Nothing was written. Save the file as UTF-8, then run again.", "bad_encoding") from exc


def replace(root: str, path: str, old: str | None, new: str) -> None:
    """Writes the new text if the file still contains the old text, and verifies the written file."""
    if read(root, path) != old:
        raise error(
            "another program changed the file at this moment", path, remedy="Nothing was written to the file. Run again.", code="changed_meanwhile")
    files.write_atomic(root, path, new)
    if read(root, path) != new:
        raise error("the file does not have the text that was written", path, remedy="Stop the program that changes it.", code="not_kept")
