# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Running other programs: output is kept for the error message, root only where it is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any, Sequence

from .progress import TwinError


def as_root(argv: Sequence[str]) -> list[str]:
    """The command, through sudo when we are not root."""
    if os.geteuid() == 0:
        return list(argv)
    if not shutil.which("sudo"):
        raise TwinError(f"{argv[0]} needs root and there is no sudo: run this command as root.")
    return ["sudo", *argv]


def run(argv: Sequence[str], **kwargs: Any) -> str:
    """Run to the end; return stdout. A failure becomes a TwinError with the last lines of output."""
    done = subprocess.run(
        [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False, **kwargs,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-25:])
        raise TwinError(f"{' '.join(map(str, argv[:4]))} … failed with {done.returncode}:\n{tail}")
    return done.stdout
