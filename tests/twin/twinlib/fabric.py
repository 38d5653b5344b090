# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fabric Manager's packages, which fabric/build_fabric.py builds with a library from the root tree's compiler. The cache stores the packages."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from . import cache, image, paths
from .image import System
from .progress import TwinError
from .run import PRIVATE, as_root, owner, run

BUILDER = paths.FABRIC / "build_fabric.py"
LIBRARY = "libnvfm.so.1"
VERSION = re.search(r'define NV_VERSION\s+"(.+)"', (paths.KERNEL / "nvidia" / "nv.h").read_text(encoding="utf-8"))[1]  # version of the driver


def compiler(branch: int) -> list[str]:
    """Return the library's compiler command for the directory with its source. The caller adds -o and other arguments."""
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}"]
    return ["gcc", *flags, f"-DFM_BRANCH={branch}", "-Iinclude", "libnvfm.c"]


def repository(system: System, version: str) -> Path:
    """Return a directory with the packages of that version and their apt index."""
    if not re.fullmatch(r"\d{3}(\.\d+){1,2}", version):
        raise TwinError(f"'{version}' is not a driver version (expected: a version such as 550.163.02).")
    tree = image.build_tree(image.SYSTEMS[system.name])

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as name:
            library = Path(name) / LIBRARY
            _compile(tree, int(version.split(".", 1)[0]), library)
            run([sys.executable, str(BUILDER), str(folder), "--version", version, "--library", str(library)])

    helpers = [paths.BUNDLE / name for name in ("build_bundle.py", "editions.py", "LICENSE.txt")]
    return cache.product("fabric", cache.digest([paths.FABRIC, *helpers], str(tree), version), make, f"Fabric Manager {version}")


def _compile(tree: Path, branch: int, target: Path) -> None:
    """Compile the library in the root tree, because it must match the machine's C library."""
    work = "root/twin-fabric"
    inside = tree / work
    cleaned = ["rm", "-rf", str(inside)]
    with tempfile.TemporaryDirectory() as staging:
        source = Path(shutil.copytree(paths.FABRIC, Path(staging) / "fabric", ignore=shutil.ignore_patterns("__pycache__")))
        run(as_root(cleaned))
        run(as_root(["cp", "-r", str(source), str(inside)]))
    command = " ".join([*compiler(branch), "-o", LIBRARY])
    run(as_root([*PRIVATE, str(paths.IMAGE / "in-tree.sh"), str(tree), "sh", "-c", f"cd /{work} && {command} && strip --strip-unneeded {LIBRARY}"]))
    run(as_root(["install", "-m", "644", str(inside / LIBRARY), str(target)]))
    run(as_root(["chown", owner(), str(target)]))
    run(as_root(cleaned))
