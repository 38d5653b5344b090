# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the plan of a driver needs of the host's files; runs NVIDIA's installer or uninstaller, and verifies the result."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import Sequence

from ..base import refusals
from ..base.errors import error
from ..base.steps import Step, execute
from ..read import host
from ..state import install_mark
from ..system import files, modinfo
from ..system.context import Context
from . import signing
from .plan import Files, Request, number

LOG = "/var/log/nvidia-installer.log"
UNINSTALL = "/usr/bin/nvidia-uninstall"


def read(ctx: Context, state: host.HostState, request: Request) -> Files:
    """The package, the free space and the keys that a request names, and whether there is NVIDIA's uninstaller."""
    directory = os.path.abspath(request.tmpdir or "/tmp")
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    found = Files(os.path.isfile(request.src or ""), shutil.disk_usage(directory).free >> 20, uninstaller=os.path.exists(ctx.root + UNINSTALL))
    if request.signing_key and request.signing_certificate:
        found.key = _key_file(request.signing_key, False)
        found.certificate = _key_file(request.signing_certificate, bool(state.secure_boot))
    return found


def _key_file(path: str, with_content: bool) -> signing.KeyFile:
    """with_content: only Secure Boot makes a certificate's own content matter."""
    is_file = os.path.isfile(path)
    shared = is_file and bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    fingerprint = hashlib.sha256(_content(path)).hexdigest() if is_file and with_content else None
    return signing.KeyFile(path, os.path.exists(path), is_file, shared, fingerprint)


def _content(path: str) -> bytes:
    with open(path, "rb") as handle:
        return handle.read()


def arguments(request: Request, version: str, module_type: str | None) -> list[str]:
    """The installer's command line."""
    release, key, certificate = number(version)[0], request.signing_key, request.signing_certificate
    options = (
        (True, ["--silent"]),
        (request.dkms, ["--dkms"]),
        (request.disable_nouveau, ["--disable-nouveau"]),
        # nouveau may still be loaded: the reboot that follows ends it.
        (not request.load, ["--no-nouveau-check"]),
        (not request.load and release >= 550, ["--skip-module-load", "--skip-module-unload"]),
        (module_type and release >= 560, ["--kernel-module-type=%s" % module_type]),
        (request.tmpdir, ["--tmpdir=%s" % request.tmpdir]),
        # The paths alone: what a program is started with can be read by everybody.
        (key, ["--module-signing-secret-key=%s" % key, "--module-signing-public-key=%s" % certificate]),
        (True, request.extra),
    )
    return [word for applies, words in options if applies for word in words]


def apply(ctx: Context, steps: Sequence[Step], request: Request, module_type: str | None, timeout: float) -> list[Step]:
    """Runs the installer and verifies the version on disk."""

    def perform(step: Step) -> None:
        if step.kind == "uninstall":
            _uninstall(ctx, timeout)
        else:
            _install(ctx, request, step.args["version"], module_type, timeout)

    return execute(steps, perform)


def _install(ctx: Context, request: Request, version: str, module_type: str | None, timeout: float) -> None:
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
        found = "the installer did not end within %d s and was stopped" % timeout
    elif answer.rc:
        found = "the installer ended with rc %d" % answer.rc
    else:
        found = "the installer reported success, but the driver on disk is %s (%s)" % (driver.on_disk or "none", driver.flavour)
    log = [line for line in (files.read_text(ctx.root, LOG) or "").splitlines() if line.strip()]
    text = "%s: %s\nLast lines of %s:\n%s" % (found, answer.tail(8), LOG, "\n".join(log[-15:]))
    remedy = "Mend what the log names (compiler, headers of the running kernel, nouveau, space), then run again"
    raise error(text, request.src, "driver %s on disk" % version, remedy, "install_failed")


def _uninstall(ctx: Context, timeout: float) -> None:
    if not os.path.exists(ctx.root + UNINSTALL):
        if install_mark.is_open(ctx.root, install_mark.DRIVER):
            missing = "there is no %s: the installation was interrupted before it wrote that" % UNINSTALL
            raise error(missing, remedy="Complete the installation (state: present), then uninstall the driver.", code="no_uninstaller")
        missing = "there is no %s, so the driver came by another way" % UNINSTALL
        remedy = refusals.packaged(host.read_driver(ctx)) or "Remove its packages with apt or dnf, then run again."
        raise error(missing, remedy=remedy, code="no_uninstaller")
    answer = ctx.command([UNINSTALL, "--silent"], timeout, keeps_lock=True)
    driver = host.read_driver(ctx, trusting=True)
    if answer.rc or driver.on_disk:
        found = "uninstalling ended with rc %d, and the driver on disk is %s: %s" % (answer.rc, driver.on_disk or "none", answer.tail(8))
        raise error(found, remedy="Check %s." % LOG, code="uninstall_failed")
    install_mark.end(ctx, install_mark.DRIVER)
