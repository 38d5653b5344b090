# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests with the real rpm on a root directory. rpmbuild built its packages, which have names from the CUDA repository and from RPM Fusion."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import packages
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import run as run_program
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context

pytestmark = pytest.mark.skipif(not shutil.which("rpmbuild"), reason="requires rpmbuild")
SPEC = """Name: %s
Version: 550.163
Release: 1
Summary: A test
License: GPL
BuildArch: noarch
%%description
A test.
%%files
"""


def tree(folder, *names):
    """Creates a root directory in which rpm has installed empty packages with these names. Returns the context of a host with that root."""
    root = folder / "root"
    root.mkdir()
    subprocess.run(["rpm", "--root", str(root), "--initdb"], check=True, capture_output=True)
    for name in names:
        spec = folder / (name + ".spec")
        spec.write_text(SPEC % name, encoding="utf-8")
        subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", "_topdir %s" % folder, str(spec)], check=True, capture_output=True)
    built = [str(path) for path in folder.glob("RPMS/noarch/*.rpm")]
    if built:
        subprocess.run(["rpm", "--root", str(root), "--install", "--nodeps", *built], check=True, capture_output=True)

    def command(argv, timeout):
        return run_program([argv[0], "--root", str(root), *argv[1:]] if argv[0] == "rpm" else ["/nonexistent"], timeout)

    return Context(str(root), command=command)


@pytest.mark.parametrize(
    ("names", "removal"),
    [
        (("nvidia-driver-cuda", "kmod-nvidia-latest-dkms", "bash"), "dnf remove kmod-nvidia-latest-dkms nvidia-driver-cuda"),
        (("akmod-nvidia", "xorg-x11-drv-nvidia-libs"), "dnf remove akmod-nvidia xorg-x11-drv-nvidia-libs"),
        (("NVIDIA-vGPU-rhel", "nvidia-linux-grid-550", "nvidia-container-toolkit"), None),
        ((), None),
    ],
)
def test_the_command_that_removes_them(tmp_path, names, removal):
    ctx = tree(tmp_path, *names)
    found = packages.removal(ctx, "550.163")
    assert (found and " ".join(found)) == removal
    assert not found or packages.installed(ctx, found) == found[2:]


def test_the_package_of_ours_and_libraries_of_another_version(tmp_path):
    ctx = tree(tmp_path, "NVIDIA-vGPU-rhel", "kmod-nvidia", "libcuda")
    assert packages.removal(ctx, "550.163", ours=True) == ["dnf", "remove", "NVIDIA-vGPU-rhel"]
    assert packages.removal(ctx, "550.163") == ["dnf", "remove", "kmod-nvidia", "libcuda"]
    assert packages.removal(ctx, "550.200") == ["dnf", "remove", "kmod-nvidia"]
