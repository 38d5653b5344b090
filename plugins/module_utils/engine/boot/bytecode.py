# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled form of the engine's copy on a host: without it each boot and each task compile ten thousand lines anew.

Python checks it against the source each time it loads it (a "checked hash" pyc, PEP 552), so that an old one is never
used: after an update of Python or an edit by hand it is passed over, and made anew by the next run.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from ..system import files

_FOLDER = "__pycache__"


def _path(source):
    """Where this Python looks for the compiled form of a source: __pycache__/<name>.cpython-311.pyc beside it."""
    folder, name = os.path.split(source)
    return "%s/%s/%s.%s.pyc" % (folder, _FOLDER, name[: -len(".py")], sys.implementation.cache_tag)


def present(root, folders):
    """Paths of all compiled files in those folders, of whatever Python and source."""
    found = []
    for folder in folders:
        found += files.names(root, folder, ".pyc") if os.path.basename(folder) == _FOLDER else []
    return found


def _fresh(root, source):
    """Whether the compiled form is that of the source: the magic number, the flags 3 (hash, to be checked), the hash (PEP 552)."""
    try:
        with open(root + _path(source), "rb") as handle:
            header = handle.read(16)
        with open(root + source, "rb") as handle:
            text = handle.read()
    except OSError:
        return False
    return header == importlib.util.MAGIC_NUMBER + b"\x03\0\0\0" + importlib.util.source_hash(text)


def complete(root, sources, folders):
    """Whether all of the sources' compiled forms are there, and no others."""
    return sorted(map(_path, sources)) == sorted(present(root, folders)) and all(_fresh(root, source) for source in sources)


def make(root, sources, folders):
    """Compiles what is not fresh and removes what has no source. What a Python can't write is no harm: it compiles then."""
    wanted = [_path(source) for source in sources]
    for path in present(root, folders):
        if path not in wanted:
            files.remove(root, path)
    for source in sources:
        if not _fresh(root, source):
            _compile(root, source)
    for folder in sorted({os.path.dirname(path) for path in wanted}):
        files.sync(root, folder + "/")


def _compile(root, source):
    """One file, on the disk before it gets its name: Python would trip over half of it."""
    import py_compile  # here: it is needed once on a host

    folder, name = os.path.split(root + _path(source))
    temporary = "%s/%s%s" % (folder, files.TEMPORARY, name)
    py_compile.compile(root + source, temporary, source, True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    os.chmod(temporary, 0o644)
    number = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
    os.rename(temporary, "%s/%s" % (folder, name))
