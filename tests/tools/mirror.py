# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Copy the collection to the directory in which Ansible's tools expect it.

Ansible's tools need a collection at ``ansible_collections/<namespace>/<name>``. A symbolic link is not enough:
ansible-test then finds no files and reports success. This script creates a real copy of the files that git would track
(tracked files, and new files that are not ignored) and keeps it up to date:

* It deletes files from the copy that no longer exist in the source, so the tools do not test deleted modules.
* It leaves unchanged files and their timestamps alone, so the tools' caches stay valid.
* It creates a git repository in the copy. ansible-test reads its list of files from git, and the outer repository
  lists no files in the ignored ``.build/``.

The script prints the path of the copy.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"


def listed(root: Path) -> list[str]:
    """Return the paths that git would track, relative to *root*, without files that are deleted in the working tree."""
    out = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard", "--deduplicate"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    names = sorted(os.fsdecode(name) for name in out.split(b"\0") if name)
    return [name for name in names if os.path.lexists(root / name)]


def is_same(source: Path, target: Path) -> bool:
    """Return whether *target* already is a copy of *source*: same kind, mode, size and modification time."""
    if not os.path.lexists(target):
        return False
    a, b = source.lstat(), target.lstat()
    if source.is_symlink() or target.is_symlink():
        return source.is_symlink() and target.is_symlink() and os.readlink(source) == os.readlink(target)
    return (a.st_mode, a.st_size, a.st_mtime_ns) == (b.st_mode, b.st_size, b.st_mtime_ns)


def remove(path: Path) -> None:
    """Remove a file, link or directory."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync(root: Path, target: Path, names: list[str]) -> tuple[int, int]:
    """Make *target* contain exactly *names* from *root*. Return (copied files, removed files)."""
    keep_files = {target / name for name in names}
    keep_dirs = {parent for path in keep_files for parent in path.parents}
    removed = 0
    for here, dirs, files in os.walk(target):
        folder = Path(here)
        if folder == target:
            # The copy keeps its own repository, and the output of ansible-test.
            dirs[:] = [name for name in dirs if name != ".git"]
        if folder == target / "tests":
            dirs[:] = [name for name in dirs if name != "output"]
        dirs[:] = [name for name in dirs if name != "__pycache__"]  # Python recompiles changed sources by itself.
        for name in list(dirs):
            path = folder / name
            if path not in keep_dirs and path not in keep_files:
                remove(path)
                dirs.remove(name)
                removed += 1
        for name in files:
            path = folder / name
            if path not in keep_files:
                remove(path)
                removed += 1
    copied = 0
    for name in names:
        source, copy = root / name, target / name
        if is_same(source, copy):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(copy):
            remove(copy)
        shutil.copy2(source, copy, follow_symlinks=False)
        copied += 1
    return copied, removed


def make(base: Path, root: Path = ROOT) -> Path:
    """Update the copy under *base*, and return its path."""
    target = base / "ansible_collections" / "vgpu" / "kvm"
    target.mkdir(parents=True, exist_ok=True)
    names = listed(root)
    if "galaxy.yml" not in names:
        raise SystemExit(f"{root} is not the collection: git does not list galaxy.yml in this directory")
    with open(base / "mirror.lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # Sessions run in parallel.
        sync(root, target, names)
        if not (target / ".git").is_dir():
            subprocess.run(["git", "init", "-q", str(target)], check=True)
    return target


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description="Copy the collection to the directory in which Ansible's tools expect it.")
    parser.add_argument("base", nargs="?", type=Path, default=BUILD / "collections", help="directory that contains ansible_collections/")
    print(make(parser.parse_args().base.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
