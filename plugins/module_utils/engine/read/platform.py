# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identifies the Linux distribution from os-release(5), and detects hosts that this collection does not support."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from typing import Mapping

from ..system.context import Context
from ..system.files import read_text

# The words in ID and ID_LIKE that identify a distribution family, which shares a package manager and GRUB configuration.
_FAMILIES = (("debian", {"debian", "ubuntu"}), ("redhat", {"rhel", "fedora", "centos"}))
# Files that only exist in a container, with the container type. systemd's file contains the type.
_CONTAINER = (("/run/systemd/container", None), ("/run/.containerenv", "podman"), ("/.dockerenv", "docker"))


@dataclass(eq=False, repr=False)
class Distribution:
    """A Linux distribution.

    ``id`` and ``version`` are from os-release, ``name`` is for messages, and ``family`` is debian, redhat, or other.
    """

    id: str
    version: str
    name: str
    family: str


def read(ctx: Context) -> Distribution:
    """Returns the distribution from the first existing os-release file. Without an os-release file, the family is "other"."""
    texts = (read_text(ctx.root, path) for path in ("/etc/os-release", "/usr/lib/os-release"))
    return distribution(parse(next((text for text in texts if text is not None), "")))


def distribution(values: Mapping[str, str]) -> Distribution:
    """Returns the distribution described by os-release values."""
    name = values.get("ID", "linux")
    family = next((family for family, names in _FAMILIES if names & {name, *values.get("ID_LIKE", "").split()}), "other")
    return Distribution(name, values.get("VERSION_ID", ""), values.get("PRETTY_NAME") or name, family)


def parse(text: str) -> dict[str, str]:
    """Returns the assignments in os-release. Lines with invalid shell syntax are skipped."""
    values = {}
    for line in text.splitlines():
        key, mark, value = line.strip().partition("=")
        with contextlib.suppress(ValueError):
            if mark and not key.startswith("#"):
                values[key] = "".join(shlex.split(value))
    return values


def container(ctx: Context) -> str | None:
    """Returns the type of container in which the engine runs, or None outside a container."""
    marks = [name or (read_text(ctx.root, path) or "").strip() or "unknown type" for path, name in _CONTAINER if os.path.exists(ctx.root + path)]
    return marks[0] if marks else None


def unsupported(ctx: Context) -> list[tuple[str, str]]:
    """Returns reasons why this host cannot have vGPUs, as (found, remedy) tuples."""
    machine = os.uname().machine
    inside = container(ctx)
    reasons = (
        (machine != "x86_64", "this host has the architecture %s" % machine, "Use an x86_64 host."),
        (inside, "this host is a container (%s)" % inside, "Add the container's host to the inventory, because the host's kernel creates vGPUs."),
        (
            "control_d" in ctx.sysfs.read_or("/proc/xen/capabilities", ""), "this host is the dom0 of Xen",
            "Boot the kernel without Xen, because this collection supports only KVM. Alternatively, use NVIDIA's vGPU software for Xen.",
        ),
        (
            os.path.exists(ctx.root + "/run/ostree-booted"), "this host runs an ostree image, on which no driver can be installed",
            "Use a host with a package manager, or build the driver into the image.",
        ),
    )
    return [(found, remedy) for there, found, remedy in reasons if there]
