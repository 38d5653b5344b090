# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates files that contain shell assignments in order, with the host's sh in a clean environment."""

from __future__ import annotations

from typing import Dict, List, Sequence

from ..base.errors import error
from . import files
from .context import Context

Variables = Dict[str, str]
TIMEOUT = 20
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
# As in grub-mkconfig, a failed command ends the script. The files' output is discarded. The shell prints errors from a file before the file's mark.
_SCRIPT = r"""
set -ae
for __vgpu_file; do
  . "$__vgpu_file" >/dev/null
  printf '\0#begin\0'
  /usr/bin/env -0
  printf '#end\0'
done
"""
_OWN = ("__vgpu_file", "_", "PWD", "OLDPWD", "SHLVL", "PATH")


def variables(ctx: Context, texts: Sequence[str], paths: Sequence[str], timeout: float = TIMEOUT) -> List[Variables]:
    """Returns the variables after each text, which one shell sources in order. Raises EngineError if a text fails.

    ``paths`` are for messages. sh reads the texts from files that only root can read, because all users can see arguments in ps, and a kernel command
    line can contain a password.
    """
    for text, path in zip(texts, paths):
        if "\0" in text:
            raise _unreadable(path, "the file contains a NUL byte")
    with files.handed(texts) as names:
        answer = ctx.command(["/usr/bin/env", "-i", "LC_ALL=C", _PATH, "sh", "-c", _SCRIPT, "sh", *names], timeout)
    found: List[Variables] = []
    noise = ""
    inside = False
    for part in answer.out.split("\0"):
        if part == "#begin":
            found.append({})
            inside = True
        elif part == "#end":
            inside, noise = False, ""
        elif inside:
            name, dummy, value = part.partition("=")
            name = name.rpartition("\n")[2]  # the dynamic loader can print an error (about /etc/ld.so.preload) before the first variable
            if name not in _OWN:
                found[-1][name] = value
        else:
            noise += part
    if answer.rc or len(found) != len(texts):
        number = min(len(found), len(paths) - 1)
        said = noise.replace(names[number], paths[number]).strip().replace("\n", " | ")
        raise _unreadable(paths[number], said or "sh exited with rc %d" % answer.rc)
    return found


def _unreadable(path: str, found: str) -> Exception:
    remedy = "Correct the file ('sh -e %s' shows the error), then rerun. Nothing was changed." % path
    return error("sh cannot source the file: %s" % found, path, "shell assignments, as for GRUB's own tools", remedy, "grub_defaults_broken")
