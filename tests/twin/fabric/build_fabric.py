# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Make the packages of Fabric Manager that the twin serves, and the index that apt needs to take them from a directory.

    build_fabric.py OUTDIR --version VERSION --library libnvfm.so.1

writes two packages, named as NVIDIA's repository names those of the version's branch, and the file Packages. The same inputs give the same bytes.
Needs dpkg-deb. Exit status 1 with a sentence when it is missing.
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

import build_bundle  # noqa: E402  (the folder is no package)
from build_bundle import Problem, write  # noqa: E402

CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvfm.so.1"
UNSUFFIXED = 580  # from this branch on the packages' names are without it
RELOAD = "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n"


def branch(version: str) -> int:
    """550 of 550.163.02."""
    return int(version.split(".", 1)[0])


def names(version: str) -> tuple[str, str]:
    """Of the service's package and of the library's."""
    suffix = f"-{branch(version)}" if branch(version) < UNSUFFIXED else ""
    return f"nvidia-fabricmanager{suffix}", f"nvidia-fabricmanager-dev{suffix}"


def program(version: str) -> str:
    """nv-fabricmanager; its first line is from here, as in the bundle."""
    text = (HERE / "nv-fabricmanager").read_text(encoding="utf-8").replace("@VERSION@", version)
    return f"#!/usr/bin/python3 -ISE\n{text}"


def control(name: str, version: str, depends: str, description: str) -> str:
    """A package's control file."""
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
    """Packages, which apt reads."""
    entries = []
    for package in packages:
        with tempfile.TemporaryDirectory() as name:
            build_bundle.call("dpkg-deb", "--control", package, Path(name) / "DEBIAN")
            text = (Path(name) / "DEBIAN/control").read_text(encoding="utf-8")
        data = package.read_bytes()
        entries.append(f"{text}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
    write(outdir / "Packages", "\n".join(entries))


def build(outdir: Path, version: str, library: Path) -> list[Path]:
    """Make both packages and the index in outdir; raises Problem."""
    if not shutil.which("dpkg-deb"):
        raise Problem("dpkg-deb is not installed.")
    if not library.is_file():
        raise Problem(f"{library} is not there.")
    outdir.mkdir(parents=True, exist_ok=True)
    service, development = names(version)
    with tempfile.TemporaryDirectory(prefix="vgpu-fabric-") as name:
        tree = Path(name) / service
        write(tree / "usr/bin/nv-fabricmanager", program(version), 0o755)
        for source, path in ((HERE / "fabricmanager.cfg", CONFIG), (HERE / "nvidia-fabricmanager.service", "/lib/systemd/system/nvidia-fabricmanager.service")):
            write(tree / path.lstrip("/"), source.read_bytes())
        write(tree / "DEBIAN/control", control(service, version, "python3", "Fabric Manager for NVSwitch based systems, without a switch"))
        write(tree / "DEBIAN/conffiles", f"{CONFIG}\n")
        for script in ("postinst", "postrm"):  # neither enables nor starts the service, as the vendor's do not
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
