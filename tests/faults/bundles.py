# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Creates driver bundles for installation faults: copies of the twin's bundle, complete or with a truncated .run file."""

from __future__ import annotations

import shlex
import shutil
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / ".build" / "faults" / "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
PREPARE = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).resolve()))}"


def make(source: Path, cut_run: bool) -> None:
    """Copy the bundle `source`. With `cut_run`, truncate its host .run files to half their size."""
    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    if not cut_run:
        shutil.copyfile(source, BUNDLE)
        return
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(BUNDLE, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = old.read(item)
            new.writestr(item, data[: len(data) // 2] if item.filename.endswith("vgpu-kvm.run") else data)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests" / "system"))
    from support import launcher

    make(Path(launcher("bundle").strip().splitlines()[-1]), "--cut-run" in sys.argv[1:])
