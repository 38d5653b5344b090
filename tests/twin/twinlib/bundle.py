# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The driver bundle, which bundle/build_bundle.py builds from the emulated driver. The cache stores the bundle."""

from __future__ import annotations

import sys
from pathlib import Path

from . import cache, disk, image, models, paths
from .image import Build
from .progress import TwinError, say
from .run import PRIVATE, as_root, owner, run

BUILDER = paths.BUNDLE / "build_bundle.py"


def builds(built: Build) -> list[Build]:
    """Return the builds whose modules a bundle contains. The Debian 12 bundle contains only its own modules, which avoids another build."""
    if built.system.name == "debian12":
        return [built]
    return [built if s.name == built.system.name else image.modules_only(s) for s in image.SYSTEMS.values()]


def path(built: Build) -> Path:
    """Return the path of the zip. Build the bundle if the cache does not contain it."""
    if not BUILDER.is_file():
        raise TwinError(f"The driver bundle cannot be built: {BUILDER.relative_to(paths.REPO)} does not exist.")

    def make(folder: Path) -> None:
        prebuilt = [word for b in every for word in ("--module", str(b.modules / "nvidia.ko"), "--kernel-version", b.kernel_version)]
        guest = [word for one in guests for word in ("--guest-module", str(one / "nvidia.ko"))]
        run([
            sys.executable, str(BUILDER), str(folder), *prebuilt, "--source", str(built.modules / "nvidia"),
            *guest, "--guest-source", str(guests[0] / "nvidia"),
        ])
        _only_zip(folder)

    every = builds(built)
    guests = [image.build_guest_module(b.tree) for b in every]
    sources = [p for p in paths.BUNDLE.iterdir() if p.name not in ("tests", "__pycache__")]
    key = cache.digest(
        [*sorted(sources), built.modules / "nvidia", *[b.modules / "nvidia.ko" for b in every], *guests],
        *[b.kernel_version for b in every], models.vgpu_config(), models.guest_types(),
    )
    return _only_zip(cache.product("bundle", key, make, "driver bundle"))


def _only_zip(folder: Path) -> Path:
    found = sorted(folder.glob("*.zip"))
    if len(found) != 1:
        raise TwinError(f"{BUILDER.name} must create one zip file, but created: {' '.join(p.name for p in found) or 'none'}")
    return found[0]


def quick_disk(built: Build) -> Path:
    """Return the disk of quick twins: the image in which the bundle's .run was installed in a chroot."""
    archive = path(built)

    def make(folder: Path) -> None:
        root = folder / "root"
        uuid = (built.image / "fs-uuid").read_text(encoding="utf-8")
        run(as_root(["cp", "-a", "--reflink=auto", str(built.image / "root"), str(root)]))
        run(as_root([*PRIVATE, "bash", str(paths.IMAGE / "install-driver.sh"), str(root), str(archive), built.kernel_version]))
        say("quick tier: disk")
        disk.create(root, folder / "disk.raw", uuid, image.bios_grub(built.image))
        run(as_root(["chown", owner(), str(folder / "disk.raw")]))
        run(as_root(["rm", "-rf", "--one-file-system", str(root)]))

    key = cache.digest([archive, paths.IMAGE / "install-driver.sh"], str(built.image), str(disk.SIZE_GIB))
    return cache.product("quick", key, make, "quick tier: the driver installed from the bundle") / "disk.raw"


def ready_disk(built: Build, iommu: str) -> Path:
    """Return the disk of a full twin with the driver installed and the IOMMU enabled, as after the reboot of a first run."""
    base = quick_disk(built)
    grub = built.image / "grub" / (iommu if iommu == "none" else f"{iommu}-pt")

    def make(folder: Path) -> None:
        disk.copy(base, folder / "disk.raw")
        disk.write_files(folder / "disk.raw", {
            "/etc/default/grub": grub / "grub",
            "/boot/grub/grub.cfg": grub / "grub.cfg",
            f"/boot/initrd.img-{built.kernel_version}": built.image / "start" / "bare" / "initrd",
        })

    return cache.product(f"disk-ready-{iommu}", cache.digest([], str(base), grub.name), make, f"disk: start ready, IOMMU {iommu}") / "disk.raw"
