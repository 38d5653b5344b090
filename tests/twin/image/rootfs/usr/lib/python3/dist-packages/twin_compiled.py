# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Keeps the bytecode of modules that Python imports from zip archives. Every Python of a twin loads this (twin_compiled.pth).

Ansible sends each task's module as a zip archive with all that the module imports. Python keeps no bytecode for archives, so each task compiles
the same two hundred files again, which is half of a module's time on an emulated machine. If anything here fails, Python compiles the source.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport

FOLDER = "/run/twin-compiled"  # only root writes there; gone with the next boot
_compile = zipimport._compile_source


def _compile_once(pathname, source):
    """As zipimport's own: the code of a module's source."""
    path = "%s/%s-%d-%s" % (FOLDER, sys.implementation.cache_tag, len(source), _imp.source_hash(0, source).hex())
    try:
        with open(path, "rb") as file:
            code = marshal.load(file)
        _imp._fix_co_filename(code, pathname)  # each task has an archive of its own
        return code
    except (OSError, EOFError, TypeError, ValueError):
        code = _compile(pathname, source)
    try:
        os.makedirs(FOLDER, 0o755, exist_ok=True)
        with open("%s.%d" % (path, os.getpid()), "wb") as file:
            marshal.dump(code, file)
        os.replace(file.name, path)  # another task may read it at any time
    except OSError:
        return code
    return code


zipimport._compile_source = _compile_once
