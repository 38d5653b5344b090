# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Make the driver bundle that the twin serves, in the layout of NVIDIA's.

    build_bundle.py OUTDIR --module nvidia.ko[,nvidia_vgpu_vfio.ko] --kernel-version KVER --source DIR

(--module and --kernel-version again for each further kernel that it brings prebuilt modules for)

writes OUTDIR/NVIDIA-GRID-Linux-KVM-<host>-<linux guest>-<windows guest>.zip and prints its path.
The same inputs give the same bytes.  Needs makeself and dpkg-deb.  Exit status 1 with a
sentence when an input or a tool is missing.
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

HOST_VERSION = "550.163.02"
GUEST_VERSION = "550.163.01"
WINDOWS_VERSION = "553.74"
FLAVOUR = "vgpu-kvm"
PACKAGE = f"nvidia-vgpu-ubuntu-{HOST_VERSION.partition('.')[0]}"
BUNDLE = f"NVIDIA-GRID-Linux-KVM-{HOST_VERSION}-{GUEST_VERSION}-{WINDOWS_VERSION}"
RUN = f"NVIDIA-Linux-x86_64-{HOST_VERSION}-{FLAVOUR}"

# One moment for every file in it, so that a second build has the same checksum.
STAMP = 1744675200
DATE = "Tue Apr 15 00:00:00 UTC 2025"
ZIP_DATE = (2025, 4, 15, 0, 0, 0)

HERE = Path(__file__).resolve().parent
HOST = HERE / "host"
sys.path.insert(0, str(HERE.parent))

from twinlib import models as gpu_models  # noqa: E402  (the folder is no package)

VGPU_CONFIG = "share/vgpuConfig.xml"  # made from the twin's models

# mode, source below host/, path on the machine
FILES = (
    ("0755", "tools/nvidia-smi", "/usr/bin/nvidia-smi"),
    ("0755", "tools/nvidia-vgpud", "/usr/bin/nvidia-vgpud"),
    ("0755", "tools/nvidia-vgpu-mgr", "/usr/bin/nvidia-vgpu-mgr"),
    ("0755", "tools/sriov-manage", "/usr/lib/nvidia/sriov-manage"),
    ("0644", VGPU_CONFIG, "/usr/share/nvidia/vgpu/vgpuConfig.xml"),
    ("0644", "units/nvidia-vgpud.service", "/usr/lib/systemd/system/nvidia-vgpud.service"),
    ("0644", "units/nvidia-vgpu-mgr.service", "/usr/lib/systemd/system/nvidia-vgpu-mgr.service"),
)
# Where a distribution's package says that the driver is its business, not the installer's.
ALTERNATE = "/usr/lib/nvidia/alternate-install-present"
Prebuilt = Dict[str, List[Path]]  # by kernel
SOURCE_SUFFIXES = (".c", ".h", ".S", ".mk")
SOURCE_NAMES = ("Makefile", "Kbuild")


class Problem(Exception):
    """An input or a tool that is missing, as a sentence."""


def write(path: Path, text: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


def fill(path: Path, **values: str) -> str:
    """The text of a file with its @NAME@ replaced."""
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def freeze(tree: Path) -> None:
    """Give everything below tree one modification time and no group or other write bit."""
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
    """What is needed to build the modules: no build products, no hidden files."""
    return sorted(
        p for p in source.rglob("*")
        if p.is_file() and (p.suffix in SOURCE_SUFFIXES or p.name in SOURCE_NAMES)
        and not p.name.endswith(".mod.c") and not any(part.startswith(".") for part in p.relative_to(source).parts)
    )


def dkms_conf(modules: list[str]) -> str:
    built = "\n".join(
        f'BUILT_MODULE_NAME[{i}]="{name}"\nDEST_MODULE_LOCATION[{i}]="/kernel/drivers/video"' for i, name in enumerate(modules)
    )
    return fill(HOST / "installer/dkms.conf.in", VERSION=HOST_VERSION, BUILT=built)


def copy_source(source: Path, modules: list[str], target: Path) -> None:
    for path in source_files(source):
        write(target / path.relative_to(source), path.read_bytes())
    write(target / "dkms.conf", dkms_conf(modules))


def stripped(modules: list[Path], folder: Path) -> list[Path]:
    """Copies of the modules without debug information: a twelfth of the size, and an emulated machine reads them."""
    copies = []
    for module in modules:
        copy = folder / module.name
        write(copy, module.read_bytes())
        if copy.read_bytes().startswith(b"\x7fELF") and shutil.which("strip"):
            call("strip", "--strip-debug", "--enable-deterministic-archives", copy)
        copies.append(copy)
    return copies


def tool(name: str) -> str:
    return gpu_models.vgpu_config() if name == VGPU_CONFIG else fill(HOST / name, VERSION=HOST_VERSION)


def names_of(prebuilt: Prebuilt) -> list[str]:
    """The modules, in the order to load them; the same for each kernel."""
    return [m.stem for m in next(iter(prebuilt.values()))]


def stage_run(tree: Path, prebuilt: Prebuilt, source: Path) -> None:
    """What is inside the .run: the installer, MANIFEST and what it names, module source, prebuilt modules."""
    names = names_of(prebuilt)
    installer = fill(HOST / "installer/nvidia-installer", VERSION=HOST_VERSION, FLAVOUR=FLAVOUR, MODULES=" ".join(names))
    write(tree / "nvidia-installer", installer, 0o755)
    manifest = ["0755 nvidia-installer /usr/bin/nvidia-installer"]
    for mode, name, path in FILES:
        write(tree / name, tool(name), int(mode, 8))
        manifest.append(f"{mode} {name} {path}")
    write(tree / "MANIFEST", "\n".join(manifest) + "\n")
    write(tree / "LICENSE", licence())
    copy_source(source, names, tree / "kernel")
    for kernel, modules in prebuilt.items():
        for module in modules:
            write(tree / "prebuilt" / kernel / module.name, module.read_bytes())


def make_run(target: Path, work: Path, prebuilt: Prebuilt, source: Path) -> None:
    tree = work / RUN
    stage_run(tree, prebuilt, source)
    freeze(tree)
    call(
        "makeself", "--quiet", "--nox11", "--nomd5", "--nocrc", "--sha256", "--gzip", "--complevel", "9n",
        "--tar-extra", f"--mtime=@{STAMP} --owner=0 --group=0 --numeric-owner",
        "--packaging-date", DATE, "--header", HOST / "installer/makeself-header.in",
        tree, target, f"NVIDIA vGPU host driver for Linux KVM {HOST_VERSION}", "nvidia-installer", TMPDIR=str(work),
    )
    target.chmod(0o755)


def make_deb(target: Path, work: Path, prebuilt: Prebuilt, source: Path) -> None:
    tree = work / "deb"
    values = {"VERSION": HOST_VERSION, "KERNELS": " ".join(prebuilt), "PACKAGE": PACKAGE}
    for mode, name, path in FILES:
        write(tree / path.lstrip("/"), tool(name), int(mode, 8))
    write(tree / ALTERNATE.lstrip("/"), f"{PACKAGE}\n")
    write(tree / f"usr/share/doc/{PACKAGE}/copyright", licence())
    copy_source(source, names_of(prebuilt), tree / f"usr/src/nvidia-{HOST_VERSION}")
    for kernel, modules in prebuilt.items():
        for module in modules:
            write(tree / f"lib/modules/{kernel}/kernel/drivers/video" / module.name, module.read_bytes())
    write(tree / "DEBIAN/control", fill(HOST / "deb/control.in", **values))
    for script in ("preinst", "postinst", "prerm", "postrm"):
        write(tree / "DEBIAN" / script, fill(HOST / f"deb/{script}.in", **values), 0o755)
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
            # .run and .deb are compressed already.
            info.compress_type = zipfile.ZIP_STORED if path.suffix in (".run", ".deb") else zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    part.replace(target)


def build(outdir: Path, prebuilt: Prebuilt, source: Path) -> Path:
    """Make the bundle in outdir; returns the zip's path.  Raises Problem."""
    for name in ("makeself", "dpkg-deb"):
        if not shutil.which(name):
            raise Problem(f"{name} is not installed.")
    for module in (m for modules in prebuilt.values() for m in modules):
        if not module.is_file() or module.suffix != ".ko":
            raise Problem(f"{module} is not a kernel module.")
    if not all("nvidia" in (m.stem for m in modules) for modules in prebuilt.values()):
        raise Problem("There is no nvidia.ko among the modules.")
    if not (source / "Makefile").is_file():
        raise Problem(f"{source} has no Makefile: it is not the modules' source folder.")
    outdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vgpu-bundle-") as name:
        work = Path(name)
        tree = work / "bundle"
        host = tree / "Host_Drivers"
        host.mkdir(parents=True)
        small = {kernel: stripped(modules, work / "modules" / kernel) for kernel, modules in prebuilt.items()}
        make_run(host / f"{RUN}.run", work, small, source)
        make_deb(host / f"{PACKAGE}_{HOST_VERSION}_amd64.deb", work, small, source)
        write(tree / "Guest_Drivers/README.txt", f"Guest drivers ({GUEST_VERSION}, {WINDOWS_VERSION}) are not part of this bundle.\n")
        write(tree / "LICENSE.txt", licence())
        write(tree / "README.txt", readme(", ".join(prebuilt)))
        target = outdir / f"{BUNDLE}.zip"
        make_zip(target, tree)
    return target


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the driver bundle that the twin serves.")
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--module", required=True, action="append", help="compiled modules, comma separated, in the order to load them")
    parser.add_argument("--kernel-version", required=True, action="append", help="the kernel that the modules are for")
    parser.add_argument("--source", required=True, type=Path, help="folder with the modules' source and Makefile")
    args = parser.parse_args(argv)
    try:
        if len(args.module) != len(args.kernel_version):
            raise Problem("Each --module needs its --kernel-version.")
        prebuilt = {kernel: [Path(m) for m in names.split(",")] for kernel, names in zip(args.kernel_version, args.module)}
        print(build(args.outdir, prebuilt, args.source))
    except Problem as problem:
        print(f"build_bundle: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
