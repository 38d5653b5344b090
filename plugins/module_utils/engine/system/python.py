# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python that runs the engine on the host without a controller."""

from __future__ import annotations

import os
import sys

from .context import Context

SYSTEM = "/usr/bin/python3"
_TOO_OLD = "import sys; sys.exit(sys.version_info < (3, 8))"


def interpreter(ctx: Context, running: str = sys.executable, timeout: float = 60) -> str:
    """Path of the system's Python if it is 3.8 or newer, else of the running one, whose virtual environment may be gone at the next boot."""
    same = os.path.realpath(SYSTEM) == os.path.realpath(running)
    return SYSTEM if same or not ctx.command([SYSTEM, "-I", "-c", _TOO_OLD], timeout).rc else running
