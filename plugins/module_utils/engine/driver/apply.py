# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the files that a driver plan depends on, runs NVIDIA's installer or uninstaller, and verifies the result."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from typing import Sequence

from .. import frameworks
from ..base import refusals
from ..base.errors import EngineError, error
from ..base.steps import ApplyError, Step, execute
from ..read import host
from ..state import install_mark
from ..system import daemons, files, modinfo, packages, systemd
from ..system.context import Context
from ..system.open_files import OpenFiles
from . import installer, removal_mark, signing
from .plan import Files, Request

LOG = "/var/log/nvidia-installer.log"
UNINSTALL_LOG = "/var/log/nvidia-uninstall.log"


def read(ctx: Context, state: host.HostState, request: Request) -> Files:
    """Reads the planner's input: the driver package, free disk space, the signing key, and the machine's state."""
    directory = os.path.abspath(request.tmpdir or "/tmp")
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    found = Files(os.path.isfile(request.src or ""), shutil.disk_usage(directory).free >> 20, machine=_machine(ctx, state.driver))
    if state.driver.removal and not request.replace_datacenter:
        found.machine.command = ()
    elif found.machine.command:
        found.machine.removes, found.machine.removal_error = packages.foreseen(ctx, found.machine.command)
    if request.signing_key and request.signing_certificate:
        found.key = _key_file(request.signing_key, False)
        found.certificate = _key_file(request.signing_certificate, bool(state.secure_boot))
    return found


def _machine(ctx: Context, driver: host.Driver) -> installer.Machine:
    machine = installer.Machine(uninstaller=os.path.exists(ctx.root + host.UNINSTALL), command=driver.removal or ())
    if driver.on_disk and driver.flavour != "datacenter" and not machine.uninstaller:
        machine.command = packages.removal(ctx, driver.on_disk, ours=True) or ()
    if not machine.command:
        machine.command = packages.rest(ctx, removal_mark.read(ctx.root))
        machine.begun = bool(machine.command)
    if os.path.exists(ctx.root + installer.ALTERNATE):
        machine.alternate = _owner(ctx, installer.ALTERNATE)
    for lock in installer.X_LOCKS:
        pid = (files.read_text(ctx.root, lock) or "").strip()
        if pid.isdigit() and ctx.sysfs.exists("/proc/" + pid):
            machine.x_server = (pid, lock)
            break
    if driver.loaded:
        units = systemd.read(ctx, units=daemons.UNITS)
        running = [name for name, unit in units.items() if unit["active"] == "active" or (name == daemons.SETUP and unit["started"])]
        machine.services = [name for name in daemons.UNITS if name in running]
        machine.modules = [name for name in installer.MODULES if ctx.sysfs.exists("/sys/module/" + name)]
    return machine


def _owner(ctx: Context, path: str) -> str:
    """Returns the name of the package that owns a file, or an empty string if neither dpkg nor rpm reports an owner."""
    answer = ctx.command(["dpkg-query", "--search", path], 30)
    if answer.rc == 0:
        return answer.out.split(":")[0].split(",")[0].strip()
    answer = ctx.command(["rpm", "--query", "--queryformat", "%{NAME}", "--file", path], 30)
    return answer.out.strip() if answer.rc == 0 else ""


def _key_file(path: str, with_content: bool) -> signing.KeyFile:
    """Returns the state of a signing key or certificate.

    Args:
        with_content: Whether to read the file for its fingerprint, which is required only for certificates with Secure Boot.
    """
    is_file = os.path.isfile(path)
    shared = is_file and bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    fingerprint = hashlib.sha256(_content(path)).hexdigest() if is_file and with_content else None
    return signing.KeyFile(path, os.path.exists(path), is_file, shared, fingerprint)


def _content(path: str) -> bytes:
    with open(path, "rb") as handle:
        return handle.read()


def arguments(request: Request, version: str, module_type: str | None) -> list[str]:
    """Returns the arguments of NVIDIA's installer."""
    knows, key, certificate = installer.Run(version, request.load).knows, request.signing_key, request.signing_certificate
    reboots = not request.load  # the reboot unloads nouveau and the loaded driver, and stops X servers
    options = (
        (True, ["--silent", "--dkms" if request.dkms else "--no-dkms"]),
        (request.disable_nouveau, ["--disable-nouveau"]),
        (reboots and request.disable_nouveau and knows(installer.REBUILD), [installer.REBUILD]),
        # --no-nouveau-check prevents --disable-nouveau from writing its files, so only one of the two options is passed.
        (reboots and not request.disable_nouveau, ["--no-nouveau-check"]),
        (reboots, [installer.NO_X_CHECK]),
        (reboots and knows(installer.RUNNING), [installer.RUNNING]),
        (reboots and knows(installer.SKIP_LOAD), [installer.SKIP_LOAD]),
        (module_type and knows(installer.MODULE_TYPE), ["%s=%s" % (installer.MODULE_TYPE, module_type)]),
        (request.tmpdir, ["--tmpdir=%s" % request.tmpdir]),
        # Local users can read process arguments, so only the paths of the key files are passed.
        (key, ["--module-signing-secret-key=%s" % key, "--module-signing-public-key=%s" % certificate]),
        (True, request.extra),
    )
    return [word for applies, words in options if applies for word in words]


def apply(ctx: Context, steps: Sequence[Step], request: Request, module_type: str | None, timeout: float) -> list[Step]:
    """Runs NVIDIA's installer and verifies the version on disk. If a step fails, stopped services are started again."""

    def perform(step: Step) -> None:
        if step.kind == "uninstall":
            _uninstall(ctx, timeout)
        elif step.kind == "purge":
            _purge(ctx, step, timeout)
        elif step.kind == "install":
            _install(ctx, request, step, module_type, timeout)
        else:
            _make_way(ctx, step, timeout)

    try:
        return execute(steps, perform)
    except ApplyError as exc:
        _take_back(ctx, exc, timeout)
        raise


def _take_back(ctx: Context, failed: ApplyError, timeout: float) -> None:
    """Recovers from a failed step: reloads the modules unless an installation is unfinished, and starts the stopped services."""
    modules = [name for step in [*failed.done, failed.not_done[0]] if step.kind in ("unload", "install") for name in step.args["modules"]]
    gone = [name for name in dict.fromkeys(reversed(modules)) if not ctx.sysfs.exists("/sys/module/" + name)]
    if gone and not host.read_driver(ctx).unfinished:
        ctx.command(["modprobe", "--all", *gone], timeout)
    for step in [one for one in failed.not_done if one.kind == "start" and one is not failed.not_done[0]]:
        with contextlib.suppress(EngineError):
            _make_way(ctx, step, timeout)
            failed.not_done.remove(step)
            failed.done.append(step)


def _make_way(ctx: Context, step: Step, timeout: float) -> None:
    """Performs a step before or after the installer run: removes a vGPU, unloads modules, or stops or starts services."""
    if step.kind == "remove":
        framework, key = frameworks.at(ctx, step.args["parent"]), str(step.device)
        holders = framework.holders(OpenFiles(ctx.sysfs), key)  # a process may have opened the vGPU after planning
        if holders:
            raise EngineError(refusals.in_use(key, holders, "removing the vGPU"))
        framework.remove(key, timeout)
    elif step.kind == "stop":
        ctx.command(["systemctl", "stop", *step.args["services"]], timeout)
    elif step.kind == "unload":
        answer = ctx.command(["rmmod", *step.args["modules"]], timeout)
        if any(ctx.sysfs.exists("/sys/module/" + name) for name in step.args["modules"]):
            raise EngineError(installer.still_loaded(step.args["run"], OpenFiles(ctx.sysfs).natives(), answer.tail()))
    else:
        # The new driver may provide other services than the previous driver, so only existing services are started.
        known = systemd.read(ctx, units=daemons.UNITS)
        names = [name for name in step.args["services"] if known.get(name, {}).get("load") != "not-found"]
        answer = ctx.command(["systemctl", "start", *names], timeout)
        if names and answer.rc:
            found, check = "'systemctl start' failed: %s" % answer.tail(), "Find the cause with 'systemctl status %s', then rerun." % " ".join(names)
            raise error(found, ", ".join(names), "active", check, "not_started")


def _install(ctx: Context, request: Request, step: Step, module_type: str | None, timeout: float) -> None:
    version, was = step.args["version"], step.args["was"]
    install_mark.begin(ctx.root, install_mark.DRIVER)
    answer = ctx.command(["sh", request.src or ""] + arguments(request, version, module_type), timeout, keeps_lock=True)
    driver = host.read_driver(ctx, trusting=True)
    if answer.rc == 0 and driver.on_disk == version and driver.flavour == request.flavour:
        if request.signing_key and request.signing_certificate:
            key_id, signer = modinfo.field(ctx, "sig_key"), modinfo.field(ctx, "signer")
            signing.check_signature(request.signing_certificate, _content(request.signing_certificate), key_id or "", signer or "")
        install_mark.end(ctx, install_mark.DRIVER)
        return
    install_mark.drop_untouched(ctx.root)
    if answer.timed_out:
        found = "the installer did not finish within %d seconds and was stopped" % timeout
    elif answer.rc:
        found = "the installer exited with status %d" % answer.rc
    else:
        found = "the installer reported success, but the driver version on disk is %s (driver kind: %s)" % (driver.on_disk or "none", driver.flavour)
    log = [line for line in (files.read_text(ctx.root, LOG) or "").splitlines() if line.strip()]
    text = "%s: %s\nLast lines of %s:\n%s" % (found, answer.tail(8), LOG, "\n".join(log[-15:]))
    remedy = (
        "%sFix the error in the log, such as a missing compiler, missing headers for the running kernel, a loaded nouveau module, or a full disk. "
        "Then rerun the playbook." % _left(ctx, was)
    )
    raise error(text, request.src, "driver version %s on disk" % version, remedy, "install_failed")


def _left(ctx: Context, was: str | None) -> str:
    """Returns a sentence about the previous driver's state after a failed installation, or an empty string without a previous driver."""
    if not was:
        return ""
    state = "undamaged" if host.read_driver(ctx).on_disk == was else "damaged: the installer changed files of this driver"
    return "The previous driver %s is %s. " % (was, state)


def _uninstall(ctx: Context, timeout: float) -> None:
    install_mark.begin(ctx.root, install_mark.DRIVER)  # the files that a killed uninstaller leaves behind resemble an installed driver
    answer = ctx.command([host.UNINSTALL, "--silent"], timeout, keeps_lock=True)
    driver = host.read_driver(ctx, trusting=True)
    if answer.rc or driver.on_disk:
        install_mark.drop_untouched(ctx.root)
        found = "the uninstaller exited with status %d, and the driver version on disk is %s: %s" % (answer.rc, driver.on_disk or "none", answer.tail(8))
        raise error(found, remedy="Find the cause in %s, fix the cause, then rerun." % UNINSTALL_LOG, code="uninstall_failed")
    install_mark.end(ctx, install_mark.DRIVER)


def _purge(ctx: Context, step: Step, timeout: float) -> None:
    """Removes driver packages with the package manager, and verifies the removal."""
    command, module = step.args["command"], modinfo.module(ctx)
    removal_mark.begin(ctx.root, command)
    answer = packages.remove(ctx, command, timeout)
    left = packages.installed(ctx, command)
    if not left:
        removal_mark.end(ctx.root)
    if modinfo.exists(ctx, module) and not left:
        found = "the driver packages are removed, but the %s module is still on disk: %s" % (module, answer.tail(8))
        raise error(
            found, "driver", "no module of the removed driver",
            "Find the module in the output of 'dkms status', and remove the module. Then rerun the playbook.", "uninstall_failed",
        )
    if answer.rc or left:
        left_over = "these packages are still installed: " + ", ".join(left) if left else "all packages are removed"
        found = "'%s' exited with status %d, and %s: %s" % (" ".join(command[:2]), answer.rc, left_over, answer.tail(8))
        raise error(found, "driver", "the removal of the driver packages", "Fix the reported error. Then rerun the playbook.", "uninstall_failed")
