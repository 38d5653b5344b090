# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds problems in the logs of a host or VM.

Each known log message is reported once per device, with its cause and remedy. Unknown error messages are quoted. All findings are warnings, because
logs show past events instead of the current state. A finding is omitted if a state check reports the same problem.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Collection, Iterator

from ..base.errors import Refusal, plain, printable
from ..hardware import address
from ..read.logs import INSTALLER, LIBVIRT, VM, Logs
from ..system.journal import HOURS, KERNEL, Line
from . import symptoms

_SHOWN = 3  # the maximum number of unknown lines that a finding quotes
_ERROR = re.compile(
    r"\b(?:error|fail(?:ed|s|ure)?|fatal|can(?:not|'t)|unable|timed? ?out|refused|denied|invalid|(?:not |un)supported|abort\w*|assert\w*|mismatch"
    r"|incompatible|corrupt\w*|Xid)\b", re.IGNORECASE)
# In logs that several programs share, unknown lines are reported only if the lines match this pattern.
_OURS = re.compile(r"NVRM|nvidia|vgpu|mdev", re.IGNORECASE)
_PCI = re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?\b", re.IGNORECASE)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
# For each VM, an nvidia-vgpu-mgr process logs the vGPU only once, as a mediated device or as a VF (0:3b:0.7).
_STARTS = re.compile(r"mdev uuid (\S{36})|detected a VF at ([0-9a-f]{1,4}:[0-9a-f]{1,2}:[0-9a-f]{1,2}\.[0-9a-f])", re.IGNORECASE)


@dataclass(eq=False, repr=False)
class _Found:
    """Log lines that report the same problem for one device."""

    lines: list[Line] = field(default_factory=list)


def find(logs: Logs, told: Collection[str] = ()) -> list[Refusal]:
    """Returns the findings in the logs. 'told' contains the codes of problems that state checks already report."""
    known: dict[tuple[str, str, str], _Found] = {}
    unknown: dict[str, _Found] = {}
    vgpus: dict[str, str] = {}  # maps the PID of each vGPU manager process to its vGPU
    for line in logs.lines:
        kind, text = _kind(line.log), " ".join(line.text.split())
        started = _STARTS.search(text)
        if started and line.pid:  # lines of the kernel log and of log files have no PID, so the next line can concern another device
            vgpus[line.pid] = _key(started.group(1) or started.group(2))
        _end(known, line, text)
        matching, patterns, harmless = symptoms.patterns(kind)
        if harmless.search(text):
            continue
        code = next((one for one, pattern in patterns if pattern.search(text)), None) if matching.search(text) else None
        if code:
            known.setdefault((code, _device(line, text, vgpus), _pid(code, line)), _Found()).lines.append(line)
        elif _is_error(kind, text):
            unknown.setdefault(line.log, _Found()).lines.append(line)
    merged: dict[tuple[str, str], _Found] = {}
    for (code, device, dummy), one in known.items():
        merged.setdefault((code, device), _Found()).lines += one.lines
    found = [symptoms.refusal(code, device, _evidence(one)) for (code, device), one in merged.items() if not set(symptoms.reported(code)) & set(told)]
    return [*found, *_unknown(unknown), *_unread(logs)]


def _kind(log: str) -> str:
    """Returns the log's name in the symptom table."""
    return "qemu" if log.startswith(VM) else "libvirt" if log in LIBVIRT else log


def _pid(code: str, line: Line) -> str:
    """Returns the PID in a log line if findings with this code belong to a process, or an empty string otherwise."""
    return line.pid if symptoms.ENDED.get(code, ("", False))[1] else ""


def _end(known: dict[tuple[str, str, str], _Found], line: Line, text: str) -> None:
    """Removes the findings that a log line marks as resolved."""
    for code, (pattern, dummy) in symptoms.ENDED.items():
        open_ones = [key for key, one in known.items() if key[0] == code and one.lines[0].log == line.log and key[2] == _pid(code, line)]
        if open_ones and re.search(pattern, text, re.IGNORECASE):
            for key in open_ones:
                del known[key]


def _is_error(kind: str, text: str) -> bool:
    """Returns whether an unknown log line reports an error that concerns vGPUs."""
    if kind == INSTALLER:
        return text.startswith("ERROR:")
    shared = kind in (KERNEL, "qemu", "libvirt")
    return bool(_ERROR.search(text)) and (not shared or bool(_OURS.search(text))) and not (kind == "qemu" and text.startswith("-"))


def _device(line: Line, text: str, vgpus: dict[str, str]) -> str:
    """Returns the device that a log line concerns.

    The device is the PCI function or vGPU in the log line, or otherwise the vGPU of the process that wrote the line. Without a known device, the VM
    or log is returned.
    """
    if line.log.startswith(VM):
        return line.log
    pci, uuid = _PCI.search(text) if line.log == KERNEL else None, _UUID.search(text)
    if pci:
        return _key(pci.group(0) if "." in pci.group(0) else pci.group(0) + ".0")
    return uuid.group(0).lower() if uuid else vgpus.get(line.pid) or (line.log + ".service" if line.log not in (KERNEL, INSTALLER) else line.log)


def _key(word: str) -> str:
    """Returns a PCI address or UUID in sysfs notation."""
    return address.parse(word) if address.is_address(word) else word.lower()


def _quoted(line: Line) -> str:
    return printable(plain(line.text), lines=False)


def _evidence(one: _Found) -> str:
    """Returns a clause with the last log line, its time, and the number of lines."""
    last = one.lines[-1]
    log = "the kernel log" if last.log == KERNEL else last.log + "'s log"
    often = "" if len(one.lines) == 1 else " %d times, most recently" % len(one.lines)
    return "%s shows this message%s%s: %s" % (log, often, _time(last), _quoted(last))


def _time(line: Line) -> str:
    try:
        return datetime.datetime.fromtimestamp(line.when, datetime.timezone.utc).strftime(" at %Y-%m-%d %H:%M:%S UTC") if line.when else ""
    except (OverflowError, OSError, ValueError):
        return ""


def _unknown(found: dict[str, _Found]) -> Iterator[Refusal]:
    for log, one in found.items():
        texts = list(dict.fromkeys(map(_quoted, one.lines)))[-_SHOWN:]
        lines = "%d lines report errors" % len(one.lines) if len(one.lines) > 1 else "a line reports an error"
        yield Refusal(
            "%s without a known cause: %s" % (lines, " | ".join(texts)), log if log == KERNEL or log.startswith(VM) else log + ".service",
            remedy="Find the cause in the surrounding lines of the log (%s)." % _command(log), code="log_unknown",
        )


def _unread(logs: Logs) -> Iterator[Refusal]:
    for log, why in logs.unread:
        found = "the log cannot be read, so errors in the log are unknown: %s" % why
        yield Refusal(
            found, log, "the log lines of the last %d hours" % HOURS,
            "Rerun the command or playbook as root. If the log is still unreadable, check whether 'journalctl -n 10' prints log lines.", "log_unread",
        )


def _command(log: str) -> str:
    """Returns the log's path, or the command that prints the log."""
    if log.startswith(VM):
        return "/var/log/libvirt/qemu/%s.log" % log[len(VM):]
    if log == INSTALLER:
        return "/var/log/nvidia-installer.log"
    return "'journalctl -k -b'" if log == KERNEL else "'journalctl -b -u %s'" % log
