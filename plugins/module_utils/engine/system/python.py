# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Python interpreter that runs the engine on the host, independently of a controller."""

from __future__ import annotations

import os
import shlex
import sys

from .context import Context

SYSTEM = "/usr/bin/python3"
_TOO_OLD = "import sys; sys.exit(sys.version_info < (3, 8))"
_ANY = """#!/bin/sh
for python in %s %s /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9] /usr/libexec/platform-python; do
    if [ -x "$python" ] && "$python" -I -c '%s' 2>/dev/null; then
        exec "$python" -I "$0" "$@"
    fi
done
echo "$0: Python 3.8 or later is required, but was not found. Install python3, or rerun the playbook." >&2
exit 127
"""


def interpreter(ctx: Context, running: str = sys.executable, timeout: float = 60) -> str:
    """Returns the path to the system's Python if the version is at least 3.8. Otherwise, returns the path to the running Python.

    The running Python might belong to a virtual environment that no longer exists at the next boot.
    """
    same = os.path.realpath(SYSTEM) == os.path.realpath(running)
    return SYSTEM if same or not ctx.command([SYSTEM, "-I", "-c", _TOO_OLD], timeout).rc else running


def first_lines(interpreter: str) -> str:
    """Returns the first lines for a file that a Python interpreter runs.

    A distribution upgrade can remove a Python other than the system's. The first lines therefore start any Python that can run the file.
    """
    if interpreter == SYSTEM:
        return "#!%s -I\n" % SYSTEM
    return _ANY % (SYSTEM, shlex.quote(interpreter), _TOO_OLD)
