# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs NVIDIA's installer or uninstaller, and looks whether it did its work."""

from __future__ import annotations

import os
from typing import List, Optional, Sequence

from ..base.errors import raise_if_any, trouble
from ..base.steps import Step, execute
from ..read import host
from ..state import install_mark
from ..system import files, modinfo
from ..system.context import Context
from . import signing
from .plan import Request, number

LOG = "/var/log/nvidia-installer.log"
UNINSTALL = "/usr/bin/nvidia-uninstall"


def arguments(request: Request, version: str, module_type: Optional[str]) -> List[str]:
    """The installer's command line. --skip-module-load exists since 550."""
    argv = ["--silent"]
    if request.dkms:
        argv.append("--dkms")
    if request.disable_nouveau:
        argv.append("--disable-nouveau")
    if not request.load:
        # nouveau may still be loaded: the reboot that follows ends it.
        argv.append("--no-nouveau-check")
        if number(version)[0] >= 550:
            argv += ["--skip-module-load", "--skip-module-unload"]
    if module_type and number(version)[0] >= 560:
        argv.append("--kernel-module-type=%s" % module_type)
    if request.tmpdir:
        argv.append("--tmpdir=%s" % request.tmpdir)
    if request.signing_key:
        # The paths alone: what a program is started with can be read by everybody.
        argv += ["--module-signing-secret-key=%s" % request.signing_key, "--module-signing-public-key=%s" % request.signing_certificate]
    return argv + list(request.extra)


def apply(ctx: Context, steps: Sequence[Step], request: Request, module_type: Optional[str], timeout: float) -> List[Step]:
    """Runs the installer and verifies the version on disk."""

    def perform(step: Step) -> None:
        if step.kind == "uninstall":
            _uninstall(ctx, timeout)
        else:
            _install(ctx, request, step.args["version"], module_type, timeout)

    return execute(steps, perform)


def log_tail(ctx: Context, lines: int = 15) -> str:
    """The last lines of the installer's log."""
    text = files.read_text(ctx.root, LOG) or ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def _install(ctx: Context, request: Request, version: str, module_type: Optional[str], timeout: float) -> None:
    install_mark.begin(ctx.root, install_mark.DRIVER)
    answer = ctx.command(["sh", request.src or ""] + arguments(request, version, module_type), timeout, keeps_lock=True)
    driver = host.read_driver(ctx, trusting=True)
    if answer.rc == 0 and driver.on_disk == version and driver.flavour == request.flavour:
        if request.signing_key and request.signing_certificate:
            _check_signature(ctx, request.signing_certificate)
        install_mark.end(ctx, install_mark.DRIVER)
        return
    if answer.timed_out:
        found = "the installer did not end within %d s and was stopped" % timeout
    elif answer.rc:
        found = "the installer ended with rc %d" % answer.rc
    else:
        found = "the installer reported success, but the driver on disk is %s (%s)" % (driver.on_disk or "none", driver.flavour)
    raise trouble(
        "%s: %s\nLast lines of %s:\n%s" % (found, answer.tail(8), LOG, log_tail(ctx)),
        device=request.src,
        wanted="driver %s on disk" % version,
        remedy="Mend what the log names (compiler, headers of the running kernel, nouveau, space), then run again",
        code="install_failed",
    )


def _check_signature(ctx: Context, certificate: str, timeout: float = 30) -> None:
    """Raises EngineError for a module that this certificate's key has not signed: DKMS, for one, may sign with a key of its own."""
    key_id, signer = modinfo.field(ctx, "sig_key", timeout), modinfo.field(ctx, "signer", timeout)
    with open(certificate, "rb") as handle:
        der = handle.read()
    wrong = signing.signature_trouble(certificate, der, key_id or "", signer or "")
    raise_if_any([wrong] if wrong else [])


def _uninstall(ctx: Context, timeout: float) -> None:
    if not os.path.exists(ctx.root + UNINSTALL):
        raise trouble(
            "there is no %s, so the driver came by another way" % UNINSTALL,
            remedy="Remove its packages with apt or dnf, then run again.",
            code="no_uninstaller",
        )
    answer = ctx.command([UNINSTALL, "--silent"], timeout, keeps_lock=True)
    driver = host.read_driver(ctx, trusting=True)
    if answer.rc or driver.on_disk:
        raise trouble(
            "uninstalling ended with rc %d, and the driver on disk is %s: %s" % (answer.rc, driver.on_disk or "none", answer.tail(8)),
            remedy="Look into %s." % LOG,
            code="uninstall_failed",
        )
    install_mark.end(ctx, install_mark.DRIVER)
