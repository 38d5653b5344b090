# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""dpkg-query and rpm: which of the distribution's packages have NVIDIA's data center driver."""

from __future__ import annotations

import re

from .context import Context

# NVIDIA's own packages of the vGPU drivers have other names (nvidia-vgpu-*, nvidia-linux-grid-*).
_DEB = (
    *("nvidia-driver*", "nvidia-headless*", "nvidia-kernel*", "nvidia-open*", "nvidia-dkms*", "nvidia-tesla*", "nvidia-legacy*"),
    "linux-modules-nvidia*",
)
_RPM = ("nvidia-driver*", "nvidia-open*", "nvidia-kmod*", "kmod-nvidia*", "akmod-nvidia*", "dkms-nvidia*", "xorg-x11-drv-nvidia*")
# dpkg's desired action and status, of packages that are there as a whole or in part: ii, hi (held), iU, iF. Other lines are complaints.
_INSTALLED = re.compile(r"^([uihrp])[HUFWti][ R] *(\S+)$", re.MULTILINE)
_OF_RPM = re.compile(r"^(\S*nvidia\S*)$", re.MULTILINE)


def removal(ctx: Context, timeout: float = 30) -> str | None:
    """The command that removes them; None if there are none. One with a line for modprobe must be purged."""
    listed = ctx.command(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\\n", *_DEB], timeout).out
    found = sorted({name: held == "h" for held, name in _INSTALLED.findall(listed)}.items())
    if found:
        anyhow = ["--allow-change-held-packages"] if any(held for dummy, held in found) else []
        return " ".join(["apt-get purge", *anyhow, *(name for name, dummy in found)])
    answer = ctx.command(["rpm", "-qa", "--qf", "%{NAME}\\n", *_RPM], timeout)
    names = _OF_RPM.findall(answer.out) if answer.rc == 0 else []
    return "dnf remove " + " ".join(sorted(names)) if names else None
