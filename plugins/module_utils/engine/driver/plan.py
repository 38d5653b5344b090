# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's .run installer: when it must run."""

from __future__ import annotations

import os
import re
import shutil

from ..base import refusals
from ..base.errors import Trouble, raise_if_any, shown, trouble
from ..base.steps import Step
from .signing import STEPS, key_troubles

# What tells the packages apart, how people call the driver, and the flavour that it gives the machine.
_KINDS = {
    "host": ("-vgpu-kvm", "the vGPU host driver", "vgpu"),
    "guest": ("-grid", "the vGPU guest driver", "guest"),
}
# The guest driver's own daemons, which begin anew with it.
_OWN = ("nvidia-gridd", "nvidia-persistenced")
_VERSION = re.compile(r"(\d{3}\.\d{2,3}(?:\.\d{2})?)")


class Wish:
    """What the user wants of the driver. version None: that of the package."""

    def __init__(
        self,
        present,
        version,
        src,
        dkms,
        load,
        disable_nouveau,
        module_type,
        replace_ordinary,
        extra,
        tmpdir,
        signing_key=None,
        signing_certificate=None,
        kind="host",
        allow_downgrade=True,
    ):
        self.present = present
        self.version = version
        self.src = src
        self.dkms = dkms
        self.load = load
        self.disable_nouveau = disable_nouveau
        self.module_type = module_type
        self.replace_ordinary = replace_ordinary
        self.extra = extra
        self.tmpdir = tmpdir
        self.signing_key = signing_key
        self.signing_certificate = signing_certificate
        self.kind = kind
        self.allow_downgrade = allow_downgrade

    @property
    def flavour(self):
        """What the machine's driver is when the wish is fulfilled."""
        return _KINDS[self.kind][2]

    @property
    def signs(self):
        """Whether the installer is given a key."""
        return bool(self.signing_key) or any(word.startswith("--module-signing-secret-key") for word in self.extra)


def version_in(name):
    """The driver's version in a package's file name (…-550.163.02-vgpu-kvm.run), or None."""
    match = _VERSION.search(os.path.basename(name or ""))
    return match.group(1) if match else None


def number(version):
    return [int(part) for part in version.split(".")]


def wanted_module_type(inventory):
    """open or proprietary after the host's GPUs; a host that mixes both has no right answer."""
    kinds = {}
    for gpu in inventory.gpus:
        if gpu.model:
            kinds.setdefault(gpu.model.module_type, []).append("%s (%s)" % (gpu.address, gpu.name))
    if len(kinds) > 1:
        raise trouble(
            "this host mixes GPUs that need the open kernel module (%s) with GPUs that need the proprietary one (%s)"
            % (", ".join(kinds["open"]), ", ".join(kinds["proprietary"])),
            remedy="One driver can't serve both: take one kind out, or set module_type by hand.",
            code="mixed_flavours",
        )
    return next(iter(kinds), None)


def standing_against(state, wish, space=0, check_mode=False):
    """What the host's files and its firmware have against an installation. space: MiB that must be free in the wish's tmpdir.

    In check mode the key may be brought by an earlier step of the same run.
    """
    troubles = []
    if state.secure_boot and not wish.signs:
        troubles.append(Trouble("Secure Boot is on: the kernel would not load the driver's modules", remedy=STEPS, code="secure_boot"))
    paths = (wish.signing_key, wish.signing_certificate)
    if all(paths) and not (check_mode and not all(map(os.path.exists, paths))):
        troubles += key_troubles(state, *paths)
    folder = os.path.abspath(wish.tmpdir or "/tmp")
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free >> 20
    if free < space:
        troubles.append(
            Trouble(
                "%d MiB are free, the bundle and the driver in it take %d MiB" % (free, space),
                device=wish.tmpdir or "/tmp",
                remedy="Free space, or choose another folder.",
                code="no_space",
            )
        )
    return troubles


def plan(inventory, driver, wish, check_mode=False, src_exists=True, against=()):
    """Steps to the wished driver; raises EngineError when it must not or can't be done. against: troubles of an installation that were found elsewhere."""
    version = wish.version or version_in(wish.src)
    if not wish.present:
        return _plan_absent(inventory, driver, wish)
    if not version:
        raise trouble(
            "no version is given, and %r does not name one" % (wish.src or ""),
            wanted="version, such as 550.163.02",
            code="no_version",
        )
    if not re.match(r"^[0-9]{1,4}(\.[0-9]{1,4}){1,3}$", version):
        raise trouble("%s is no version of a driver" % shown(version), device="version", wanted="numbers with points, such as 550.163.02", code="bad_version")
    if driver.on_disk == version and driver.flavour == wish.flavour:
        return []
    troubles = list(against) + _wrong_place(inventory, driver, wish) + _wrong_step(driver, version, wish)
    if not check_mode and not src_exists:
        troubles.append(
            Trouble(
                "the driver's package is not there",
                device=wish.src or "src",
                wanted="NVIDIA-Linux-x86_64-%s%s.run on the managed host" % (version, _KINDS[wish.kind][0]),
                code="package_missing",
            )
        )
    named = version_in(wish.src)
    if wish.src and named and named != version:
        troubles.append(Trouble("the package is of version %s" % named, device=wish.src, wanted=version, code="wrong_version"))
    if driver.loaded:
        doing = "replacing the driver %s" % driver.loaded
        troubles += _guest_users(inventory, doing) if wish.kind == "guest" else _users(inventory, doing)
    raise_if_any(troubles)
    steps = []
    if driver.flavour not in ("none", wish.flavour):
        steps.append(Step("uninstall", None, None, "uninstall the %s driver %s" % (driver.flavour, driver.on_disk)))
    was = " in place of %s" % driver.on_disk if driver.on_disk else ""
    if driver.unfinished:
        was += " (an earlier installation was broken off)"
    steps.append(
        Step("install", None, None, "install %s %s%s" % (_KINDS[wish.kind][1], version, was), version=version)
    )
    return steps


def _wrong_place(inventory, driver, wish):
    """A host's driver in a VM, a guest's on a host; the package's name tells, and the machine."""
    troubles = []
    name = os.path.basename(wish.src or "")
    for kind, (mark, what, dummy) in sorted(_KINDS.items()):
        if kind != wish.kind and mark in name:
            troubles.append(
                Trouble(
                    "this is the package of %s" % what,
                    device=wish.src,
                    wanted="that of %s (NVIDIA-Linux-x86_64-<version>%s.run)" % (_KINDS[wish.kind][1], _KINDS[wish.kind][0]),
                    remedy="NVIDIA's bundle has both, in Host_Drivers and Guest_Drivers.",
                    code="wrong_kind",
                )
            )
    if wish.kind == "guest":
        troubles += guest_place(inventory, driver)
    return troubles


def guest_place(inventory, driver):
    """Why this machine is none for a guest's driver."""
    hosts = [gpu.address for gpu in inventory.gpus if gpu.total_vfs or gpu.vgpus]
    if hosts or driver.has_manager:
        found = "this is a host: %s" % ("%s can have VFs or has vGPUs" % hosts[0] if hosts else "NVIDIA's vGPU manager is installed")
        return [
            Trouble(
                found,
                device=hosts[0] if hosts else "driver",
                wanted="a VM with a vGPU",
                remedy="The guest driver belongs into VMs. A host takes role host; a host's driver in a VM must be uninstalled first (nvidia-uninstall).",
                code="not_a_guest",
            )
        ]
    return []


def _wrong_step(driver, version, wish):
    """Another driver in the way, or a newer one."""
    if driver.flavour in ("ordinary", "guest") and driver.flavour != wish.flavour and not wish.replace_ordinary:
        if wish.kind == "host":
            return [refusals.driver_trouble(driver)]
        return [
            Trouble(
                "NVIDIA's ordinary driver %s is installed; it can't be licensed for a vGPU" % (driver.on_disk or driver.loaded),
                device="driver",
                wanted="the vGPU guest driver (NVIDIA-Linux-x86_64-<version>-grid.run) alone",
                remedy="Set guest_driver_replace_ordinary: true to have it replaced, or uninstall it by hand.",
                code="driver_ordinary",
            )
        ]
    if driver.flavour == wish.flavour and driver.on_disk and not wish.allow_downgrade and number(version) < number(driver.on_disk):
        return [
            Trouble(
                "the driver %s is installed, which is newer than %s" % (driver.on_disk, version),
                device="driver",
                wanted=version,
                remedy="An older one is installed only where that is allowed (allow_downgrade; in roles guest_driver_allow_downgrade: true).",
                code="downgrade",
            )
        ]
    return []


def _plan_absent(inventory, driver, wish):
    if wish.kind == "guest" and driver.flavour == "vgpu":
        raise_if_any(guest_place(inventory, driver))
    if driver.flavour == "none" and not driver.unfinished:
        return []
    doing = "uninstalling the driver"
    raise_if_any(_guest_users(inventory, doing) if driver.flavour == "guest" else _users(inventory, doing))
    return [Step("uninstall", None, None, "uninstall the driver %s" % (driver.on_disk or driver.loaded or "whose installation was broken off"))]


def _guest_users(inventory, doing):
    """Programs in a VM that have its vGPU open, apart from the driver's own."""
    troubles = []
    for gpu in inventory.gpus:
        holders = [one for one in inventory.open_files.of_gpu(gpu.minor) if os.path.basename(one.command.split(" ")[0]) not in _OWN]
        if holders:
            troubles.append(refusals.in_use(gpu.address, holders, doing))
    return troubles


def _users(inventory, doing):
    """What of the driver's is in use. A whole GPU that a VM has is on vfio-pci: the driver's coming and going does not reach it."""
    troubles = []
    for gpu in inventory.gpus:
        if gpu.holders and gpu.driver == "nvidia":
            troubles.append(refusals.in_use(gpu.address, gpu.holders, doing))
        parents = [vgpu.parent for vgpu in gpu.vgpus]
        troubles += [refusals.in_use(vf.address, vf.holders, doing) for vf in gpu.vfs if vf.holders and vf.address not in parents]
        for vgpu in gpu.vgpus:
            if vgpu.holders:
                name = "%s (%s on %s)" % (vgpu.uuid, vgpu.type, vgpu.parent) if vgpu.uuid else "%s (%s)" % (vgpu.parent, vgpu.type)
                troubles.append(refusals.in_use(name, vgpu.holders, doing))
    return troubles
