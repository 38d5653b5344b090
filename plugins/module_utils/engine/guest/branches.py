# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether a guest's driver is compatible with the host's.

NVIDIA's rules allow: the same branch; a host of the next branch with a guest of the previous one; since release 19 also a host of a long-term
branch with a guest of the previous long-term branch. A guest that is newer than its host is never supported, which needs no table. Only the
table of branches shows that a guest is too old, which is a warning. Source: the section on compatibility in
https://docs.nvidia.com/vgpu/19.0/grid-vgpu-release-notes-citrix-xenserver/index.html, the same in the notes of other hypervisors.
"""

from __future__ import annotations

import re

from ..base.errors import Refusal, shown

# Driver branch: vGPU software release. NVIDIA supports long-term branches for three years.
RELEASES = {450: 11, 460: 12, 470: 13, 510: 14, 525: 15, 535: 16, 550: 17, 570: 18, 580: 19, 595: 20}
LONG_TERM = (450, 470, 535, 580)
_FIRST_WITH_LONG_TERM_RULE = 19


def branch(version: str | None) -> int | None:
    """The branch of a driver's version (550 of 550.163.02), or None if the text is not a version."""
    match = re.match(r"([0-9]{3})(?:\.[0-9]{1,4}){1,3}$", str(version or ""))
    return int(match.group(1)) if match else None


def fitting(host_branch: int) -> list[int]:
    """The guest branches that a host of this branch supports, the best first. An unknown branch supports itself."""
    fit = {host_branch}
    if host_branch in RELEASES:
        fit.update([one for one in sorted(RELEASES) if one < host_branch][-1:])
        if host_branch in LONG_TERM and RELEASES[host_branch] >= _FIRST_WITH_LONG_TERM_RULE:
            fit.update([one for one in LONG_TERM if one < host_branch][-1:])
    return sorted(fit, reverse=True)


def named(number: int) -> str:
    """A branch for messages: 550 (vGPU 17)."""
    return "%d (vGPU %d)" % (number, RELEASES[number]) if number in RELEASES else str(number)


def error_of(host_version: str, guest_version: str) -> Refusal | None:
    """The error of this pair that needs no table: an invalid version, or a guest that is newer than its host; otherwise None."""
    host, guest = branch(host_version), branch(guest_version)
    if host is None or guest is None:
        what, version = ("host", host_version) if host is None else ("guest", guest_version)
        return Refusal(
            "%s is not a driver version" % shown(version), device="the %s's driver" % what, expected="such as 550.163.01", code="bad_version")
    return _differs(host, "is newer than the host's", host_version, guest_version) if guest > host else None


def warning_of(host_version: str, guest_version: str) -> Refusal | None:
    """The warning of a guest that is too old for its host, from the table of branches. None for a host branch that the table does not have."""
    host, guest = branch(host_version), branch(guest_version)
    if host is None or guest is None or host not in RELEASES or guest > host or guest in fitting(host):
        return None
    return _differs(host, "is too old for the host's", host_version, guest_version)


def _differs(host: int, why: str, host_version: str, guest_version: str) -> Refusal:
    return Refusal(
        "the guest driver %s %s %s" % (guest_version, why, host_version),
        device="driver", expected="a guest driver of branch %s" % " or ".join(named(one) for one in fitting(host)),
        remedy="Use the guest driver of the host's own bundle, which is always compatible, or upgrade the host to the newer branch first.",
        code="branches_differ")
