# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the packages of a distribution's driver are found in the output of dpkg and rpm."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import packages
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context

NONE = Result(127, "not there")
NOISE = "ERROR: ld.so: object '/opt/agent.so' from /etc/ld.so.preload cannot be preloaded: ignored.\n"


@pytest.mark.parametrize(
    ("dpkg", "rpm", "removal"),
    [
        (Result(1, "ii  nvidia-driver-550 550.1-0ubuntu1\nrc  nvidia-driver-535 535.2-1\nun  nvidia-dkms \n"), NONE, "apt-get purge nvidia-driver-550"),
        (
            Result(0, "hi  nvidia-driver-550 550.1-1\nhi  nvidia-dkms-550 550.1-1\n"), NONE,
            "apt-get purge --allow-change-held-packages nvidia-dkms-550 nvidia-driver-550",
        ),
        (Result(0, "iU  nvidia-driver-550 550.1-1\niF  nvidia-dkms-550 550.1-1\n"), NONE, "apt-get purge nvidia-dkms-550 nvidia-driver-550"),
        (Result(1, NOISE + "dpkg-query: no packages found matching nvidia-driver*\n"), Result(0, NOISE), None),
        (
            Result(0, "ii  nvidia-driver 1:550.1-1\nii  libnvidia-ml1:amd64 550.1-1~deb12u1\nii  libnvidia-container1 1.17.4-1\nii  nvidia-smi 535.1-1\n"),
            NONE,
            "apt-get purge libnvidia-ml1:amd64 nvidia-driver",
        ),
        (Result(0, "ii  libnvidia-ml1:amd64 550.1-1\nii  nvidia-container-toolkit 550.1-1\n"), NONE, None),
        (Result(0, "ii  nvidia-vgpu-ubuntu-550 550.1\n"), NONE, None),
        (
            NONE,
            Result(0, "warning: Found bdb_ro Packages database while attempting sqlite backend\nkmod-nvidia 550.1\nlibcuda 550.1\nNVIDIA-vGPU-rhel 550.1\n"),
            "dnf remove kmod-nvidia libcuda",
        ),
        (NONE, Result(0, ""), None),
    ],
)
def test_the_command_that_removes_them(tmp_path, dpkg, rpm, removal):
    """The command removes the driver packages and the libraries with the same version."""
    answers = {"dpkg-query": dpkg, "rpm": rpm}
    ctx = Context(str(tmp_path), command=lambda argv, timeout: answers[argv[0]])
    found = packages.removal(ctx, "550.1")
    assert (found and " ".join(found)) == removal


@pytest.mark.parametrize(
    ("dpkg", "rpm", "removal"),
    [
        (Result(0, "ii  nvidia-vgpu-ubuntu-550 550.1\nii  nvidia-kernel-common 20220217-3\n"), NONE, "apt-get purge nvidia-vgpu-ubuntu-550"),
        (NONE, Result(0, "NVIDIA-vGPU-rhel 550.1\nkmod-nvidia 550.1\n"), "dnf remove NVIDIA-vGPU-rhel"),
        (NONE, NONE, None),
    ],
)
def test_the_command_that_removes_our_package(tmp_path, dpkg, rpm, removal):
    answers = {"dpkg-query": dpkg, "rpm": rpm}
    ctx = Context(str(tmp_path), command=lambda argv, timeout: answers[argv[0]])
    found = packages.removal(ctx, "550.1", ours=True)
    assert (found and " ".join(found)) == removal
    assert not found or packages.installed(ctx, found) == found[2:]


# Real output of dnf 4.14 (Debian 12) for packages from rpmbuild, and two constructed outputs: a name that is too long for its column, and dnf 5.
REAL = """Unable to detect release version (use '--releasever' to specify release version)
Dependencies resolved.
================================================================================
 Package                       Architecture Version         Repository     Size
================================================================================
Removing:
 kmod-nvidia-latest-dkms       noarch       550.163-1       @System         0\x20\x20
 nvidia-driver                 noarch       550.163-1       @System         0\x20\x20
Removing dependent packages:
 nvidia-driver-cuda            noarch       550.163-1       @System         0\x20\x20

Transaction Summary
================================================================================
Remove  3 Packages

Freed space: 0\x20\x20
Operation aborted.
"""
DNF4 = """Dependencies resolved.
================================================================================
 Package                Architecture  Version               Repository     Size
================================================================================
Removing:
 kmod-nvidia            x86_64        3:550.1-1.el9         @cuda          50 M
Removing dependent packages:
 xorg-x11-drv-nvidia-cuda-libs-of-a-long-name
                        x86_64        3:550.1-1.el9         @cuda         100 M
Removing unused dependencies:
 egl-wayland            noarch        1.1.9-3.el9           @appstream     80 k

Transaction Summary
================================================================================
Remove  3 Packages

Freed space: 150 M
Operation aborted.
"""
DNF5 = """Package              Arch   Version        Repository      Size
Removing:
 kmod-nvidia         x86_64 3:550.1-1.fc41 cuda        50.0 MiB
Transaction Summary:
 Removing:           1 package
Operation aborted by the user.
"""


@pytest.mark.parametrize(
    ("command", "answer", "expected"),
    [
        ("dnf remove nvidia-driver kmod-nvidia-latest-dkms", Result(1, REAL), (["kmod-nvidia-latest-dkms", "nvidia-driver", "nvidia-driver-cuda"], "")),
        ("dnf remove kmod-nvidia", Result(1, DNF4), (["egl-wayland", "kmod-nvidia", "xorg-x11-drv-nvidia-cuda-libs-of-a-long-name"], "")),
        ("dnf remove kmod-nvidia", Result(1, DNF5), (["kmod-nvidia"], "")),
        ("dnf remove kmod-nvidia", Result(1, "Error: This command has to be run with superuser privileges\n"),
         ([], "Error: This command has to be run with superuser privileges")),
        ("apt-get purge nvidia-driver", Result(0, NOISE + "Purg nvtop [3.0]\nPurg nvidia-driver [550.1-1]\nRemv libcuda1:i386 [550.1-1]\n"),
         (["libcuda1:i386", "nvidia-driver", "nvtop"], "")),
        ("apt-get purge nvidia-driver", Result(100, "E: held broken packages\n"), ([], "E: held broken packages")),
        ("apt-get purge nvidia-driver", Result(127, ""), ([], "no output")),
    ],
)
def test_what_a_removal_removes(tmp_path, command, answer, expected):
    calls = []
    ctx = Context(str(tmp_path), command=lambda argv, timeout: (calls.append(argv), answer)[1])
    assert packages.foreseen(ctx, command.split()) == expected
    assert calls[0][:2] in (["apt-get", "--simulate"], ["dnf", "--assumeno"]), "the command must only simulate the removal"
