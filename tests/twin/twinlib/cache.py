# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The cache of built products. Each product is a directory, whose name contains the hash of its inputs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
from pathlib import Path
from typing import Callable, Iterable, Iterator

from . import paths
from .progress import say
from .run import as_root, run


def digest(files: Iterable[Path], *texts: str) -> str:
    """Return a hash of texts and of the names, executable bits, and content of files. Directories are read recursively."""
    total = hashlib.sha256()
    for top in files:
        for path in sorted(p for p in ([top] if top.is_file() else top.rglob("*")) if p.is_file()):
            if "__pycache__" in path.parts:
                continue
            mode = "x" if path.stat().st_mode & 0o100 else "-"
            total.update(f"{path.relative_to(top.parent)}\0{mode}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    for text in texts:
        total.update(hashlib.sha256(text.encode()).digest())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file. Print a message if another process holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another twin command that holds {path.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def product(name: str, key: str, make: Callable[[Path], None], what: str) -> Path:
    """Return the cache's directory NAME-KEY. If it does not exist, `make(folder)` creates it. It never appears incomplete."""
    final = paths.cache() / f"{name}-{key}"
    if final.is_dir():
        return final
    with lock(paths.cache() / f"{name}.lock"):
        if final.is_dir():
            return final
        say(what)
        partial = paths.cache() / f".{name}-{key}.partial"
        remove(partial)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(final)
    return final


def remove(path: Path) -> None:
    """Delete a directory of the twin, even if it contains files that belong to root."""
    if path.exists():
        try:
            shutil.rmtree(path)
        except PermissionError:
            run(as_root(["rm", "-rf", "--one-file-system", str(path)]))
