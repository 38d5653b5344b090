# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Build the twin's driver bundle in the layout of NVIDIA's bundle.

    build_bundle.py OUTDIR --module nvidia.ko[,…] --kernel-version KVER --source DIR
                    [--guest-module nvidia.ko --guest-source DIR]

(for each additional kernel with prebuilt modules, repeat --module, --guest-module, and --kernel-version)

writes OUTDIR/NVIDIA-GRID-Linux-KVM-<host>-<linux guest>-<windows guest>.zip and prints its path.
The same inputs result in the same bytes.  The program requires makeself and dpkg-deb.  If an input
or a tool is missing, the program prints a message and exits with status 1.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import editions  # noqa: E402  (the directory is not a package)
from editions import Edition  # noqa: E402

WINDOWS_VERSION = "553.74"
HOST_VERSION = editions.HOST.version
PACKAGE = editions.HOST.package
RUN = editions.HOST.run
BUNDLE = f"NVIDIA-GRID-Linux-KVM-{HOST_VERSION}-{editions.GUEST.version}-{WINDOWS_VERSION}"

# The modification time of all files. With a constant time, another build has the same checksum.
STAMP = 1744675200
DATE = "Tue Apr 15 00:00:00 UTC 2025"
ZIP_DATE = (2025, 4, 15, 0, 0, 0)

HOST = HERE / "host"
INSTALLER = HERE / "installer"
DEB = HERE / "deb"

# Directory for the file with which a distribution's package stops NVIDIA's installer.
ALTERNATE = "/usr/lib/nvidia/alternate-install-present"
Prebuilt = Dict[str, List[Path]]  # modules by kernel version
SOURCE_SUFFIXES = (".c", ".h", ".S", ".mk")
SOURCE_NAMES = ("Makefile", "Kbuild")


class Problem(Exception):
    """The message about a missing input or tool."""


def write(path: Path, text: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


def fill(path: Path, **values: str) -> str:
    """Return the text of a file with all @NAME@ replaced."""
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def freeze(tree: Path) -> None:
    """Set the same modification time on all files below the tree, and remove the write bits of group and others."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o755)
        os.utime(path, (STAMP, STAMP), follow_symlinks=False)
    tree.chmod(0o755)
    os.utime(tree, (STAMP, STAMP))


def call(*command: str | Path, **extra: str) -> None:
    done = subprocess.run(
        [str(c) for c in command], check=False, text=True, capture_output=True,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(STAMP), **extra},
    )
    if done.returncode:
        raise Problem(f"{command[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}")


def source_files(source: Path) -> list[Path]:
    """Return the files that are required to build the modules, without build products and hidden files."""
    return sorted(
        p for p in source.rglob("*")
        if p.is_file() and (p.suffix in SOURCE_SUFFIXES or p.name in SOURCE_NAMES)
        and not p.name.endswith(".mod.c") and not any(part.startswith(".") for part in p.relative_to(source).parts)
    )


def dkms_conf(edition: Edition, modules: list[str]) -> str:
    built = "\n".join(
        f'BUILT_MODULE_NAME[{i}]="{name}"\nDEST_MODULE_LOCATION[{i}]="/kernel/drivers/video"' for i, name in enumerate(modules)
    )
    return fill(INSTALLER / "dkms.conf.in", VERSION=edition.version, BUILT=built)


def copy_source(edition: Edition, source: Path, modules: list[str], target: Path) -> None:
    for path in source_files(source):
        write(target / path.relative_to(source), path.read_bytes())
    write(target / "dkms.conf", dkms_conf(edition, modules))


def stripped(modules: list[Path], folder: Path) -> list[Path]:
    """Copy the modules without debug information, which an emulated machine would read slowly. This reduces the size to a twelfth."""
    copies = []
    for module in modules:
        copy = folder / module.name
        write(copy, module.read_bytes())
        if copy.read_bytes().startswith(b"\x7fELF") and shutil.which("strip"):
            call("strip", "--strip-debug", "--enable-deterministic-archives", copy)
        copies.append(copy)
    return copies


def names_of(prebuilt: Prebuilt) -> list[str]:
    """Return the names of the modules in load order. The names are the same for each kernel."""
    return [m.stem for m in next(iter(prebuilt.values()))]


def stage_run(edition: Edition, tree: Path, prebuilt: Prebuilt, source: Path) -> None:
    """Create the tree inside the .run: the installer, MANIFEST, the files in MANIFEST, module source, and prebuilt modules."""
    names = names_of(prebuilt)
    installer = fill(
        INSTALLER / "nvidia-installer", VERSION=edition.version, FLAVOUR=edition.flavour, MODULES=" ".join(names), TITLE=edition.title,
        UNITS=" ".join(edition.units), START=str(int(edition.starts)),
    )
    write(tree / "nvidia-installer", installer, 0o755)
    manifest = ["0755 nvidia-installer /usr/bin/nvidia-installer"]
    for mode, name, path in edition.files:
        write(tree / name, edition.text(name), int(mode, 8))
        manifest.append(f"{mode} {name} {path}")
    write(tree / "MANIFEST", "\n".join(manifest) + "\n")
    write(tree / "LICENSE", licence())
    copy_source(edition, source, names, tree / "kernel")
    for kernel, modules in prebuilt.items():
        for module in modules:
            write(tree / "prebuilt" / kernel / module.name, module.read_bytes())


def make_run(edition: Edition, target: Path, work: Path, prebuilt: Prebuilt, source: Path) -> None:
    tree = work / edition.run
    stage_run(edition, tree, prebuilt, source)
    pack_run(tree, target, work, f"NVIDIA {edition.title} {edition.version}")


def pack_run(tree: Path, target: Path, work: Path, label: str) -> None:
    """Create a .run from a tree. The same tree results in the same bytes."""
    freeze(tree)
    call(
        "makeself", "--quiet", "--nox11", "--nomd5", "--nocrc", "--sha256", "--gzip", "--complevel", "9n",
        "--tar-extra", f"--mtime=@{STAMP} --owner=0 --group=0 --numeric-owner",
        "--packaging-date", DATE, "--header", INSTALLER / "makeself-header.in",
        tree, target, label, "nvidia-installer", TMPDIR=str(work),
    )
    target.chmod(0o755)


def make_deb(edition: Edition, target: Path, work: Path, prebuilt: Prebuilt, source: Path) -> None:
    tree = work / f"deb-{edition.kind}"
    values = {
        "VERSION": edition.version, "KERNELS": " ".join(prebuilt), "PACKAGE": edition.package, "TITLE": edition.title, "DEPENDS": edition.depends,
        "UNITS": " ".join(f"{unit}.service" for unit in edition.units), "START": str(int(edition.starts)),
    }
    for mode, name, path in edition.files:
        write(tree / path.lstrip("/"), edition.text(name), int(mode, 8))
    write(tree / ALTERNATE.lstrip("/"), f"{edition.package}\n")
    write(tree / f"usr/share/doc/{edition.package}/copyright", licence())
    copy_source(edition, source, names_of(prebuilt), tree / f"usr/src/nvidia-{edition.version}")
    for kernel, modules in prebuilt.items():
        for module in modules:
            write(tree / f"lib/modules/{kernel}/kernel/drivers/video" / module.name, module.read_bytes())
    write(tree / "DEBIAN/control", fill(DEB / "control.in", **values))
    for script in ("preinst", "postinst", "prerm", "postrm"):
        write(tree / "DEBIAN" / script, fill(DEB / f"{script}.in", **values), 0o755)
    freeze(tree)
    call("dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z9", tree, target)


def licence() -> str:
    return (HERE / "LICENSE.txt").read_text(encoding="utf-8")


def readme(kernels: str) -> str:
    return fill(HERE / "README.txt.in", BUNDLE=BUNDLE, RUN=RUN, PACKAGE=PACKAGE, VERSION=HOST_VERSION, KERNEL=kernels)


def make_zip(target: Path, tree: Path) -> None:
    part = target.with_suffix(".zip.part")
    with zipfile.ZipFile(part, "w") as archive:
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(path.relative_to(tree).as_posix(), ZIP_DATE)
            info.create_system = 3
            info.external_attr = (0o100000 | (path.stat().st_mode & 0o777)) << 16
            # .run and .deb files are already compressed.
            info.compress_type = zipfile.ZIP_STORED if path.suffix in (".run", ".deb") else zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    part.replace(target)


def make_packages(edition: Edition, folder: Path, work: Path, prebuilt: Prebuilt, source: Path) -> None:
    """Create the .run and the .deb of one driver."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {kernel: stripped(modules, work / f"modules-{edition.kind}" / kernel) for kernel, modules in prebuilt.items()}
    make_run(edition, folder / f"{edition.run}.run", work, small, source)
    make_deb(edition, folder / f"{edition.package}_{edition.version}_amd64.deb", work, small, source)


def check(prebuilt: Prebuilt, source: Path) -> None:
    """Check the modules and the source. Raises Problem."""
    for module in (m for modules in prebuilt.values() for m in modules):
        if not module.is_file() or module.suffix != ".ko":
            raise Problem(f"{module} is not a kernel module.")
    if not all("nvidia" in (m.stem for m in modules) for modules in prebuilt.values()):
        raise Problem("The modules do not include nvidia.ko.")
    if not (source / "Makefile").is_file():
        raise Problem(f"{source} has no Makefile (expected: the source directory of the modules).")


def build(outdir: Path, prebuilt: Prebuilt, source: Path, guest: tuple[Prebuilt, Path] | None = None) -> Path:
    """Build the bundle in outdir and return the path of the zip.  guest: modules and source of the guest driver.  Raises Problem."""
    for name in ("makeself", "dpkg-deb"):
        if not shutil.which(name):
            raise Problem(f"{name} is not installed.")
    check(prebuilt, source)
    if guest:
        check(*guest)
    outdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vgpu-bundle-") as name:
        work = Path(name)
        tree = work / "bundle"
        make_packages(editions.HOST, tree / "Host_Drivers", work, prebuilt, source)
        if guest:
            make_packages(editions.GUEST, tree / "Guest_Drivers", work, *guest)
        write(tree / "Guest_Drivers/README.txt", f"A guest driver for Windows ({WINDOWS_VERSION}) is not part of this bundle.\n")
        write(tree / "LICENSE.txt", licence())
        write(tree / "README.txt", readme(", ".join(prebuilt)))
        target = outdir / f"{BUNDLE}.zip"
        make_zip(target, tree)
    return target


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Create the driver bundle for the twin.")
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--module", required=True, action="append", help="comma-separated compiled modules, in the order of loading")
    parser.add_argument("--kernel-version", required=True, action="append", help="kernel for which the modules were compiled")
    parser.add_argument("--source", required=True, type=Path, help="directory with the source and the Makefile of the modules")
    parser.add_argument("--guest-module", action="append", default=[], help="the guest driver's module, once for each --kernel-version")
    parser.add_argument("--guest-source", type=Path, help="directory with the source and the Makefile of the guest driver's module")
    args = parser.parse_args(argv)
    try:
        if len(args.module) != len(args.kernel_version):
            raise Problem("Each --module option requires a --kernel-version option.")
        prebuilt = {kernel: [Path(m) for m in names.split(",")] for kernel, names in zip(args.kernel_version, args.module)}
        guest = None
        if args.guest_source:
            if len(args.guest_module) != len(args.kernel_version):
                raise Problem("Each --guest-module option requires a --kernel-version option.")
            guest = {kernel: [Path(module)] for kernel, module in zip(args.kernel_version, args.guest_module)}, args.guest_source
        print(build(args.outdir, prebuilt, args.source, guest))
    except Problem as problem:
        print(f"build_bundle: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
