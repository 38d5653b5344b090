# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Linux a host runs, after os-release(5), and kinds of machines on which this collection can do nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from typing import Mapping

from ..system.context import Context
from ..system.files import read_text

# Words of ID and ID_LIKE, and the family that installs packages and configures GRUB the same way.
_FAMILIES = (("debian", {"debian", "ubuntu"}), ("redhat", {"rhel", "fedora", "centos"}))
# What marks the inside of a container: systemd's word for it (in the file), podman's mark, docker's.
_CONTAINER = (("/run/systemd/container", None), ("/run/.containerenv", "podman"), ("/.dockerenv", "docker"))


@dataclass(eq=False, repr=False)
class Distribution:
    """id and version as in os-release, name for people, family: debian, redhat or other."""

    id: str
    version: str
    name: str
    family: str


def read(ctx: Context) -> Distribution:
    """From the first of the two files that is there; a host without any is a family of its own."""
    texts = (read_text(ctx.root, path) for path in ("/etc/os-release", "/usr/lib/os-release"))
    return distribution(parse(next((text for text in texts if text is not None), "")))


def distribution(values: Mapping[str, str]) -> Distribution:
    """The distribution of os-release's values."""
    name = values.get("ID", "linux")
    family = next((family for family, names in _FAMILIES if names & {name, *values.get("ID_LIKE", "").split()}), "other")
    return Distribution(name, values.get("VERSION_ID", ""), values.get("PRETTY_NAME") or name, family)


def parse(text: str) -> dict[str, str]:
    """Assignments of os-release; a line that no shell would accept is skipped."""
    values = {}
    for line in text.splitlines():
        key, mark, value = line.strip().partition("=")
        with contextlib.suppress(ValueError):
            if mark and not key.startswith("#"):
                values[key] = "".join(shlex.split(value))
    return values


def container(ctx: Context) -> str | None:
    """The kind of container that this is, None outside of one."""
    marks = [name or (read_text(ctx.root, path) or "").strip() or "of some kind" for path, name in _CONTAINER if os.path.exists(ctx.root + path)]
    return marks[0] if marks else None


def unsupported(ctx: Context) -> list[tuple[str, str]]:
    """Each reason why this machine can't have vGPUs, as (found, remedy)."""
    machine = os.uname().machine
    inside = container(ctx)
    reasons = (
        (machine != "x86_64", "this machine is %s" % machine, "Only x86_64 is supported."),
        (inside, "this is a container (%s)" % inside, "vGPUs are created by the host's kernel: name the host itself in the inventory."),
        (
            "control_d" in ctx.sysfs.read_or("/proc/xen/capabilities", ""), "this is the dom0 of Xen",
            "vGPUs are created for KVM here; boot the kernel without Xen, or use NVIDIA's vGPU for Xen.",
        ),
        (
            os.path.exists(ctx.root + "/run/ostree-booted"), "this host is an image of ostree, where no driver can be installed",
            "Use a host whose packages are installed one by one, or build the driver into the image.",
        ),
    )
    return [(found, remedy) for there, found, remedy in reasons if there]
