# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of machines on which this collection can do nothing, told before anything is changed."""

from __future__ import annotations

import os

from ..system.files import read_text

# What marks the inside of a container: systemd's word for it (in the file), podman's mark, docker's.
_CONTAINER = (("/run/systemd/container", None), ("/run/.containerenv", "podman"), ("/.dockerenv", "docker"))


def unsupported(ctx):
    """Each reason why vGPUs can't be brought to this machine, as (found, remedy)."""
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


def _container(ctx):
    for path, name in _CONTAINER:
        if os.path.exists(ctx.root + path):
            return name or (read_text(ctx.root, path) or "").strip() or "of some kind"
    return None
