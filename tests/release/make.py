# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Creates the files of a release in .build/release: the artifact, built from the files that git would track, and a CycloneDX list of pinned tools.

The script needs the tools of requirements/release.txt in the environment of this Python. It prints the paths of the files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / ".build" / "release"
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import mirror  # noqa: E402  (the line above extends sys.path)

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s#;]+)", re.MULTILINE)


def tool(name: str) -> str:
    """Return the path of a program in the environment of this Python."""
    return str(Path(sys.executable).parent / name)


def environment(**more: str) -> dict[str, str]:
    """Return the environment for Ansible's tools: without the user's own settings of Ansible, and with this Python's programs first on PATH."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, "PATH": path, "LC_ALL": "C.UTF-8", **more}


def artifact(folder: Path) -> Path:
    """Build the artifact into *folder*, from a copy with only the files that git would track."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("vgpu-kvm-*.tar.gz"):
        old.unlink()
    with tempfile.TemporaryDirectory() as base:
        copy = mirror.make(Path(base))
        command = [tool("ansible-galaxy"), "collection", "build", "--output-path", str(folder)]
        subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL, env=environment(ANSIBLE_HOME=base))
    (made,) = folder.glob("vgpu-kvm-*.tar.gz")
    return made


def pins() -> list[tuple[str, str]]:
    """Return (name, version) of each tool whose version requirements/ pins."""
    files = [ROOT / "requirements" / "constraints.txt", *sorted((ROOT / "requirements").glob("core-*.txt"))]
    return sorted({pin for file in files for pin in _PIN.findall(file.read_text(encoding="utf-8"))})


def names(folder: str) -> list[str]:
    """Return the names of the modules, roles or playbooks in a *folder* of the repository."""
    return sorted("vgpu.kvm." + path.stem for path in (ROOT / folder).iterdir() if path.is_dir() or path.suffix in (".py", ".yml"))


def sbom(folder: Path) -> Path:
    """Write the pinned versions as CycloneDX JSON into *folder*. The same versions always produce the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "sbom.cdx.json"
    text = "".join(f"{name}=={version}\n" for name, version in pins())
    command = [tool("cyclonedx-py"), "requirements", "--output-reproducible", "--output-format", "JSON", "--output-file", str(made), "-"]
    subprocess.run(command, input=text, text=True, check=True)
    return made


if __name__ == "__main__":
    print(artifact(RELEASE))
    print(sbom(RELEASE))
