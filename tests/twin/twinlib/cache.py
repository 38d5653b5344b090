# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Products in the cache: a folder each, named after the hash of what it is made from."""

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
    """Hash of files (their names, whether executable, their content; folders recursively) and of texts."""
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
    """Hold an exclusive lock on a file; says so when someone else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another twin command that holds {path.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def product(name: str, key: str, make: Callable[[Path], None], what: str) -> Path:
    """The folder NAME-KEY of the cache; made by `make(folder)` if it is not there. Never seen half-made."""
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
    """Delete a folder of ours, also one with files of root."""
    if path.exists():
        try:
            shutil.rmtree(path)
        except PermissionError:
            run(as_root(["rm", "-rf", "--one-file-system", str(path)]))
