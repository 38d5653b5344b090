# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the engine's modules from the host's own copy, compiled, where that is what came with this module (size and CRC-32).

Ansible sends a module as a zip of sources, which Python compiles anew for each task: most of the time of a task that
changes nothing. A host whose vGPUs come back at boot has the same sources, and their compiled form, on its disk.
What differs, or is not there, comes from the zip: the copy never decides what runs.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import stat
import sys
import zipfile
import zlib

from . import engine

# As engine.host_copy writes it; that module would have to be compiled for this constant (a test holds both the same).
COPY = "/usr/local/lib/nvidia-vgpu/nvidia_vgpu_engine"
_ENDING = ".zip/"


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs exactly the bytes that were compared, and writes nothing to the host."""

    def __init__(self, name, path, source):
        super().__init__(name, path)
        self._source = source

    def get_data(self, path):
        """The source as it was compared; a compiled form from the disk, which Python holds against that source."""
        return self._source if path == self.path else super().get_data(path)

    def set_data(self, path, data, _mode=0o666):
        """Python would keep what it had to compile: never, a module that looks changes nothing."""

    def path_stats(self, path):
        """Its size; no time, so that only a compiled form that is held against the source itself counts."""
        return {"mtime": 0, "size": len(self._source)}


class _Finder:
    """Finds those of the package's modules that the copy has byte for byte; each is compared when it is imported."""

    def __init__(self, sent):
        self._sent = sent

    def find_spec(self, name, path=None, target=None):
        """Part of Python's import."""
        if name not in self._sent:
            return None
        file, size, crc = self._sent[name]
        try:
            with open(file, "rb") as handle:
                source = handle.read()
        except OSError:
            return None
        if len(source) != size or zlib.crc32(source) != crc:
            return None
        return importlib.util.spec_from_file_location(name, file, loader=_Loader(name, file, source))


def modules_sent(archive, inside, package, copy):
    """By full name, of the modules in the archive's folder *inside*: where the copy would have it, its size, its CRC-32.

    A package's own __init__.py comes from the archive, always: Python looks for its modules beside it.
    """
    found = {}
    with zipfile.ZipFile(archive) as payload:
        members = [one for one in payload.infolist() if one.filename.startswith(inside + "/") and one.filename.endswith(".py")]
    for one in members:
        relative = one.filename[len(inside) + 1:]
        if os.path.basename(relative) != "__init__.py":
            name = "%s.%s" % (package, relative[: -len(".py")].replace("/", "."))
            found[name] = ("%s/%s" % (copy, relative), one.file_size, one.CRC)
    return found


def _ours_alone(folder):
    """Whether a folder is there and only root (or who runs this) can put files into it: a compiled form is held against its source
    by a hash that it carries itself, and Debian lets the group staff write beside the folder."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022


def prefer_copy(package, folder, copy=COPY):
    """Lets the package's modules come from the copy, where *folder* (the package's place) lies in a zip; returns whether they may."""
    archive, ending, inside = folder.partition(_ENDING)
    if not ending or not _ours_alone(copy):
        return False
    try:
        sent = modules_sent(archive + _ENDING[:-1], inside, package, copy)
    except (OSError, zipfile.BadZipFile):
        return False  # the zip can be imported from all the same
    sys.meta_path.insert(0, _Finder(sent))
    return True


prefer_copy(engine.__name__, engine.__path__[0])
