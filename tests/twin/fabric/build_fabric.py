# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Build the twin's Fabric Manager packages, and the index that apt requires for a package directory.

    build_fabric.py OUTDIR --version VERSION --library libnvfm.so.1

writes the file Packages and two packages, which have the names in NVIDIA's repository for the version's branch. The same inputs result in the same
bytes. The program requires dpkg-deb. Without it, the program prints a message and exits with status 1.
"""
from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bundle"))

import build_bundle  # noqa: E402  (the directory is not a package)
from build_bundle import Problem, write  # noqa: E402

CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvfm.so.1"
UNSUFFIXED = 580  # package names do not contain the branch from this branch on
RELOAD = "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n"


def branch(version: str) -> int:
    """Return the branch of a version, such as 550 for 550.163.02."""
    return int(version.split(".", 1)[0])


def names(version: str) -> tuple[str, str]:
    """Return the names of the service's package and of the library's package."""
    suffix = f"-{branch(version)}" if branch(version) < UNSUFFIXED else ""
    return f"nvidia-fabricmanager{suffix}", f"nvidia-fabricmanager-dev{suffix}"


def program(version: str) -> str:
    """Return the text of nv-fabricmanager with its interpreter line, which the source lacks (see editions.py)."""
    text = (HERE / "nv-fabricmanager").read_text(encoding="utf-8").replace("@VERSION@", version)
    return f"#!/usr/bin/python3 -ISE\n{text}"


def control(name: str, version: str, depends: str, description: str) -> str:
    """Return a package's control file."""
    fields = {
        "Package": name, "Version": f"{version}-1", "Architecture": "amd64", "Maintainer": "The vgpu.kvm authors <noreply@example.invalid>",
        "Section": "devel", "Priority": "optional", "Depends": depends, "Description": description,
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def make_package(tree: Path, name: str, version: str, outdir: Path) -> Path:
    """Pack a tree."""
    target = outdir / f"{name}_{version}-1_amd64.deb"
    write(tree / f"usr/share/doc/{name}/copyright", build_bundle.licence())
    build_bundle.freeze(tree)
    build_bundle.call("dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z9", tree, target)
    return target


def index(outdir: Path, packages: list[Path]) -> None:
    """Return the index Packages, which apt reads."""
    entries = []
    for package in packages:
        with tempfile.TemporaryDirectory() as name:
            build_bundle.call("dpkg-deb", "--control", package, Path(name) / "DEBIAN")
            text = (Path(name) / "DEBIAN/control").read_text(encoding="utf-8")
        data = package.read_bytes()
        entries.append(f"{text}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
    write(outdir / "Packages", "\n".join(entries))


def build(outdir: Path, version: str, library: Path) -> list[Path]:
    """Build both packages and the index in outdir. Raises Problem."""
    if not shutil.which("dpkg-deb"):
        raise Problem("dpkg-deb is not installed.")
    if not library.is_file():
        raise Problem(f"{library} does not exist.")
    outdir.mkdir(parents=True, exist_ok=True)
    service, development = names(version)
    with tempfile.TemporaryDirectory(prefix="vgpu-fabric-") as name:
        tree = Path(name) / service
        write(tree / "usr/bin/nv-fabricmanager", program(version), 0o755)
        for source, path in ((HERE / "fabricmanager.cfg", CONFIG), (HERE / "nvidia-fabricmanager.service", "/lib/systemd/system/nvidia-fabricmanager.service")):
            write(tree / path.lstrip("/"), source.read_bytes())
        write(tree / "DEBIAN/control", control(service, version, "python3", "Fabric Manager for NVSwitch based systems, without a switch"))
        write(tree / "DEBIAN/conffiles", f"{CONFIG}\n")
        for script in ("postinst", "postrm"):  # the package neither enables nor starts the service, as with the vendor's package
            write(tree / "DEBIAN" / script, RELOAD, 0o755)
        made = [make_package(tree, service, version, outdir)]
        tree = Path(name) / development
        write(tree / LIBRARY.lstrip("/"), library.read_bytes())
        (tree / LIBRARY.lstrip("/")).with_suffix("").symlink_to("libnvfm.so.1")
        for header in sorted((HERE / "include").iterdir()):
            write(tree / "usr/include" / header.name, header.read_bytes())
        write(tree / "DEBIAN/control", control(development, version, "", "Fabric Manager API headers and associated library"))
        write(tree / "DEBIAN/triggers", "activate-noawait ldconfig\n")
        made.append(make_package(tree, development, version, outdir))
    index(outdir, made)
    return made


def main(argv: list[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Make the packages of Fabric Manager that the twin serves.")
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--version", required=True, help="the driver's version")
    parser.add_argument("--library", required=True, type=Path, help="libnvfm.so.1, compiled")
    args = parser.parse_args(argv)
    try:
        print("\n".join(map(str, build(args.outdir, args.version, args.library))))
    except Problem as problem:
        print(f"build_fabric: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
