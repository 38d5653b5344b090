# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Create a driver's .run in another version from a bundle, for tests of upgrades.

    other_version.py BUNDLE.zip host|guest VERSION OUTDIR

prints the path of OUTDIR/NVIDIA-Linux-x86_64-VERSION-vgpu-kvm.run (…-grid.run). Only the version differs in all files, including compiled modules.
VERSION must have the same length as the bundle's version (550.144.02 for 550.163.02).
"""
from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import build_bundle  # noqa: E402  (the directory is not a package)
import editions  # noqa: E402
from build_bundle import Problem  # noqa: E402


EDITIONS = {"host": editions.HOST, "guest": editions.GUEST}


def make(bundle: Path, kind: str, version: str, outdir: Path) -> Path:
    """Create the .run of that version and return its path. Raises Problem."""
    edition = EDITIONS[kind]
    old = edition.version
    if len(version) != len(old) or version == old:
        raise Problem(f"{version} must differ from {old} and must have the same length.")
    target = outdir / f"{edition.run.replace(old, version)}.run"
    with tempfile.TemporaryDirectory(prefix="vgpu-bundle-") as name:
        work = Path(name)
        with zipfile.ZipFile(bundle) as archive:
            found = [one for one in archive.namelist() if one.endswith(f"/{edition.run}.run")]
            if len(found) != 1:
                raise Problem(f"{bundle} does not contain {edition.run}.run.")
            archive.extract(found[0], work)
        tree = work / target.stem
        unpack = ["sh", str(work / found[0]), "--extract-only", "--target", str(tree)]
        subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"})
        for path in (p for p in tree.rglob("*") if p.is_file()):
            mode = path.stat().st_mode
            path.write_bytes(path.read_bytes().replace(old.encode(), version.encode()))
            path.chmod(mode)
        outdir.mkdir(parents=True, exist_ok=True)
        build_bundle.pack_run(tree, target, work, f"NVIDIA {edition.title} {version}")
    return target


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[2] not in EDITIONS:
        sys.exit(__doc__)
    try:
        print(make(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])))
    except Problem as problem:
        sys.exit(f"other_version: {problem}")
