# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Provides a user's computer for the tutorials: an empty home directory, the user's downloads, a small Galaxy, and hosts of the fleet's test bed.

The pages run as printed, because only environment variables redirect the commands. ANSIBLE_GALAXY_SERVER is the small Galaxy, ANSIBLE_TRANSPORT is the
connection to the hosts of the test bed, git replaces the repository's URL with this clone, and pip installs only the tested ansible-core.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for _folder in ("tutorials", "fleet", "release", "awx"):
    sys.path.insert(0, str(ROOT / "tests" / _folder))

import make  # noqa: E402  (the lines above extend sys.path)
from galaxy import Galaxy  # noqa: E402
from page import Shell  # noqa: E402

REPOSITORY = "https://github.com/vgpu-kvm/vgpu.kvm"
BUNDLE = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
DRIVERS = ("Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run")


def awx_collection(folder: Path) -> Path:
    """Pack the collection awx.awx from the package ansible in this Python's environment. That package does not contain the collection's tests."""
    (source,) = Path(sys.prefix).glob("lib/python*/site-packages/ansible_collections/awx/awx")
    files, manifest = (json.loads((source / name).read_text(encoding="utf-8")) for name in ("FILES.json", "MANIFEST.json"))
    files["files"] = [one for one in files["files"] if (source / one["name"]).exists()]
    listed = json.dumps(files).encode()
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(listed).hexdigest()
    target = folder / f"awx-awx-{manifest['collection_info']['version']}.tar.gz"
    with tarfile.open(target, "w:gz") as tar:
        for name, content in (("MANIFEST.json", json.dumps(manifest).encode()), ("FILES.json", listed)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for one in files["files"]:
            tar.add(source / one["name"], arcname=one["name"], recursive=False)
    return target


@pytest.fixture(scope="session")
def galaxy() -> Iterator[Galaxy]:
    """Run a Galaxy that serves the artifact of this clone."""
    with Galaxy(make.artifact(make.RELEASE)) as one:
        yield one


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the user's home directory: empty, except for the downloaded files and this computer's pip configuration, if it has one."""
    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    with zipfile.ZipFile(downloads / BUNDLE, "w") as bundle:
        for name in DRIVERS:
            bundle.writestr(name, "#!/bin/sh\n")
    settings = Path.home() / ".config" / "pip" / "pip.conf"
    if settings.is_file():
        (tmp_path / ".config" / "pip").mkdir(parents=True)
        shutil.copy(settings, tmp_path / ".config" / "pip" / "pip.conf")
    return tmp_path


@pytest.fixture
def environment(home: Path, galaxy: Galaxy) -> dict[str, str]:
    """Return the environment of the user's shells."""
    kept = {name: value for name, value in os.environ.items() if name.upper().startswith("PIP_") or name.lower().endswith("_proxy")}
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if one != str(Path(sys.executable).parent))
    return {
        **kept, "HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_GALAXY_SERVER": galaxy.url,
        "PIP_CONSTRAINT": str(ROOT / "requirements" / "core-2.19.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CACHE_DIR": str(ROOT / ".build" / "pip-cache"),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf", "GIT_CONFIG_VALUE_0": REPOSITORY,
    }


@pytest.fixture
def shell(home: Path, environment: dict[str, str]) -> Iterator[Callable[..., Shell]]:
    """Return a function that starts fresh shells in the home directory, with *more* in their environment. All shells exit after the test."""
    running: list[Shell] = []

    def start(seconds: int = 1800, **more: str) -> Shell:
        running.append(Shell(home, {**environment, **more}, seconds))
        return running[-1]

    yield start
    for one in running:
        one.close()
