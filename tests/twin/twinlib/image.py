# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Build steps: root tree → kernel modules → bundle → images. The cache stores the result of each step."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import uuid as uuids
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from . import acpi, cache, disk, models, paths, quick
from .progress import TwinError, say
from .run import PRIVATE, as_root, in_namespace, owner, run

STARTS = ("bare", "vfio-pci", "nouveau")
IOMMUS = ("intel", "amd", "none")
BOOTS = ("bios", *sorted(f.stem for f in (paths.IMAGE / "boot").glob("*.txt")))  # firmware and boot loader; all except the first use UEFI
EXTRAS = tuple(sorted(f.stem for f in (paths.IMAGE / "with").glob("*.txt")))  # names for `--with`
BIOS_GRUB = "grub-pc"
A40 = "10de:2235"  # the PCI ID in the files of the start state vfio-pci
TREE_OPTIONS = (
    "--variant=minbase", '--aptopt=Apt::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
)
# Drivers of hardware that the twin does not have. Without these modules, depmod and building an initramfs take a third of the time.
NO_MODULES = (
    "sound", "drivers/media", "drivers/iio", "drivers/infiniband", "drivers/staging", "drivers/comedi", "drivers/hid", "drivers/hwmon",
    "drivers/usb", "drivers/mtd", "drivers/ata", "drivers/scsi", "drivers/bluetooth", "drivers/isdn", "drivers/w1", "drivers/leds",
    "drivers/net/wireless", "drivers/net/ethernet", "drivers/net/usb", "drivers/net/can", "drivers/net/phy",
    "net/netfilter", "net/sched", "net/bluetooth", "net/mac80211", "net/wireless", "net/can", "fs/nls", "fs/ocfs2", "fs/btrfs", "fs/xfs",
    "fs/ceph", "fs/nfs", "fs/smb",
)
TREE_OPTIONS += tuple(f"--dpkgopt=path-exclude=/lib/modules/*/kernel/{folder}/*" for folder in NO_MODULES)
# nouveau requires these modules.
TREE_OPTIONS += tuple(f"--dpkgopt=path-include=/lib/modules/*/kernel/drivers/media/{which}" for which in ("cec/*", "rc/rc-core.ko*"))


@dataclass(frozen=True)
class System:
    """A Debian release for machines."""

    name: str
    suite: str
    title: str


SYSTEMS = {s.name: s for s in (System("debian12", "bookworm", "Debian 12"), System("debian13", "trixie", "Debian 13"))}


@dataclass(frozen=True)
class Build:
    """The results of `build`."""

    system: System
    tree: Path
    modules: Path
    image: Path
    kernel_version: str
    boot: str = "bios"


def ssh_key() -> Path:
    """Return the key pair for all twins of this user. The first call creates the key pair."""
    key = paths.cache() / "keys" / "id_ed25519"
    with cache.lock(paths.cache() / "keys.lock"):
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "twin", "-f", str(key)])
    return key


def apt_sources(system: System) -> list[Path]:
    """Return the apt sources for a system from TWIN_APT_SOURCES (paths, separated by colons) or from this machine, changed to the system's suite."""
    files = _own_sources()
    text = "\n".join(f.read_text(encoding="utf-8") for f in files)
    if system.suite in text:
        return files
    found = [s.suite for s in SYSTEMS.values() if s.suite in text]
    if not found:
        raise TwinError(
            f"The apt sources {' '.join(map(str, files))} name no supported release "
            f"(expected one of: {' '.join(s.suite for s in SYSTEMS.values())})."
        )
    folder = paths.cache() / f"sources-{system.suite}"
    folder.mkdir(parents=True, exist_ok=True)
    changed = [folder / f.name for f in files]
    for source, target in zip(files, changed):
        target.write_text(source.read_text(encoding="utf-8").replace(found[0], system.suite), encoding="utf-8")
    return changed


def _own_sources() -> list[Path]:
    given = os.environ.get("TWIN_APT_SOURCES")
    if given:
        files = [Path(p) for p in given.split(":")]
        absent = [str(f) for f in files if not f.is_file()]
        if absent:
            raise TwinError(f"TWIN_APT_SOURCES names files that do not exist: {' '.join(absent)}")
        return files
    release = platform.freedesktop_os_release()
    suite = release.get("VERSION_CODENAME", "")
    if suite not in {s.suite for s in SYSTEMS.values()}:
        raise TwinError(
            f"The twin requires Debian's apt sources, but this machine runs {release.get('PRETTY_NAME')}. "
            "Set TWIN_APT_SOURCES to a sources.list of Debian 12."
        )
    candidates = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    files = [f for f in candidates if f.suffix in (".list", ".sources") and f.is_file() and _is_debian(f, suite)]
    if not files:
        raise TwinError("No apt sources of Debian were found in /etc/apt. Set TWIN_APT_SOURCES to a sources.list of Debian 12.")
    return files


def _is_debian(source: Path, suite: str) -> bool:
    """Return whether a sources file is Debian's own. The twin does not use third-party sources."""
    lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    return any(suite in line and not line.startswith("#") for line in lines if "main" in line or line.startswith("Suites:"))


def packages(extras: Sequence[str] = (), boot: str = "bios") -> list[str]:
    """Return the names of the packages in the root tree."""
    files = [paths.IMAGE / "packages.txt", *[paths.IMAGE / "with" / f"{extra}.txt" for extra in extras]]
    files += [paths.IMAGE / "boot" / f"{boot}.txt"] if boot != "bios" else []
    lines = "\n".join(f.read_text(encoding="utf-8") for f in files).split("\n")
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [name for name in names if boot == "bios" or name != BIOS_GRUB]


def tree_options(boot: str) -> tuple[str, ...]:
    """Return mmdebstrap's options. The file system of the EFI system partition requires two modules with character tables."""
    tables = () if boot == "bios" else tuple(f"--dpkgopt=path-include=/lib/modules/*/kernel/fs/nls/{name}.ko*" for name in ("nls_ascii", "nls_cp437"))
    return TREE_OPTIONS + tables


def _make_tree(folder: Path, system: System, names: Sequence[str], options: Sequence[str]) -> None:
    sources = apt_sources(system)
    root, archive = folder / "root", folder / "root.tar"
    packed = in_namespace()  # mmdebstrap uses a separate user namespace, with other IDs
    mmdebstrap = [
        "mmdebstrap", "--mode=unshare" if packed else "--mode=root", *options, "--include=" + ",".join(names), system.suite,
        str(archive if packed else root), *[str(s) for s in sources],
    ]
    run(mmdebstrap if packed else as_root([*PRIVATE, *mmdebstrap]), env={**os.environ, "TMPDIR": "/tmp"})
    if packed:
        root.mkdir()
        run(as_root(["tar", "-xpf", str(archive), "--numeric-owner", "--exclude=./dev/*", "-C", str(root)]))
        archive.unlink()
    (folder / "sources").write_text("\n".join(map(str, sources)), encoding="utf-8")


def build_tree(system: System, extras: Sequence[str] = (), boot: str = "bios") -> Path:
    """Return Debian's root tree with a kernel, headers, and a compiler."""
    what = f"{''.join(f' with {extra}' for extra in [*extras, *([] if boot == 'bios' else [boot])])} by mmdebstrap (two minutes)"
    return tree_of(system, packages(extras, boot), tree_options(boot), what)


def tree_of(system: System, names: Sequence[str], options: Sequence[str] = TREE_OPTIONS, what: str = " by mmdebstrap (a minute)") -> Path:
    """Return a Debian root tree with only these packages and their dependencies."""
    # A tree that belongs to real root is not accessible in a user namespace, and vice versa.
    key = cache.digest(apt_sources(system), *names, *options, system.suite, *(["namespace"] if in_namespace() else []))
    return cache.product("tree", key, lambda folder: _make_tree(folder, system, names, options), f"root tree of {system.title}{what}") / "root"


def kernel_version(tree: Path) -> str:
    """Return the version of the only kernel in the tree."""
    found = [p.name for p in (tree / "lib" / "modules").iterdir() if (p / "kernel").is_dir()]
    if len(found) != 1:
        raise TwinError(f"{tree}/lib/modules must contain one kernel, but contains: {' '.join(found) or 'none'}")
    return found[0]


def build_modules(tree: Path) -> Path:
    """Return a directory with twin_hw.ko and nvidia.ko, compiled with the tree's compiler and kernel headers."""
    version = kernel_version(tree)

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as staging:
            source = _sources(paths.KERNEL, Path(staging))
            (source / "nvidia" / "nv-models.c").write_text(models.c_source(), encoding="utf-8")
            shutil.copytree(source / "nvidia", folder / "nvidia")
            _compile(tree, version, source, folder, "twin_hw.ko", "nvidia/nvidia.ko")

    key = cache.digest([paths.KERNEL], str(tree), version, models.c_source())
    return cache.product("modules", key, make, f"kernel modules for {version}")


def build_guest_module(tree: Path) -> Path:
    """Return a directory with the guest driver's nvidia.ko and its source."""
    version = kernel_version(tree)

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as staging:
            source = _sources(paths.KERNEL_GUEST, Path(staging))
            shutil.copytree(source, folder / "nvidia")
            _compile(tree, version, source, folder, "nvidia.ko")

    return cache.product("guest-module", cache.digest([paths.KERNEL_GUEST], str(tree), version), make, f"guest's kernel module for {version}")


def _sources(folder: Path, staging: Path) -> Path:
    """Copy a source directory without build products. Return the copy's path."""
    return Path(shutil.copytree(folder, staging / "kernel", ignore=shutil.ignore_patterns("*.ko", "*.o", "*.mod*", ".*", "Module*")))


def _compile(tree: Path, version: str, source: Path, target: Path, *modules: str) -> None:
    """Build modules in the tree and move the modules to the target."""
    work = "root/twin-modules"
    inside = tree / work
    cleaned = ["rm", "-rf", str(inside)]
    run(as_root(cleaned))
    run(as_root(["cp", "-r", str(source), str(inside)]))
    in_tree = [*PRIVATE, str(paths.IMAGE / "in-tree.sh"), str(tree)]
    run(as_root([*in_tree, "make", "-s", "-C", f"/{work}", f"KERNEL_UNAME={version}"]))
    run(as_root([*in_tree, "strip", "--strip-debug", *[f"/{work}/{module}" for module in modules]]))
    for module in modules:
        run(as_root(["install", "-m", "644", str(inside / module), str(target)]))
        run(as_root(["chown", owner(), str(target / Path(module).name)]))
    run(as_root(cleaned))


def build_image(tree: Path, modules: Path, boot: str = "bios") -> Path:
    """Return a directory with the root tree of machines and the files that differ between start states and IOMMUs."""
    key_file = ssh_key().with_suffix(".pub")
    version = kernel_version(tree)
    firmware = {iommu: acpi.early_initrd(iommu) for iommu in ("intel", "amd")}

    def make(folder: Path) -> None:
        root = folder / "root"
        fs_uuid = str(uuids.uuid4())
        run(as_root(["cp", "-a", "--reflink=auto", str(tree), str(root)]))
        for iommu, data in firmware.items():
            (folder / f"twin-acpi-{iommu}.cpio").write_bytes(data)
        say("image: users, initrds, grub.cfg")
        run(as_root([
            *PRIVATE, "bash", str(paths.IMAGE / "assemble.sh"), str(root), str(folder), str(paths.IMAGE),
            str(key_file), str(modules / "twin_hw.ko"), version, fs_uuid, boot,
        ]))
        run(as_root(["chown", "-R", owner(), *[str(p) for p in folder.iterdir() if p != root]]))
        (folder / "quick.cpio").write_bytes(quick.initramfs(root, version))
        (folder / "fs-uuid").write_text(fs_uuid, encoding="utf-8")

    key = cache.digest(
        [paths.IMAGE, modules / "twin_hw.ko", key_file], str(tree), quick.INIT, *quick.MODULES, *quick.PROGRAMS,
        *[data.hex() for data in firmware.values()], boot,
    )
    return cache.product("image", key, make, "image")


def bios_grub(image: Path) -> tuple[Path, Path]:
    """Return GRUB's images that are stored outside file systems."""
    return image / "boot.img", image / "core.img"


def build(system: System, extras: Sequence[str] = (), boot: str = "bios") -> Build:
    """Build everything except the bundle. Modules are built in the tree without extras, so machines with and without extras share a bundle."""
    extras = sorted(set(extras))
    tree = build_tree(system)
    modules = build_modules(tree)
    full = build_tree(system, extras, boot)
    if kernel_version(full) != kernel_version(tree):
        raise TwinError(
            f"{full} has the kernel {kernel_version(full)}, but {tree} has {kernel_version(tree)}. Delete the older tree, which is then built again."
        )
    return Build(system, tree, modules, build_image(full, modules, boot), kernel_version(tree), boot)


def modules_only(system: System) -> Build:
    """Return only the parts of a build that a bundle requires."""
    tree = build_tree(system)
    return Build(system, tree, build_modules(tree), Path(), kernel_version(tree))


def _base_disk(built: Build) -> Path:
    """Return the bootable raw disk of full twins, still without the files of a start state and an IOMMU. Quick twins do not use this disk."""

    def make(folder: Path) -> None:
        uuid = (built.image / "fs-uuid").read_text(encoding="utf-8")
        disk.create(built.image / "root", folder / "disk.raw", uuid, bios_grub(built.image) if built.boot == "bios" else None)

    return cache.product("base", cache.digest([], str(built.image), str(disk.SIZE_GIB)), make, "full tier: disk") / "disk.raw"


def variant_disk(built: Build, start: str, iommu: str, boot_iommu: bool, gpu_models: Sequence[str] = ("a40",)) -> Path:
    """Return the backing disk of a full twin in a start state. In the start state vfio-pci, gpu_models determines the IDs that vfio-pci binds."""
    ids = ",".join(f"10de:{models.load(m).number('device'):04x}" for m in sorted(set(gpu_models)))
    grub = built.image / "grub" / (iommu if iommu == "none" else f"{iommu}-{'on' if boot_iommu else 'off'}")
    state = paths.IMAGE / "start" / start

    def make(folder: Path) -> None:
        files = {f"/{p.relative_to(state)}": p for p in state.rglob("*") if p.is_file()}
        if built.boot != "systemd-boot":
            files["/etc/default/grub"] = grub / "grub"
            files["/boot/grub/grub.cfg"] = grub / "grub.cfg"
        files[f"/boot/initrd.img-{built.kernel_version}"] = built.image / "start" / start / "initrd"
        for target, source in files.items():
            if A40 != ids and target.startswith("/etc/modprobe.d/") and A40 in source.read_text(encoding="utf-8"):
                files[target] = folder / source.name
                files[target].write_text(source.read_text(encoding="utf-8").replace(A40, ids), encoding="utf-8")
        efi = folder / "efi"
        if built.boot != "bios":
            shutil.copytree(built.image / "efi" / start, efi)
            files.update(_kernel_install(efi, folder, "" if boot_iommu else f" {iommu}_iommu=off") if built.boot == "systemd-boot" else {})
        disk.copy(_base_disk(built), folder / "disk.raw")
        disk.write_files(folder / "disk.raw", files)
        if built.boot != "bios":
            disk.write_efi(folder / "disk.raw", efi)
            shutil.rmtree(efi)

    key = cache.digest([state], str(built.image), start, grub.name, *([ids] if start == "vfio-pci" and ids != A40 else []))
    return cache.product(f"disk-{start}-{grub.name}", key, make, f"disk: start {start}, IOMMU {grub.name}") / "disk.raw"


def _kernel_install(efi: Path, folder: Path, flags: str) -> dict[str, Path]:
    """Replace assemble.sh's placeholder with the IOMMU's flags, in the boot entries and in kernel-install's file."""
    for entry in (efi / "loader" / "entries").iterdir():
        entry.write_text(entry.read_text(encoding="utf-8").replace(" @IOMMU@", flags), encoding="utf-8")
    cmdline = folder / "cmdline"
    cmdline.write_text((efi / "cmdline").read_text(encoding="utf-8").replace(" @IOMMU@", flags), encoding="utf-8")
    (efi / "cmdline").unlink()
    return {"/etc/kernel/cmdline": cmdline}
