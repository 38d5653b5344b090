# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and removes the distribution's packages for NVIDIA's data center driver with dpkg-query, apt-get, rpm, and dnf."""

from __future__ import annotations

import fnmatch
import re
from typing import Sequence

from .command import Result
from .context import Context

_DEB = (
    *("nvidia-driver*", "nvidia-headless*", "nvidia-kernel*", "nvidia-open*", "nvidia-dkms*", "nvidia-tesla*", "nvidia-legacy*"),
    *("linux-modules-nvidia*", "nvidia-installer-cleanup*", "cuda-drivers*"),
)
_RPM = ("nvidia-driver*", "nvidia-open*", "nvidia-kmod*", "kmod-nvidia*", "akmod-nvidia*", "dkms-nvidia*", "xorg-x11-drv-nvidia*", "cuda-drivers*")
# Packages with the driver's libraries and programs share the driver version, but package names differ between distributions.
_ANY = ("*nvidia*", "NVIDIA-vGPU-*", "libcuda*", "libnvcuvid*", "libnvoptix*", "cuda-drivers*")
# NVIDIA's own vGPU driver packages, which do not belong to the distribution.
_OURS = ("nvidia-vgpu-*", "nvidia-linux-grid-*", "NVIDIA-vGPU-*")
# The desired action and status that dpkg prints for fully or partially installed packages: ii, hi (held), iU, and iF.
# Other output lines are error messages.
_INSTALLED = re.compile(r"^([uihrp])[HUFWti][ R] *(\S+) (\S+)$", re.MULTILINE)
_OF_RPM = re.compile(r"^(\S*(?:nvidia|NVIDIA-vGPU|cuda|nvcuvid|nvoptix)\S*) (\S+)$", re.MULTILINE)
# The Fabric Manager package. Before release 580, the name contains the branch, and some RPM names contain a hyphen.
_FABRIC_MANAGER = r"nvidia-fabric-?manager(-[0-9]+)?(:\w+)?$"
_APT, _HELD, _DNF = ("apt-get", "purge"), "--allow-change-held-packages", ("dnf", "remove")
_OF_APT = re.compile(r"^(?:Purg|Remv) (\S+)", re.MULTILINE)
# A row in dnf's table. dnf prints long names on a separate line.
_OF_DNF = re.compile(r"^ (\S+)\s+(?:x86_64|noarch|i[3-6]86)\s", re.MULTILINE)


def removal(ctx: Context, version: str | None, timeout: float = 30, ours: bool = False) -> list[str] | None:
    """Returns the command that removes driver packages and libraries, or None if no driver package is installed.

    ``version`` is the driver version. ``ours`` selects NVIDIA's vGPU driver instead. Packages that contain a modprobe configuration must be purged.
    """
    states = _debs(ctx, timeout)
    found = _of_driver({name: full for name, (dummy, full) in states.items()}, _OURS if ours else _DEB, version)
    if found:
        return [*_APT, *([_HELD] if any(states[name][0] for name in found) else []), *found]
    found = _of_driver(_rpms(ctx, timeout), _OURS if ours else _RPM, version)
    return [*_DNF, *found] if found else None


def fabric_manager(ctx: Context, timeout: float = 30) -> tuple[str | None, str | None]:
    """Returns (the Fabric Manager package, the version without the distribution's suffix), or (None, None) if not installed."""
    there = {name: full for name, (dummy, full) in _debs(ctx, timeout).items()} or _rpms(ctx, timeout)
    name = next((one for one in sorted(there) if re.match(_FABRIC_MANAGER, one)), None)
    return name, _upstream(there[name]) if name else None


def installed(ctx: Context, command: Sequence[str], timeout: float = 30) -> list[str]:
    """Returns the installed packages among those in a removal command."""
    there = _debs(ctx, timeout) if command[:2] == list(_APT) else _rpms(ctx, timeout)
    return [name for name in command[2:] if name in there]


def rest(ctx: Context, command: Sequence[str], timeout: float = 30) -> list[str]:
    """Returns a removal command for the packages that are still installed, or an empty list if no packages remain."""
    left = installed(ctx, command, timeout) if command else []
    return [word for number, word in enumerate(command) if number < 2 or word == _HELD or word in left] if left else []


def _debs(ctx: Context, timeout: float) -> dict[str, tuple[bool, str]]:
    """Returns (whether the package is held, package version), keyed by package name."""
    listed = ctx.command(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${binary:Package} ${Version}\\n", *_ANY], timeout).out
    return {name: (held == "h", full) for held, name, full in _INSTALLED.findall(listed)}


def _rpms(ctx: Context, timeout: float) -> dict[str, str]:
    answer = ctx.command(["rpm", "-qa", "--qf", "%{NAME} %{VERSION}\\n", *_ANY], timeout)
    return dict(_OF_RPM.findall(answer.out)) if answer.rc == 0 else {}


def _of_driver(installed: dict[str, str], patterns: Sequence[str], version: str | None) -> list[str]:
    """Returns the sorted names of driver packages, or an empty list if only libraries are installed.

    ``installed`` maps package names to versions.
    """
    if patterns is _OURS:
        return sorted(name for name in installed if _fits(name, _OURS))
    theirs = {name: full for name, full in installed.items() if not _fits(name, _OURS)}
    drivers = [name for name in theirs if _fits(name, patterns)]
    return sorted(name for name, full in theirs.items() if name in drivers or _upstream(full) == version) if drivers else []


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, one) for one in patterns)


def _upstream(version: str) -> str:
    """Returns a package version without the epoch and the distribution's suffix."""
    return re.split("[-~+]", version.split(":")[-1])[0]


def foreseen(ctx: Context, command: Sequence[str], timeout: float = 120) -> tuple[list[str], str]:
    """Returns the packages that a removal command would remove, including dependent packages, and an empty string.

    If the package manager would refuse the removal, returns an empty list and the reason.
    """
    if command[:2] == list(_APT):
        answer = ctx.command(["apt-get", "--simulate", *command[1:]], timeout)
        found, refused = _OF_APT.findall(answer.out), answer.rc != 0
    else:
        answer = ctx.command(["dnf", "--assumeno", *command[1:]], timeout)
        found, refused = _OF_DNF.findall(answer.out), False  # dnf also exits with status 1 after the answer "no"
    if refused or not found:
        return [], answer.tail() or "no output"
    return sorted(set(found)), ""


def remove(ctx: Context, command: Sequence[str], timeout: float) -> Result:
    """Removes the packages, and waits for other programs that use the package manager."""
    words = ["--yes", "--option", "DPkg::Lock::Timeout=300"] if command[:2] == list(_APT) else ["--assumeyes"]
    return ctx.command([command[0], *words, *command[1:]], timeout, env={"DEBIAN_FRONTEND": "noninteractive"}, keeps_lock=True)
