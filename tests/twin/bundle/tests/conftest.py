# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures of the bundle's tests: a bundle, which is built once, and file trees of machines."""
from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

BUNDLE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BUNDLE), str(BUNDLE / "tests")]

import build_bundle  # noqa: E402  (the directory is not a package)
from bundle_support import KERNEL, FakeHost, run  # noqa: E402


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A source directory that `make` can build, and two placeholder modules."""
    for name in ("makeself", "dpkg-deb"):
        if not shutil.which(name):
            pytest.fail(f"{name} is not installed")
    top = tmp_path_factory.mktemp("inputs")
    source = top / "source"
    source.mkdir()
    (source / "Makefile").write_text("all:\n\techo built for $(KERNEL_UNAME) with $(KDIR) > nvidia.ko\n\tcp nvidia.ko nvidia_vgpu_vfio.ko\n")
    (source / "nvidia.c").write_text("/* source */\n")
    (source / "nvidia.o").write_text("left over\n")
    (source / "nvidia.mod.c").write_text("left over\n")
    modules = []
    for name in ("nvidia", "nvidia_vgpu_vfio"):
        module = top / f"{name}.ko"
        module.write_bytes(name.encode() * 5000)
        modules.append(module)
    return modules, source


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, inputs):
    """Return the path of a built zip."""
    modules, source = inputs
    return build_bundle.build(tmp_path_factory.mktemp("out"), {KERNEL: modules}, source, ({KERNEL: modules[:1]}, source))


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory, bundle):
    top = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(top)
    return top


@pytest.fixture(scope="session")
def dot_run(unpacked):
    return unpacked / "Host_Drivers" / f"{build_bundle.RUN}.run"


@pytest.fixture
def machine(tmp_path):
    """Return the tree of an empty machine with one kernel."""
    root = tmp_path / "machine"
    for path in (f"lib/modules/{KERNEL}", "usr/bin", "etc", "var/log", "sys/module"):
        (root / path).mkdir(parents=True)
    return root


@pytest.fixture(scope="session")
def tools(dot_run, tmp_path_factory):
    """Return the directory with the installed programs from the .run."""
    top = tmp_path_factory.mktemp("tools") / "unpacked"
    assert run("sh", dot_run, "-x", "--target", top).returncode == 0
    return top / "tools"


@pytest.fixture
def host(tmp_path):
    """Return a host with two A40s that are bound to nvidia. The first A40 has two VFs."""
    return FakeHost(tmp_path / "host")
