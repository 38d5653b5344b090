# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Caches the bytecode of modules that Python imports from zip archives. Every Python process on a twin imports this module (twin_compiled.pth).

Ansible sends each task's module and its imports as a zip archive. Python does not cache bytecode for archives, so each task would compile the same
two hundred files, which takes half of a module's run time on an emulated machine. If the cache fails, Python compiles the source.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport

FOLDER = "/run/twin-compiled"  # only root can write there, and a reboot deletes the content
_compile = zipimport._compile_source


def _compile_once(pathname, source):
    """Replace zipimport's function: return the code of a module's source."""
    path = "%s/%s-%d-%s" % (FOLDER, sys.implementation.cache_tag, len(source), _imp.source_hash(0, source).hex())
    try:
        with open(path, "rb") as file:
            code = marshal.load(file)
        _imp._fix_co_filename(code, pathname)  # each task has a separate archive, whose path belongs in the code
        return code
    except (OSError, EOFError, TypeError, ValueError):
        code = _compile(pathname, source)
    try:
        os.makedirs(FOLDER, 0o755, exist_ok=True)
        with open("%s.%d" % (path, os.getpid()), "wb") as file:
            marshal.dump(code, file)
        os.replace(file.name, path)  # another task can read the file at any time
    except OSError:
        return code
    return code


zipimport._compile_source = _compile_once
