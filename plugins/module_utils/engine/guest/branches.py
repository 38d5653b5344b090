# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether a VM's guest driver is compatible with the host driver.

NVIDIA supports these branch combinations:

* The guest driver and the host driver belong to the same branch.
* The guest driver is one branch older than the host driver.
* The host driver belongs to a long-term branch of vGPU 19 or later, and the guest driver belongs to the previous long-term branch.

NVIDIA never supports a guest driver that is newer than the host driver, so a newer guest driver is an error. Only the branch table shows whether a
guest driver is too old, so an outdated guest driver causes only a warning. Source: the compatibility section in
https://docs.nvidia.com/vgpu/19.0/grid-vgpu-release-notes-citrix-xenserver/index.html. The release notes for other hypervisors contain the same rules.
"""

from __future__ import annotations

import re

from ..base.errors import Refusal, shown

# The vGPU software release for each driver branch. NVIDIA supports long-term branches for three years.
RELEASES = {450: 11, 460: 12, 470: 13, 510: 14, 525: 15, 535: 16, 550: 17, 570: 18, 580: 19, 595: 20}
LONG_TERM = (450, 470, 535, 580)
_FIRST_WITH_LONG_TERM_RULE = 19


def branch(version: str | None) -> int | None:
    """Returns the branch of a driver version (550 for 550.163.02), or None for an invalid driver version."""
    match = re.match(r"([0-9]{3})(?:\.[0-9]{1,4}){1,3}$", str(version or ""))
    return int(match.group(1)) if match else None


def fitting(host_branch: int) -> list[int]:
    """Returns the guest driver branches that are compatible with a host driver branch, newest first.

    An unknown host driver branch is only compatible with guest drivers from the same branch.
    """
    fit = {host_branch}
    if host_branch in RELEASES:
        fit.update([one for one in sorted(RELEASES) if one < host_branch][-1:])
        if host_branch in LONG_TERM and RELEASES[host_branch] >= _FIRST_WITH_LONG_TERM_RULE:
            fit.update([one for one in LONG_TERM if one < host_branch][-1:])
    return sorted(fit, reverse=True)


def named(number: int) -> str:
    """Returns a branch and its vGPU software release as message text, such as 550 of vGPU 17."""
    return "%d of vGPU %d" % (number, RELEASES[number]) if number in RELEASES else str(number)


def error_of(host_version: str, guest_version: str) -> Refusal | None:
    """Returns the error for an invalid driver version or for a guest driver from a newer branch than the host driver, or None."""
    host, guest = branch(host_version), branch(guest_version)
    if host is None or guest is None:
        what, version = ("host", host_version) if host is None else ("guest", guest_version)
        return Refusal(
            "%s is not a driver version" % shown(version), device="the %s driver" % what, expected="a version such as 550.163.01", code="bad_version")
    return _differs(host, "is newer than the host driver", host_version, guest_version) if guest > host else None


def warning_of(host_version: str, guest_version: str) -> Refusal | None:
    """Returns the warning if the guest driver is too old for the host driver according to the branch table, or None.

    The result is None if the table does not contain the host driver's branch.
    """
    host, guest = branch(host_version), branch(guest_version)
    if host is None or guest is None or host not in RELEASES or guest > host or guest in fitting(host):
        return None
    return _differs(host, "is too old for the host driver", host_version, guest_version)


def _differs(host: int, why: str, host_version: str, guest_version: str) -> Refusal:
    return Refusal(
        "the guest driver %s %s %s" % (guest_version, why, host_version),
        device="driver", expected="a guest driver from branch %s" % " or ".join(named(one) for one in fitting(host)),
        remedy="Use the guest driver from the host driver's vGPU software package, which is always compatible. "
        "Before you use a newer branch in guests, upgrade the host driver to this branch.",
        code="branches_differ")
