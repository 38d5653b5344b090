# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The quick tier's initramfs, which loads the drivers for the disk and the emulated hardware, then runs quick-init from the disk."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

from .cpio import Archive
from .progress import TwinError

# ext4 loads crc32c_generic by its alias when a file system is mounted, so modules.dep does not list this dependency.
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_net", "virtio_rng", "twin_hw")
PROGRAMS = ("sh", "mount", "insmod", "run-init", "sleep")
INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo "twin: user space" > /dev/console
while read -r m; do insmod /modules/$m; done < /modules/list
n=0
until mount -t ext4 -o ro /dev/vda2 /root; do
    n=$((n + 1)); [ $n -lt 50 ] || { echo "quick: no root file system"; exec sh; }
    sleep 0.1
done
mount -o move /proc /root/proc
mount -o move /sys /root/sys
mount -o move /dev /root/dev
exec run-init /root /usr/lib/twin/quick-init < /root/dev/console > /root/dev/console 2>&1
"""


def load_order(modules_dep: str, wanted: tuple[str, ...]) -> list[str]:
    """Return the modules' paths below lib/modules/VERSION, dependencies first. `modules_dep` is the text of depmod's modules.dep."""
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in modules_dep.splitlines():
        path, _unused, rest = line.partition(":")
        needs[path] = rest.split()
        path_of[path.rsplit("/", 1)[-1].split(".")[0].replace("-", "_")] = path
    order: list[str] = []
    for name in wanted:
        if name not in path_of:
            continue  # built into the kernel
        path = path_of[name]
        order += [p for p in [*reversed(needs[path]), path] if p not in order]
    return order


def _plain(path: str) -> str:
    return Path(path).name.removesuffix(".xz")


def uncompressed(module: Path) -> bytes:
    """Return a module in a format that klibc's insmod can load. Debian 13's modules are compressed."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def initramfs(root: Path, version: str) -> bytes:
    """Return a compressed archive with files from the root tree. The shell and tools are those of Debian's klibc."""
    archive = Archive()
    for folder in ("proc", "sys", "dev", "root", "bin", "modules"):
        archive.folder(folder)
    archive.character_device("dev/console", 5, 1)
    klibc = sorted((root / "usr/lib").glob("klibc-*.so"))
    if not klibc:
        raise TwinError(f"{root}/usr/lib does not contain klibc (expected: the initramfs-tools package in the image).")
    for folder in ("lib", "usr/lib"):  # the programs of Debian 12 and 13 search for the library in different directories
        archive.file(f"{folder}/{klibc[0].name}", klibc[0].read_bytes(), 0o755)
    for program in PROGRAMS:
        archive.file(f"bin/{program}", (root / "usr/lib/klibc/bin" / program).read_bytes(), 0o755)
    base = root / "lib/modules" / version
    order = load_order((base / "modules.dep").read_text(encoding="utf-8"), MODULES)
    for path in order:
        archive.file(f"modules/{_plain(path)}", uncompressed(base / path))
    archive.file("modules/list", "".join(_plain(p) + "\n" for p in order).encode())
    archive.file("init", INIT.encode(), 0o755)
    return gzip.compress(archive.data(), 1)
