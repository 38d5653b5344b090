# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another program's configuration file: read with all its bytes, replaced whole, links to it kept."""

from __future__ import annotations

import os
import stat

from ..base.errors import error
from ..system import files


def read(root: str, path: str) -> str | None:
    """The file's text with its own line ends, or None when there is none. path: without links."""
    try:
        if not stat.S_ISREG(os.stat(root + path).st_mode):
            raise error("it is no regular file", path, "a file", "Check what it is, put that right, then run again.", "no_file")
        with open(root + path, encoding="utf-8", newline="") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except OSError as exc:
        raise error("it can't be read: %s" % exc.strerror, path, "to read it", "Put that right, then run again.") from exc
    except UnicodeDecodeError as exc:
        raise error(
            "it is not UTF-8: the byte 0x%02x at offset %d" % (exc.object[exc.start], exc.start), path, "text in UTF-8",
            "Nothing was written. Save it as UTF-8, then run again.", "bad_encoding") from exc


def replace(root: str, path: str, old: str | None, new: str) -> None:
    """Writes the new text if the file still is the old one, and verifies it."""
    if read(root, path) != old:
        raise error(
            "it was changed by somebody else at this moment", path, remedy="Nothing was written to it. Run again.", code="changed_meanwhile")
    files.write_atomic(root, path, new)
    if read(root, path) != new:
        raise error("it is not what was written", path, remedy="Another program changes it at the same time: end that.", code="not_kept")
