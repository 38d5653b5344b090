# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses a guest's license status, and finds the cause of a missing license in the nvidia-gridd journal."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Sequence

from ..base.errors import Refusal, plain

UNIT = "nvidia-gridd.service"
_EXPIRY = re.compile(r"Expiry\s*:\s*([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}\s+[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2})")


@dataclass(eq=False, repr=False)
class State:
    """The license status of a vGPU.

    Attributes:
        licensed: Whether the vGPU has a license.
        restricted: Whether the vGPU is throttled, or None if the driver does not report throttling.
        expiry: The license expiry time in ISO 8601 format, or None if the driver reports no expiry time.
    """

    licensed: bool
    restricted: bool | None
    expiry: str | None


def state(status: str | None) -> State:
    """Parses a license status from nvidia-smi. Only the start of the text is compared, because "Unlicensed (…)" contains "licensed"."""
    text = (status or "").strip()
    if re.match(r"Licensed\b", text):
        return State(True, False, _expiry(text))
    match = re.match(r"Unlicensed\s*\((\w+)\)", text)
    return State(False, {"restricted": True, "unrestricted": False}.get(match.group(1).lower() if match else ""), None)


def _expiry(text: str) -> str | None:
    match = _EXPIRY.search(text)
    try:
        return datetime.datetime.strptime(match.group(1), "%Y-%m-%d %H:%M:%S").isoformat() + "Z" if match else None
    except ValueError:
        return None


# The causes of a missing license, and the patterns that identify each cause in the nvidia-gridd journal.

_TIME = "Set up time synchronization (chrony or systemd-timesyncd), then restart nvidia-gridd. Licensing requires a correct clock."
# The patterns are ordered from most to least specific. If a line matches several patterns, the first match takes precedence.
_SIGNS = (
    ("wrong_feature", r"invalid feature type", "FeatureType requests a feature that this vGPU does not support",
     "Set the vgpu_license_feature variable to the license feature of the vGPU type (vgpu is valid for all vGPU types), or remove the variable."),
    ("clock_skew", r"clock|system time|time (?:skew|difference|drift)|not yet valid|windback|allowed time to process",
     "the clocks of the guest and the license server differ", _TIME),
    ("token_expired", r"token.*(?:expired|no longer valid)|expired.*token", "the client configuration token has expired",
     "Generate a new token on the license server, and set the vgpu_license_token variable to the new token."),
    ("token_malformed", r"decode signature|read configurations from.*token|malformed.*token|token.*malformed",
     "the client configuration token is malformed",
     "Generate a new token on the license server, and set the vgpu_license_token variable to the new token."),
    ("token_missing", r"(?:unable|failed|cannot|could not|can't).*(?:find|fetch|open|read|load).*token|token.*(?:not found|missing)",
     "nvidia-gridd found no readable token", "Set the vgpu_license_token variable to the client configuration token."),
    ("trust_store_full", r"trusted store.*maximum buffer size exceeded", "the license server's response is too large for this guest driver",
     "Update the guest driver to the newest release of its branch, or shorten the server's certificate chain. Then restart nvidia-gridd."),
    ("trust_store", r"trusted? store|certificate|\bssl\b|\btls\b", "the license server's response is not trusted",
     "Check that the token belongs to this license server instance and that no proxy intercepts the connection. "
     "Then generate a new token, and set the vgpu_license_token variable to the new token."),
    ("server_unreachable",
     r"time[d ]?\s?out|could(?:n't| not) (?:resolve|connect)|connection (?:refused|reset)|no route|unreachable|did not respond|failed to connect"
     r"|name or service|network communication failure",
     "the license server cannot be reached", "Check name resolution, routes, and firewalls between this VM and the license server (port 443 or ServerPort)."),
    ("refused", r"insufficient|not available|no licen[sc]es?\b|all licen[sc]es|denied|rejected|not (?:enough|entitled)|no (?:free )?pool",
     "the license server has no license for this VM", "Check on the license server whether the product has free licenses, and which clients hold licenses."),
)
_ACQUIRED = re.compile(r"licen[sc]e (?:acquired|renewed) successfully", re.IGNORECASE)
# Some releases include the product name, as in "Failed to acquire NVIDIA GRID Virtual Workstation license".
_FAILED = re.compile(r"failed to acquire (?:[^(]{1,80} )?licen[sc]e", re.IGNORECASE)
# The license server's name is removed from a line before pattern matching, because a name such as tls.example.com would match a pattern.
_SERVER = re.compile(r"(?<=\bfrom )\S+", re.IGNORECASE)
_BEGIN = re.compile(r"^Starting |\bstarted \(\d+\)", re.IGNORECASE)
# systemd can log "Started" after the daemon's first lines, so a "Started" line does not indicate a new start of the daemon.
_UP = re.compile(r"^Started ")


def _begin(lines: Sequence[str]) -> int:
    """Returns the index of the first line after the last nvidia-gridd start or the last granted license, whichever is later."""
    begin, starting = 0, False
    for number, line in enumerate(lines):
        if _BEGIN.search(line):
            begin, starting = number + 1, True
        elif _ACQUIRED.search(line):
            begin = number + 1
        elif _UP.search(line):
            begin, starting = begin if starting else number + 1, False
    return begin


def reason(lines: Sequence[str]) -> Refusal | None:
    """Returns the reason why the last license request failed, or None if the journal contains no failure.

    Lines before the last nvidia-gridd start, the last granted license, or the last license request are ignored. If several lines match, the newest
    line takes precedence.

    Args:
        lines: The nvidia-gridd messages from the journal, oldest first.
    """
    begin = _begin(lines)
    failed = [number for number in range(begin, len(lines)) if _FAILED.search(lines[number])]
    last = lines[failed[-2] + 1 if len(failed) > 1 else begin:]
    for line in reversed(last):
        for code, pattern, found, remedy in _SIGNS:
            if re.search(pattern, _SERVER.sub("", line), re.IGNORECASE):
                return Refusal(
                    "%s, according to the nvidia-gridd journal: %s" % (found, plain(line)), device=UNIT, expected="a license", remedy=remedy, code=code)
    if not failed:
        return None
    return Refusal(
        "no license was granted, according to the nvidia-gridd journal: %s" % plain(lines[failed[-1]]), device=UNIT, expected="a license",
        remedy="Find the cause in 'journalctl -u nvidia-gridd' or in the license server's log.", code="not_acquired")
