# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Python that runs the engine on the host without a controller."""

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
echo "$0: Python 3.8 or newer is required, but /usr/bin has none. Install python3, or run the playbook again." >&2
exit 127
"""


def interpreter(ctx: Context, running: str = sys.executable, timeout: float = 60) -> str:
    """The path of the system's Python if it is 3.8 or newer, else of the running one, whose virtual environment may be gone at the next boot."""
    same = os.path.realpath(SYSTEM) == os.path.realpath(running)
    return SYSTEM if same or not ctx.command([SYSTEM, "-I", "-c", _TOO_OLD], timeout).rc else running


def first_lines(interpreter: str) -> str:
    """The first lines of a file that Python runs.

    An upgrade of the distribution may remove a Python other than the system's. The first one that can run the file is used then.
    """
    if interpreter == SYSTEM:
        return "#!%s -I\n" % SYSTEM
    return _ANY % (SYSTEM, shlex.quote(interpreter), _TOO_OLD)
