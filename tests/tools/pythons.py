# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Find interpreters of given Python releases.

The search order is: the variable VGPU_PYTHON311 (…313) for 3.11 (…3.13), the interpreter that runs this script,
``pythonX.Y`` on PATH, pyenv's versions. An interpreter counts only if it starts, has the requested release and can create
environments: version managers put wrappers on PATH that do not start, and Debian packages Python without ensurepip.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROBE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"


def candidates(release: str) -> list[str]:
    """Return the possible paths of an interpreter of *release*, in order of preference."""
    found = [os.environ.get("VGPU_PYTHON" + release.replace(".", ""), "")]
    if sys.prefix == sys.base_prefix:
        found.append(sys.executable)
    # Inside an environment, this is the interpreter from which the environment was created.
    found.append(getattr(sys, "_base_executable", ""))
    found.append(shutil.which(f"python{release}") or "")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found.extend(str(path) for path in sorted(pyenv.glob(f"versions/{release}*/bin/python{release}"), reverse=True))
    return [path for path in found if path]


@functools.lru_cache(maxsize=None)
def probe(path: str) -> tuple[str, str] | None:
    """Return (release, real path) of the interpreter at *path*, or None if it is unusable."""
    try:
        done = subprocess.run([path, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.splitlines()
    return (words[0], words[1]) if done.returncode == 0 and len(words) == 2 else None


def find(releases: tuple[str, ...]) -> str | None:
    """Return the path of an interpreter of the first of *releases* that this machine has, or None."""
    for release in releases:
        for path in candidates(release):
            found = probe(path)
            if found and found[0] == release:
                return found[1]
    return None


if __name__ == "__main__":
    print(find(tuple(sys.argv[1:])) or sys.exit(f"no Python {' or '.join(sys.argv[1:])} found"))
