# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a guest is licensed, and if not, why: nvidia-smi, the token, the daemon and its journal, each asked once per look."""

from __future__ import annotations

import os
import stat

from ..base.clock import until
from ..base.errors import Trouble
from ..hardware import address
from ..system import files, nvidia_smi
from . import daemon as daemons, gridd_conf, license as licensing, license_setup, token

_LINES = 300  # of the journal; what is older tells of another try
# What ends the daemon: without a token it has nothing to go on with. Of all else it tries again.
_FATAL = ("token_malformed", "token_missing", "token_expired")


class Look:
    """One look. gpus: licensing.Gpu with an address in sysfs' spelling. silence: why nvidia-smi says nothing, or None."""

    def __init__(self, gpus, silence):
        self.gpus = gpus
        self.silence = silence

    @property
    def licensable(self):
        """GPUs that have a licence status at all."""
        return [gpu for gpu in self.gpus if gpu.status is not None]

    @property
    def licensed(self):
        """Whether all GPUs that can have a licence have one."""
        return bool(self.licensable) and all(licensing.state(gpu.status).licensed for gpu in self.licensable)


def once(ctx, timeout=30):
    """Asks nvidia-smi."""
    answer = nvidia_smi.call(ctx, ["-q"], timeout)
    if answer.timed_out:
        return Look([], ctx.smi_silent)
    if answer.rc:
        return Look([], nvidia_smi.silence(ctx) or "nvidia-smi ended with rc %d: %s" % (answer.rc, answer.tail(2)))
    gpus = licensing.parse(answer.out)
    for gpu in gpus:
        gpu.address = address.parse(gpu.address)
    return Look(gpus, None)


def waited(ctx, seconds, timeout=30):
    """Looks until all are licensed or the time is up: a licence is fetched in the background. Returns the last look."""
    last = []

    def look():
        last[:] = [once(ctx, timeout)]
        return last[0].licensed or bool(ctx.smi_silent)

    until(ctx.clock, look, seconds, 1.0)
    return last[0]


def token_files(ctx):
    """Tokens in the folder that gridd.conf names: (path, mode, claims), and the troubles of none, of modes and of times are told by reasons()."""
    conf = gridd_conf.values(files.read_text(ctx.root, gridd_conf.PATH) or "")
    folder = conf.get("ClientConfigTokenPath") or gridd_conf.TOKENS
    found = []
    for path in files.names(ctx.root, folder.rstrip("/"), ".tok") if license_setup.is_path(folder) else ():
        try:
            mode = os.lstat(ctx.root + path).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode):
            found.append((path, stat.S_IMODE(mode), files.read_text(ctx.root, path) or ""))
    return folder, found, conf


def reasons(ctx, look, now, timeout=30):
    """Why there is no licence, the cause before its consequences. Never a token in it."""
    if look.silence:
        return [_silent(look.silence)]
    if not look.gpus:
        return [
            Trouble("nvidia-smi shows no GPU", device="nvidia-smi", wanted="a vGPU", remedy="Is there a vGPU in this VM? 'lspci -d 10de:'.", code="no_vgpu")
        ]
    if not look.licensable:
        return [
            Trouble(
                "nvidia-smi tells of no licensed product",
                device=look.gpus[0].address,
                wanted="the section 'vGPU Software Licensed Product' of the vGPU guest driver",
                remedy="Install NVIDIA's guest driver (…-grid.run) in place of the ordinary one.",
                code="not_licensable",
            )
        ]
    folder, tokens, conf = token_files(ctx)
    found = []
    legacy = bool(conf.get("ServerAddress"))
    if not tokens and not legacy:
        found.append(
            Trouble(
                "there is no token (*.tok)",
                device=folder,
                wanted="a client configuration token",
                remedy="Give one as vgpu_license_token or vgpu_license_token_file (role guest_license).",
                code="token_missing",
            )
        )
    for path, mode, text in tokens:
        found += token.troubles(text, now, path)
        if mode != license_setup.TOKEN_MODE:
            found.append(
                Trouble(
                    "its mode is %04o" % mode,
                    device=path,
                    wanted="%04o, as NVIDIA documents" % license_setup.TOKEN_MODE,
                    remedy="Role guest_license sets it; by hand: chmod %04o." % license_setup.TOKEN_MODE,
                    code="token_mode",
                )
            )
    if conf.get("FeatureType") not in (None, "", *gridd_conf.FEATURES.values()):
        found.append(
            Trouble(
                "FeatureType is %s" % conf["FeatureType"][:20],
                device=gridd_conf.PATH,
                wanted="0, 1, 2 or 4",
                remedy="Set vgpu_license_feature to vgpu, vws or compute, or leave it out.",
                code="wrong_feature",
            )
        )
    daemon, failed = _daemon(ctx, timeout)
    why = licensing.reason(_journal(ctx, timeout)) if failed or not daemon else None
    if why and why.code not in [one.code for one in found] and (not daemon or why.code in _FATAL):
        found.append(why)
    if daemon:
        found.append(daemon)
    return found or [
        Trouble(
            "nvidia-gridd runs, and its journal does not say why there is no licence",
            device=licensing.UNIT,
            wanted="a licence",
            remedy="It may still be asking: wait longer (guest_license_timeout), or look at 'journalctl -u nvidia-gridd'.",
            code="unknown",
        )
    ]


def _silent(silence):
    return Trouble(
        silence,
        device="nvidia-smi",
        wanted="the licence's state",
        remedy="Is the guest driver installed and loaded? Look at 'lsmod' and at dmesg for NVRM lines.",
        code="smi_silent",
    )


def _daemon(ctx, timeout):
    """The trouble of a daemon that does not run, or None, and whether it failed."""
    told = daemons.look(ctx, timeout)
    if told.runs:
        return None, False
    missing = told.loaded == "not-found"
    found = Trouble(
        "there is no such service" if missing else "it is %s (%s)" % (told.state, told.result or "not told"),
        device=licensing.UNIT,
        wanted="a running nvidia-gridd",
        remedy="Install NVIDIA's guest driver." if missing else "Start it ('systemctl start nvidia-gridd'); why it ended: 'journalctl -u nvidia-gridd'.",
        code="daemon_not_running",
    )
    return found, told.state == "failed"


def clock_synchronized(ctx, timeout=30):
    """Whether systemd knows the clock to be synchronised; None where it does not tell."""
    answer = ctx.command(["timedatectl", "show", "--property=NTPSynchronized", "--value"], timeout)
    return {"yes": True, "no": False}.get(answer.out.strip()) if answer.rc == 0 else None


def _journal(ctx, timeout):
    """Messages of the daemon since the boot, and of systemd about it, oldest first."""
    answer = ctx.command(["journalctl", "-u", licensing.UNIT, "-b", "-o", "cat", "--no-pager", "-n", str(_LINES)], timeout)
    return answer.out.splitlines() if answer.rc == 0 else []
