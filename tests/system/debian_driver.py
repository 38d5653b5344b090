# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Builds packages with the names of Debian 12's NVIDIA driver (non-free, 535.261.03) and a module that the twin can load.

Debian defines the names, versions, dependencies, module name, modprobe lines, and the file that stops NVIDIA's installer. The content of the files
is a placeholder, because Debian's module would not find an emulated GPU.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from support import Twin

FOLDER = "/root/debian-driver"
ALTERNATE = "/usr/lib/nvidia/alternate-install-present"


@dataclass
class Package:
    """A package to build.

    files: file contents by path; None stands for the kernel module. depends: names of packages that must have the same version.
    others: names of packages in any version.
    """

    name: str
    files: dict[str, str | None]
    depends: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    version: str | None = None


@dataclass
class Driver:
    """The packages of one driver version for one kernel."""

    version: str
    kernel: str
    packages: list[Package] = field(default_factory=list)

    def __post_init__(self) -> None:
        modprobe = "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\nremove nvidia modprobe -r -i nvidia-current\n"
        self.packages = [
            Package("nvidia-installer-cleanup", {ALTERNATE: ""}, version="20220217+3~deb12u1"),
            Package("nvidia-kernel-common", {"/usr/share/nvidia-kernel-common/README": ""}, version="20220217+3~deb12u1"),
            Package("nvidia-kernel-support", {
                "/etc/modprobe.d/nvidia.conf": modprobe,
                "/etc/modprobe.d/nvidia-blacklists-nouveau.conf": "blacklist nouveau\n",
            }, others=("nvidia-kernel-common",)),
            Package("nvidia-kernel-dkms", {f"/lib/modules/{self.kernel}/updates/dkms/nvidia-current.ko": None}, ("nvidia-kernel-support",),
                    ("nvidia-installer-cleanup",)),
            Package("libnvidia-ml1", {"/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1": "no library\n"}),
            Package("nvidia-driver", {"/usr/share/bug/nvidia-driver/control": ""}, ("nvidia-kernel-dkms", "libnvidia-ml1")),
            # A package that depends on a library of the driver, but is not part of it.
            Package("nvtop", {"/usr/share/nvtop/README": ""}, others=("libnvidia-ml1",), version="3.0.1-1"),
        ]

    @property
    def names(self) -> list[str]:
        """Return the names of all packages that are removed with the driver."""
        return sorted(one.name for one in self.packages)


def build(twin: Twin, driver: Driver, module: str) -> None:
    """Build the packages on the machine, in FOLDER. module: path of the kernel module on the machine."""
    lines = [f"rm -rf {FOLDER}; mkdir -p {FOLDER}"]
    for one in driver.packages:
        version = one.version or f"{driver.version}-1"
        top = f"{FOLDER}/{one.name}"
        depends = [f"{name} (= {version})" for name in one.depends] + list(one.others)
        control = {
            "Package": one.name, "Version": version, "Architecture": "amd64", "Maintainer": "The vgpu.kvm authors <noreply@example.invalid>",
            "Section": "non-free/libs", "Depends": ", ".join(depends), "Description": "made for a test after Debian's package of this name",
        }
        text = "".join(f"{key}: {value}\n" for key, value in control.items() if value)
        lines.append(f"mkdir -p {top}/DEBIAN; printf %s {shlex.quote(text)} > {top}/DEBIAN/control")
        for path, content in one.files.items():
            make = f"cp {module} {top}{path}" if content is None else f"printf %s {shlex.quote(content)} > {top}{path}"
            lines.append(f"mkdir -p $(dirname {top}{path}); {make}")
        if None in one.files.values():
            script = "#!/bin/sh\ndepmod -a\n"
            lines.append(f"for name in postinst postrm; do printf %s {shlex.quote(script)} > {top}/DEBIAN/$name; chmod 755 {top}/DEBIAN/$name; done")
        lines.append(f"dpkg-deb --build --root-owner-group {top} {FOLDER} > /dev/null")
    twin.sh("set -e; " + "; ".join(lines))
