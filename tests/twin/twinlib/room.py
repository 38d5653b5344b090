# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks, before a build, that enough disk space and memory are free for a command."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import paths
from .progress import TwinError
from .run import in_namespace

BUILD_MIB = 3300  # cache with root tree, image, bundle, and one disk
DISK_MIB = 800  # each additional disk of an existing image
TREE_MIB = 1000  # temporary files of mmdebstrap in TEMPORARY when it uses a user namespace
MACHINE_MIB = 600  # a machine's disk at the end of a demo, the collection's copy, and logs
OVERHEAD_MIB = 500  # memory of QEMU and Ansible, in addition to the machine's memory
TEMPORARY = Path("/tmp")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # directory with the limits of a container
LIMITS = (("memory.max", "memory.stat", "anon"), ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss"))  # cgroup version 2, version 1


def check(memory_mib: int = 0) -> None:
    """Raise TwinError with all reasons if a build, or a machine with *memory_mib* MiB, does not fit."""
    errors = [*_disk(), *(_memory(memory_mib) if memory_mib else [])]
    if errors:
        raise TwinError("\n      ".join(errors))


def _disk() -> list[str]:
    built = any(paths.cache().glob("image-*"))
    disks = 1 if any(paths.cache().glob("base-*")) else 2  # the first full twin's disk is a copy of the base disk
    cache, machines = _existing(paths.cache()), _existing(paths.machines())
    needs = {paths.cache(): disks * DISK_MIB if built else BUILD_MIB}
    if _device(cache) == _device(machines):
        needs[paths.cache()] += MACHINE_MIB
    else:
        needs[paths.machines()] = MACHINE_MIB
    if not built and in_namespace() and _device(TEMPORARY) not in (_device(cache), _device(machines)):
        needs[TEMPORARY] = TREE_MIB
    advice = {paths.cache(): ", or set XDG_CACHE_HOME to a directory on a larger disk", paths.machines(): ", or clone to a larger disk"}
    errors = []
    for path, need in needs.items():
        free = shutil.disk_usage(_existing(path)).free >> 20
        if free < need:
            first = "" if built else " for the first build"
            errors.append(f"{path}: {free} MiB of disk are free (expected: {need} MiB{first}). Free disk space{advice.get(path, '')}.")
    return errors


def _device(path: Path) -> int:
    return path.stat().st_dev


def _existing(path: Path) -> Path:
    """Return the directory, or its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return path


def _memory(machine_mib: int) -> list[str]:
    need, free = machine_mib + OVERHEAD_MIB, _free_mib()
    if free >= need:
        return []
    return [f"memory: {free} MiB are free (expected: {need} MiB for a machine of {machine_mib} MiB). End other programs, or add memory or swap."]


def _free_mib() -> int:
    """Return the available memory and swap in MiB. In a container, its limit applies."""
    fields = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="utf-8").splitlines())
    free = sum(int(fields[name].split()[0]) for name in ("MemAvailable", "SwapFree")) >> 10
    for limit, statistics, used in LIMITS:
        try:
            left = int((CGROUP / limit).read_text(encoding="utf-8"))
            left -= int(dict(line.split() for line in (CGROUP / statistics).read_text(encoding="utf-8").splitlines())[used])
        except (OSError, ValueError, KeyError):  # no limit exists, or the limit is not visible
            continue
        free = min(free, left >> 20)
    return free
