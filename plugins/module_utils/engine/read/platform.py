# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Linux a host runs, after os-release(5), and kinds of machines on which this collection can do nothing."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass
from typing import Mapping

from ..system.context import Context
from ..system.files import read_text

_FILES = ("/etc/os-release", "/usr/lib/os-release")
# Words of ID and ID_LIKE, and the family that installs packages and configures GRUB the same way.
_FAMILIES = (
    ("debian", ("debian", "ubuntu")),
    ("redhat", ("rhel", "fedora", "centos")),
)
# What marks the inside of a container: systemd's word for it (in the file), podman's mark, docker's.
_CONTAINER = (("/run/systemd/container", None), ("/run/.containerenv", "podman"), ("/.dockerenv", "docker"))


@dataclass(eq=False)
class Distribution:
    """id and version as in os-release, name for people, family: debian, redhat or other."""

    id: str
    version: str
    name: str
    family: str

    def as_dict(self) -> dict[str, str]:
        """For a module's result."""
        return asdict(self)


def read(ctx: Context) -> Distribution:
    """From the first of the two files that is there; a host without any is a family of its own."""
    for path in _FILES:
        text = read_text(ctx.root, path)
        if text is not None:
            return distribution(parse(text))
    return distribution({})


def distribution(values: Mapping[str, str]) -> Distribution:
    """The distribution of os-release's values."""
    name = values.get("ID", "linux")
    words = [name] + values.get("ID_LIKE", "").split()
    found = [family for family, names in _FAMILIES if any(word in names for word in words)]
    return Distribution(name, values.get("VERSION_ID", ""), values.get("PRETTY_NAME") or name, found[0] if found else "other")


def parse(text: str) -> dict[str, str]:
    """Assignments of os-release; a line that no shell would take is passed over."""
    values = {}
    for line in text.splitlines():
        key, mark, value = line.strip().partition("=")
        if not mark or key.startswith("#"):
            continue
        try:
            values[key] = "".join(shlex.split(value))
        except ValueError:
            continue
    return values


def unsupported(ctx: Context) -> list[tuple[str, str]]:
    """Each reason why this machine can't have vGPUs, as (found, remedy)."""
    found = []
    machine = os.uname().machine
    if machine != "x86_64":
        found.append(("this machine is %s" % machine, "Only x86_64 is supported."))
    container = _container(ctx)
    if container:
        found.append(
            ("this is a container (%s)" % container, "vGPUs are made by the host's kernel: name the host itself in the inventory.")
        )
    if "control_d" in ctx.sysfs.read_or("/proc/xen/capabilities", ""):
        found.append(("this is the dom0 of Xen", "vGPUs are made for KVM here; boot the kernel without Xen, or use NVIDIA's vGPU for Xen."))
    if os.path.exists(ctx.root + "/run/ostree-booted"):
        found.append(
            (
                "this host is an image of ostree, where no driver can be installed",
                "Use a host whose packages are installed one by one, or build the driver into the image.",
            )
        )
    return found


def _container(ctx: Context) -> str | None:
    for path, name in _CONTAINER:
        if os.path.exists(ctx.root + path):
            return name or (read_text(ctx.root, path) or "").strip() or "of some kind"
    return None
