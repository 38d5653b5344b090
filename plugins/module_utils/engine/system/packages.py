# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""dpkg-query and rpm: which of the distribution's packages have NVIDIA's data center driver."""

from __future__ import annotations

from .context import Context

# NVIDIA's own packages of the vGPU drivers have other names (nvidia-vgpu-*, nvidia-linux-grid-*).
_DEB = (
    *("nvidia-driver*", "nvidia-headless*", "nvidia-kernel*", "nvidia-open*", "nvidia-dkms*", "nvidia-tesla*", "nvidia-legacy*"),
    "linux-modules-nvidia*",
)
_RPM = ("nvidia-driver*", "nvidia-open*", "nvidia-kmod*", "kmod-nvidia*", "akmod-nvidia*", "dkms-nvidia*", "xorg-x11-drv-nvidia*")


def removal(ctx: Context, timeout: float = 30) -> str | None:
    """The command that removes them; None if there are none. One with a line for modprobe must be purged."""
    listed = ctx.command(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\\n", *_DEB], timeout).out
    found = sorted({line.split()[-1] for line in listed.splitlines() if line.startswith("ii ")})
    if found:
        return "apt-get purge " + " ".join(found)
    answer = ctx.command(["rpm", "-qa", "--qf", "%{NAME}\\n", *_RPM], timeout)
    return "dnf remove " + " ".join(sorted(answer.out.split())) if answer.rc == 0 and answer.out.strip() else None
