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
            raise error(
                "the path is not a regular file", path, "a regular file",
                "Replace the object at this path with a regular file. Then rerun the playbook.", "no_file")
        with open(root + path, encoding="utf-8", newline="") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except OSError as exc:
        raise error("the file cannot be read: %s" % exc.strerror, path, "a readable file", "Fix the cause of the error. Then rerun the playbook.") from exc
    except UnicodeDecodeError as exc:
        raise error(
            "the file is not encoded in UTF-8: invalid byte 0x%02x at offset %d" % (exc.object[exc.start], exc.start), path, "UTF-8 text",
            "Nothing was written. Save the file in UTF-8. Then rerun the playbook.", "bad_encoding") from exc


def replace(root: str, path: str, old: str | None, new: str) -> None:
    """Writes the new text if the file still contains the old text, and verifies the written file."""
    if read(root, path) != old:
        raise error(
            "another program changed the file during this run", path, remedy="Nothing was written to the file. Rerun the playbook.", code="changed_meanwhile")
    files.write_atomic(root, path, new)
    if read(root, path) != new:
        raise error(
            "the file does not contain the text that was written", path,
            remedy="Stop the program that changes the file. Then rerun the playbook.", code="not_kept")
