# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the license status of a guest, and finds the reasons for a missing license.

The sources are nvidia-smi, the tokens, gridd.conf, the nvidia-gridd service, and the service's journal.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import Iterator, Sequence

from ..base.clock import until
from ..base.errors import Refusal
from ..system import files, nvidia_smi
from ..system.context import Context
from ..system.nvidia_smi import GuestGpu
from . import gridd_conf, license as licensing, license_plan, license_setup, token

_LINES = 300  # the number of journal lines to read; older lines belong to earlier license requests
# The codes for errors after which nvidia-gridd exits because no usable token exists. After all other errors, nvidia-gridd retries.
_FATAL = ("token_malformed", "token_missing", "token_expired")
_RUNS = ("active", "activating", "reloading")


@dataclass(eq=False, repr=False)
class Snapshot:
    """The output of one nvidia-smi call.

    Attributes:
        silence: The reason why nvidia-smi reports no GPUs, or None.
    """

    gpus: list[GuestGpu]
    silence: str | None

    @property
    def licensable(self) -> list[GuestGpu]:
        """The GPUs for which nvidia-smi reports a license status."""
        return [gpu for gpu in self.gpus if gpu.status is not None]

    @property
    def licensed(self) -> bool:
        """Whether at least one GPU has a license status, and all GPUs that have a license status are licensed."""
        return bool(self.licensable) and all(licensing.state(gpu.status).licensed for gpu in self.licensable)


@dataclass(eq=False, repr=False)
class TokenFile:
    """A token that is stored in the VM, with the file path, file mode, and token text."""

    path: str
    mode: int
    text: str = field(repr=False)


@dataclass(eq=False, repr=False)
class Tokens:
    """The tokens in the directory that gridd.conf specifies, and the values in gridd.conf."""

    directory: str
    files: list[TokenFile]
    conf: dict[str, str]


@dataclass(eq=False, repr=False)
class Daemon:
    """The state of the nvidia-gridd service as reported by systemd.

    Attributes:
        loaded: The LoadState property, or None if systemctl fails.
        state: The ActiveState property, or None if systemctl fails.
        result: The Result property, or None if systemctl fails.
        since: The time when service startup began, in seconds since 1970, or None if unknown.
    """

    loaded: str | None = None
    state: str | None = None
    result: str | None = None
    since: float | None = None


def read(ctx: Context, timeout: float = 30) -> Snapshot:
    """Returns the current nvidia-smi output."""
    return Snapshot(*nvidia_smi.guest_gpus(ctx, timeout))


def await_license(ctx: Context, seconds: float, timeout: float = 30) -> Snapshot:
    """Waits until all GPUs are licensed, because nvidia-gridd requests licenses asynchronously. Returns the last snapshot.

    Args:
        seconds: The maximum number of seconds to wait.
        timeout: The timeout for each nvidia-smi call in seconds.
    """
    last: list[Snapshot] = []

    def is_over() -> bool:
        last[:] = [read(ctx, timeout)]
        return last[0].licensed or bool(ctx.smi_silent)

    until(ctx.clock, is_over, seconds, 1.0)
    return last[0]


def read_tokens(ctx: Context) -> Tokens:
    """Returns the unchecked contents of the tokens and gridd.conf."""
    conf = gridd_conf.values(files.read_text(ctx.root, gridd_conf.PATH) or "")
    directory = conf.get("ClientConfigTokenPath") or gridd_conf.TOKENS
    tokens = Tokens(directory, [], conf)
    for path in files.names(ctx.root, directory.rstrip("/"), ".tok") if license_plan.is_path(directory) else ():
        # This check follows links because nvidia-gridd follows links to tokens. Kubernetes mounts files as links.
        found = license_setup.status(ctx, path, follows=True) if license_plan.is_token(path) else None
        if found and stat.S_ISREG(found.st_mode):
            tokens.files.append(TokenFile(path, stat.S_IMODE(found.st_mode), files.read_text(ctx.root, path) or ""))
    return tokens


def read_daemon(ctx: Context, timeout: float = 30) -> Daemon:
    """Returns the state of the nvidia-gridd service as reported by systemd."""
    names = "LoadState,ActiveState,SubState,Result,InactiveExitTimestampMonotonic"
    answer = ctx.command(["systemctl", "show", "--no-pager", "--property=" + names, licensing.UNIT], timeout)
    if answer.rc:
        return Daemon()
    shown = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)
    begun = shown.get("InactiveExitTimestampMonotonic", "")
    since = ctx.clock.wall() - (ctx.clock.now() - int(begun) / 1e6) if begun.isdigit() and int(begun) else None
    return Daemon(shown.get("LoadState"), shown.get("ActiveState"), shown.get("Result"), since)


def is_outdated(ctx: Context, paths: Sequence[str]) -> bool:
    """Returns whether nvidia-gridd must be restarted because a file has changed since nvidia-gridd started.

    An earlier run might have changed the file and been interrupted before the restart. A modification time in the future is ignored, because such
    a time indicates that the clock was set back.
    """
    daemon = read_daemon(ctx)
    if daemon.state not in _RUNS or daemon.since is None:
        return False
    changes = [found.st_mtime for found in (license_setup.status(ctx, path) for path in paths) if found]
    return any(daemon.since < when <= ctx.clock.wall() for when in changes)


def reasons(ctx: Context, snapshot: Snapshot, now: float, timeout: float = 30) -> list[Refusal]:
    """Returns the reasons for a missing license. Causes precede consequences, and no reason contains a token."""
    wrong = _no_status(snapshot)
    if wrong:
        return [wrong]
    found = list(_file_errors(read_tokens(ctx), now))
    daemon = read_daemon(ctx, timeout)
    runs = daemon.state is None or daemon.state in _RUNS  # if systemd did not respond, nvidia-gridd counts as running
    why = licensing.reason(_journal(ctx, timeout)) if runs or daemon.state == "failed" else None
    if why and why.code not in [one.code for one in found] and (runs or why.code in _FATAL):
        found.append(why)
    if not runs:
        found.append(_daemon_error(daemon))
    return found or [Refusal(
        "nvidia-gridd is running, but the nvidia-gridd journal does not show why the license is missing", device=licensing.UNIT, expected="a license",
        remedy="Increase the vgpu_license_timeout variable. If the license is still missing, find the cause in 'journalctl -u nvidia-gridd'.",
        code="unknown")]


def _no_status(snapshot: Snapshot) -> Refusal | None:
    """Returns the reason why nvidia-smi reports no license status, or None if a license status is reported."""
    if snapshot.silence:
        return Refusal(
            snapshot.silence, device="nvidia-smi", expected="the license status",
            remedy="Run 'lsmod' to check whether the guest driver is loaded. Find the cause in the NVRM lines in dmesg.", code="smi_silent")
    if not snapshot.gpus:
        remedy = "Run 'lspci -d 10de:' in the VM. If the command prints nothing, attach a vGPU to the VM on the host."
        return Refusal("nvidia-smi reports no GPU", device="nvidia-smi", expected="a vGPU", remedy=remedy, code="no_vgpu")
    if not snapshot.licensable:
        return Refusal(
            "nvidia-smi reports no licensed product",
            device=snapshot.gpus[0].address, expected="the 'vGPU Software Licensed Product' section, which the vGPU guest driver reports",
            remedy="Install NVIDIA's guest driver (…-grid.run) instead of the data center driver.", code="not_licensable")
    return None


def _file_errors(tokens: Tokens, now: float) -> Iterator[Refusal]:
    """Yields errors in the stored tokens and gridd.conf."""
    if not tokens.files and not tokens.conf.get("ServerAddress"):
        yield Refusal(
            "the directory contains no token (client_configuration_token*.tok)", device=tokens.directory, expected="a client configuration token",
            remedy="Set the vgpu_license_token variable or the vgpu_license_token_file variable of the guest_license role.", code="token_missing")
    for one in tokens.files:
        yield from token.errors(one.text, now, one.path)
        if one.mode != license_plan.TOKEN_MODE:
            yield Refusal(
                "the file mode is %04o" % one.mode, device=one.path, expected="mode %04o, as NVIDIA documents" % license_plan.TOKEN_MODE,
                remedy="Run the guest_license role, which sets the mode, or run 'chmod %04o' for the file." % license_plan.TOKEN_MODE, code="token_mode")
    feature = tokens.conf.get("FeatureType")
    if feature and feature not in gridd_conf.FEATURES.values():
        yield Refusal(
            "FeatureType is %s" % feature[:20], device=gridd_conf.PATH, expected="0, 1, 2, or 4",
            remedy="Set the vgpu_license_feature variable to vgpu, vws, or compute, or remove the variable.", code="wrong_feature")


def _daemon_error(daemon: Daemon) -> Refusal:
    """Returns the error for an nvidia-gridd service that is missing or not running."""
    missing = daemon.loaded == "not-found"
    return Refusal(
        "the service does not exist" if missing else "the state of the service is %s (result: %s)" % (daemon.state, daemon.result or "not reported"),
        device=licensing.UNIT, expected="a running nvidia-gridd service",
        remedy="Install NVIDIA's guest driver." if missing
        else "Run 'systemctl start nvidia-gridd'. To find out why the service stopped, check 'journalctl -u nvidia-gridd'.",
        code="daemon_not_running")


def clock_synchronized(ctx: Context, timeout: float = 30) -> bool | None:
    """Returns whether systemd reports that the system clock is synchronized, or None if timedatectl fails."""
    answer = ctx.command(["timedatectl", "show", "--property=NTPSynchronized", "--value"], timeout)
    return {"yes": True, "no": False}.get(answer.out.strip()) if answer.rc == 0 else None


def _journal(ctx: Context, timeout: float) -> list[str]:
    """Returns the nvidia-gridd journal since the boot, including systemd messages about the service, oldest first."""
    answer = ctx.command(["journalctl", "-u", licensing.UNIT, "-b", "-o", "cat", "--no-pager", "-n", str(_LINES)], timeout)
    return answer.out.splitlines() if answer.rc == 0 else []
