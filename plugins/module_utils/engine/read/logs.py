# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads logs that explain failures: the journals of NVIDIA and libvirt services, and the kernel, QEMU, and installer logs.

Only lines from the current boot and the last day are read. The number of lines per log and the number of bytes per file are limited.
"""

from __future__ import annotations

import datetime
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Collection, Iterable

from ..system import journal
from ..system.context import Context
from ..system.journal import HOURS, Line
from ..system.libvirt_xml import Domain

UNITS = ("nvidia-vgpud", "nvidia-vgpu-mgr", "nvidia-gridd", "nvidia-fabricmanager")
LIBVIRT = ("libvirtd", "virtqemud", "virtnodedevd")
INSTALLER = "nvidia-installer"
VM = "VM "  # the prefix of VM log names
QEMU_LOGS = "/var/log/libvirt/qemu"
_INSTALLER_LOG = "/var/log/nvidia-installer.log"
_MOST = 2000  # the maximum number of journal lines for all units, and of kernel log lines
_BYTES = 64 * 1024  # the maximum number of bytes read from the end of one file
_FILES = 100  # the maximum number of VM logs to read
# Examples: 2021-04-21T09:42:33.814146Z qemu-kvm: …, or libvirt's 2021-04-21 09:42:30.123+0000: starting up …
_TIME = re.compile(r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?(?:Z|\+00:?00)[: ]")
_BEGIN = ": starting up "


@dataclass(eq=False, repr=False)
class Logs:
    """The lines in all logs, oldest first in each log. ``unread`` contains (log, reason) for each unreadable log."""

    lines: list[Line] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)


def read(ctx: Context, domains: Iterable[Domain] = (), vgpus: Collection[str] = (), timeout: float = 30) -> Logs:
    """Reads the logs on a host or in a VM.

    ``domains`` contains libvirt VMs. ``vgpus`` contains vGPU keys and VF addresses.
    Only VMs that have a mediated device or a device in ``vgpus`` are considered.
    """
    found = Logs()
    units = [word for name in (*UNITS, *LIBVIRT) for word in ("_SYSTEMD_UNIT=%s.service" % name, "+")][:-1]
    for log, matches in (("the journal", units), ("the kernel log", ["_TRANSPORT=kernel"])):
        lines, why = journal.read(ctx, matches, _MOST, timeout)
        found.lines += lines
        if why:
            found.unread.append((log, why))
    since = ctx.clock.wall() - HOURS * 3600
    named = [one.name for one in domains if any(device.mediated or device.key in vgpus for device in (one.defined or []) + (one.live or []))]
    for name in sorted(name for name in named if "/" not in name)[:_FILES]:
        found.lines += _qemu(VM + name, _tail(ctx, "%s/%s.log" % (QEMU_LOGS, name), since), since)
    found.lines += [Line(INSTALLER, journal.bounded(text)) for text in _tail(ctx, _INSTALLER_LOG, since)]
    return found


def _tail(ctx: Context, path: str, since: float) -> list[str]:
    """Returns the last lines in a file, or an empty result if the file is unreadable or was last written before ``since``."""
    try:
        status = os.stat(ctx.root + path)
        if not stat.S_ISREG(status.st_mode) or status.st_mtime < since:
            return []
        with open(ctx.root + path, "rb") as handle:
            handle.seek(max(0, status.st_size - _BYTES))
            return handle.read(_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _qemu(log: str, texts: Iterable[str], since: float) -> list[Line]:
    """Returns recent lines from a VM's log since the VM's last start. A line without a time gets the preceding line's time."""
    found: list[Line] = []
    when: float | None = None
    for text in texts:
        match = _TIME.match(text)
        if match:
            when = _seconds(match)
        if match and _BEGIN in text:
            found = []
        elif when is not None and when >= since:
            found.append(Line(log, journal.bounded(text[match.end():] if match else text), when))
    return found


def _seconds(match: "re.Match[str]") -> float | None:
    try:
        moment = datetime.datetime.strptime("%s %s" % match.groups(), "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()
