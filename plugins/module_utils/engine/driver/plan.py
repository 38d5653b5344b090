# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps that install, replace, or remove NVIDIA's driver. The planner does not access the host."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Sequence

from ..base import refusals
from ..base.errors import Refusal, raise_if_any, shown, error
from ..base.steps import Step
from ..read.host import Driver, HostState
from ..read.inventory import Inventory
from ..system import daemons
from . import installer
from .signing import STEPS, KeyFile, key_errors

_VERSION = re.compile(r"(\d{3}\.\d{2,3}(?:\.\d{2})?)")

# File name patterns for the data center driver package and, below, for the host and guest driver packages.
_PLAIN = re.compile(r"(?i)NVIDIA-Linux-x86_64-[0-9.]+\.run\Z")
_NAMES = {
    "host": re.compile(r"(?i)(.*-vgpu-kvm.*\.run|nvidia-vgpu-.*\.(deb|rpm))\Z"),
    "guest": re.compile(r"(?i)(.*-grid.*\.run|nvidia-linux-grid-.*\.(deb|rpm))\Z"),
}

# For each kind of driver: a part of the .run file name, the title in messages, and the value of Driver.flavour after the installation.
_MARKS = {"host": "-vgpu-kvm", "guest": "-grid"}
TITLES = {"host": "the vGPU host driver", "guest": "the vGPU guest driver"}
_FLAVOURS = {"host": "vgpu", "guest": "guest"}
_KINDS = {"datacenter": "data center", "vgpu": "vGPU host", "guest": "vGPU guest"}


@dataclass(eq=False, repr=False)
class Files:
    """The files and machine state that a driver installation depends on.

    Attributes:
        package: Whether the driver package exists.
        free: The free disk space for temporary files, in MiB.
        key: The module signing key, or None if the request has no key.
        certificate: The signing key's certificate, or None if the request has no certificate.
        supplied: Whether the key and the certificate were read at their source, on the controller or on the host.
        machine: The machine state that NVIDIA's installer depends on.
    """

    package: bool
    free: int
    key: KeyFile | None = None
    certificate: KeyFile | None = None
    supplied: bool = False
    machine: installer.Machine = field(default_factory=installer.Machine)


@dataclass(eq=False, repr=False)
class Request:
    """The requested state of the driver.

    Attributes:
        version: The driver version, or None to use the package's version.
        extra: Additional arguments for NVIDIA's installer.
        space: The disk space required for temporary files, in MiB.
        keys_follow: Whether the signing key is copied to the host during the installation.
    """

    present: bool = True
    version: str | None = None
    src: str | None = None
    dkms: bool = True
    load: bool = True
    disable_nouveau: bool = False
    module_type: str = "auto"
    replace_datacenter: bool = False
    extra: Sequence[str] = ()
    tmpdir: str | None = None
    space: int = 0
    signing_key: str | None = None
    signing_certificate: str | None = None
    kind: str = "host"
    allow_downgrade: bool = True
    form: str = "run"
    keys_follow: bool = False

    def needed(self, driver: Driver) -> bool:
        """Returns whether the machine lacks a driver of the requested kind and version."""
        return driver.flavour != self.flavour or not driver.on_disk or bool(self.version and driver.on_disk != self.version)

    @property
    def flavour(self) -> str:
        """The value of Driver.flavour after the installation."""
        return _FLAVOURS[self.kind]

    @property
    def signs(self) -> bool:
        """Whether NVIDIA's installer receives a module signing key."""
        return bool(self.signing_key) or self.keys_follow or any(word.startswith("--module-signing-secret-key") for word in self.extra)


def version_in(name: str | None) -> str | None:
    """Returns the driver version in a package's file name (…-550.163.02-vgpu-kvm.run), or None if the name contains no version."""
    match = _VERSION.search(os.path.basename(name or ""))
    return match.group(1) if match else None


def mistaken(name: str, kind: str) -> str | None:
    """Returns the driver's title if the package name indicates another kind of driver, or None otherwise."""
    other = "guest" if kind == "host" else "host"
    if _NAMES[other].match(name):
        return TITLES[other]
    return "NVIDIA's data center driver" if _PLAIN.match(name) else None


def number(version: str) -> list[int]:
    """Returns the numbers in a version string, for comparisons."""
    return [int(part) for part in version.split(".")]


def module_type(inventory: Inventory, version: str) -> str | None:
    """Returns the kernel module type (open or proprietary) that the host's GPUs require.

    Returns None for branches before 560, whose installers have no option for the module type. Raises EngineError if the GPUs require different types.
    """
    if number(version)[0] < 560:
        return None
    kinds: dict[str, list[str]] = {}
    for gpu in inventory.gpus:
        if gpu.model:
            kinds.setdefault(gpu.model.module_type, []).append("%s (%s)" % (gpu.address, gpu.name))
    if len(kinds) > 1:
        both = (", ".join(kinds["open"]), ", ".join(kinds["proprietary"]))
        found = "some GPUs require the open kernel module (%s), and other GPUs require the proprietary kernel module (%s)" % both
        remedy = "A driver installation supports only one module type. Remove one kind of GPU from the host, or set module_type (in roles, driver_module_type)."
        raise error(found, remedy=remedy, code="mixed_flavours")
    return next(iter(kinds), None)


def _unmet(state: HostState, request: Request, files: Files, check_mode: bool) -> list[Refusal]:
    """Returns the file and firmware errors that prevent an installation."""
    errors = []
    if state.secure_boot and not request.signs:
        errors.append(Refusal("Secure Boot is enabled, so the kernel would not load the driver's unsigned modules", remedy=STEPS, code="secure_boot"))
    # In check mode, key files on the host can be missing, because an earlier step of the run copies the files. Files read at their source are final.
    if files.key and files.certificate and not (check_mode and not files.supplied and not (files.key.exists and files.certificate.exists)):
        errors += key_errors(state, files.key, files.certificate)
    if files.free < request.space:
        found = "%d MiB are free, but the bundle and the extracted driver package require %d MiB" % (files.free, request.space)
        errors.append(Refusal(found, request.tmpdir or "/tmp", remedy="Free disk space, or choose another directory.", code="no_space"))
    return errors


def _version(request: Request) -> str:
    """Returns the driver version to install. Raises EngineError if the version is missing or malformed."""
    version = request.version or version_in(request.src)
    if not version:
        found = "no version is set, and the file name %r contains no version" % (request.src or "")
        raise error(found, expected="a version, such as 550.163.02", code="no_version")
    if not re.match(r"^[0-9]{1,4}(\.[0-9]{1,4}){1,3}$", version):
        raise error("%s is not a driver version" % shown(version), "version", "numbers separated by dots, such as 550.163.02", code="bad_version")
    return version


def refusals_of(inventory: Inventory, state: HostState, request: Request, files: Files, check_mode: bool = False) -> list[Refusal]:
    """Returns the installation errors that can be detected even if the version to install is unknown."""
    return _unmet(state, request, files, check_mode) + _wrong_machine(inventory, state.driver, request) + _wrong_step(state.driver, request)


def plan(inventory: Inventory, state: HostState, request: Request, files: Files, check_mode: bool = False) -> list[Step]:
    """Returns the steps that install or remove the requested driver. Raises EngineError with all errors.

    In check mode, the driver package does not need to exist yet.
    """
    driver = state.driver
    if not request.present:
        return _plan_absent(inventory, driver, request, files)
    version = _version(request)
    if driver.on_disk == version and driver.flavour == request.flavour:
        return []
    errors = refusals_of(inventory, state, request, files, check_mode)
    if not check_mode and not files.package:
        expected = "NVIDIA-Linux-x86_64-%s%s.run on the managed host" % (version, _MARKS[request.kind])
        errors.append(Refusal("the driver package does not exist", request.src or "src", expected, code="package_missing"))
    named = version_in(request.src)
    if named and named != version:
        errors.append(Refusal("the package has version %s" % named, request.src, version, code="wrong_version"))
    run, packaged = installer.Run(version, request.load, request.extra), request.form != "run"
    errors += [] if packaged else installer.refusals(inventory, run, files.machine)
    if driver.loaded:
        users = _users(inventory, "replacing the driver %s" % driver.loaded, request.kind == "guest")
        errors += users or ([] if packaged else installer.held(inventory, driver, run))
    replaced = _goes_first(driver, request, files.machine)
    if replaced:
        errors += installer.stays(driver, files.machine) if not errors else []
    raise_if_any(errors)
    steps, after = ([], []) if packaged else installer.around(inventory, driver, run, files.machine)
    if replaced:
        steps.append(installer.removal(files.machine, "the %s driver %s" % (_KINDS.get(driver.flavour), driver.on_disk or driver.loaded)))
    was = " in place of %s" % driver.on_disk if driver.on_disk else ""
    if driver.unfinished:
        was += " (an earlier installation was interrupted)"
    step = Step("install", None, None, "install %s %s%s" % (TITLES[request.kind], version, was), version=version, modules=files.machine.modules)
    step.args["was"] = None if replaced else driver.on_disk
    return [*steps, step, *after]


def _goes_first(driver: Driver, request: Request, machine: installer.Machine) -> bool:
    """Returns whether to remove the installed driver first, because its kind or installation tool differs from the request.

    A driver that is loaded but no longer on disk was removed by an earlier run.
    """
    if machine.begun:
        return True
    if driver.flavour == request.flavour:
        return bool(driver.on_disk) and (machine.uninstaller if request.form != "run" else bool(machine.command))
    return driver.flavour != "none" and bool(driver.on_disk or machine.uninstaller)


def _wrong_machine(inventory: Inventory, driver: Driver, request: Request) -> list[Refusal]:
    """Returns the errors for a package with another kind of driver than requested, and for a guest driver on a host."""
    errors = []
    wrong = mistaken(os.path.basename(request.src or ""), request.kind)
    if wrong:
        expected = "the package of %s, NVIDIA-Linux-x86_64-<version>%s.run" % (TITLES[request.kind], _MARKS[request.kind])
        remedy = "Use the correct package from NVIDIA's vGPU software package: host drivers are in Host_Drivers, and guest drivers are in Guest_Drivers."
        errors.append(Refusal("the package contains %s" % wrong, request.src, expected, remedy, "wrong_kind"))
    return errors + (not_a_guest(inventory, driver) if request.kind == "guest" else [])


def not_a_guest(inventory: Inventory, driver: Driver) -> list[Refusal]:
    """Returns an error if the machine is a host, because the guest driver must not be installed on a host."""
    hosts = [gpu.address for gpu in inventory.gpus if gpu.total_vfs or gpu.vgpus]
    if not hosts and not driver.has_manager:
        return []
    found = "the system is a host, not a VM: %s" % ("%s can have VFs or has vGPUs" % hosts[0] if hosts else "NVIDIA's vGPU manager is installed")
    remedy = "Install the guest driver only in VMs, and use the host role for a host. In a VM, run 'nvidia-uninstall' first to remove the host driver."
    return [Refusal(found, hosts[0] if hosts else "driver", "a VM with a vGPU", remedy, "not_a_guest")]


def _wrong_step(driver: Driver, request: Request) -> list[Refusal]:
    """Returns the errors for an installed driver that must not be replaced: a driver of another kind, or a newer driver.

    After an interrupted installation, the installed driver causes no error, because the first attempt already permitted replacing the driver.
    """
    if driver.unfinished:
        return []
    if driver.flavour in ("datacenter", "guest") and driver.flavour != request.flavour and not request.replace_datacenter:
        if request.kind == "host":
            wrong = refusals.driver_error(driver)
            return [wrong] if wrong else []
        found = "NVIDIA's data center driver %s is installed, but this driver cannot be licensed for a vGPU" % (driver.on_disk or driver.loaded)
        expected = "only the vGPU guest driver, NVIDIA-Linux-x86_64-<version>-grid.run"
        replace = "Set 'vgpu_guest_driver_replace_datacenter: true' to replace the data center driver, or uninstall the driver manually."
        return [Refusal(found, "driver", expected, refusals.packaged(driver, replace), "driver_datacenter")]
    version = request.version or version_in(request.src)
    older = version and driver.flavour == request.flavour and driver.on_disk and number(version) < number(driver.on_disk)
    if older and not request.allow_downgrade:
        allow = "To install an older version, set 'allow_downgrade: true' (in roles, driver_allow_downgrade)."
        return [Refusal("the installed driver %s is newer than %s" % (driver.on_disk, version), "driver", version, allow, "downgrade")]
    return []


def _plan_absent(inventory: Inventory, driver: Driver, request: Request, files: Files) -> list[Step]:
    if request.kind == "guest" and driver.flavour == "vgpu":
        raise_if_any(not_a_guest(inventory, driver))
    if driver.flavour == "none" and not driver.unfinished and not files.machine.begun:
        return []
    users = _users(inventory, "uninstalling the driver", driver.flavour == "guest")
    alone = bool(driver.removal) and not request.replace_datacenter
    raise_if_any(users or ([installer.no_uninstaller(driver)] if alone else installer.stays(driver, files.machine)))
    return [installer.removal(files.machine, "the driver %s" % (driver.on_disk or driver.loaded or "whose installation was interrupted"))]


def _users(inventory: Inventory, doing: str, in_guest: bool) -> list[Refusal]:
    """Returns an error for each GPU, VF, and vGPU that is in use. In a VM, NVIDIA's own services do not count as users.

    Driver changes do not affect GPUs that are bound to vfio-pci and passed through to a VM.
    """
    errors = []
    for gpu in inventory.gpus:
        if in_guest:
            users = inventory.open_files.without(daemons.ALL, inventory.open_files.of_gpu(gpu.minor))
            errors += [refusals.in_use(gpu.address, users, doing)] if users else []
            continue
        parents = [vgpu.parent for vgpu in gpu.vgpus]
        used = [(gpu.address, gpu.holders if gpu.driver == "nvidia" else ())]
        used += [(vf.address, vf.holders) for vf in gpu.vfs if vf.address not in parents]
        for vgpu in gpu.vgpus:
            used.append(("%s (%s on %s)" % (vgpu.uuid, vgpu.type, vgpu.parent) if vgpu.uuid else "%s (%s)" % (vgpu.parent, vgpu.type), vgpu.holders))
        errors += [refusals.in_use(device, holders, doing) for device, holders in used if holders]
    return errors
