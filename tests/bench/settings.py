# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""How much a bench measures."""

from __future__ import annotations

from dataclasses import dataclass

BUSES = ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8")  # of the machine's eight GPUs
KIND = "A40-3Q"  # sixteen of it fit on a GPU


@dataclass(frozen=True)
class Settings:
    """repeats: runs of each thing, of which the median counts. full: measure what is reckoned otherwise, and more sizes; an hour and more without KVM."""

    repeats: int = 3
    full: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of vGPUs on eight GPUs."""
        return (2, 16, 64, 128)

    @property
    def pairs(self) -> int:
        """More tasks that change nothing, each beside a ping: their ratio is near 1, and an emulated processor's speed varies by a third."""
        return 2 * self.repeats

    @property
    def mdevctl_devices(self) -> int:
        """Devices that mdevctl is asked to make, one by one."""
        return 16 if self.full else 8

    @property
    def per_vf_sizes(self) -> tuple[int, ...]:
        """Numbers of vGPUs on two GPUs that are made by tasks for each VF."""
        return (4, 32) if self.full else (4,)

    @property
    def fleet_hosts(self) -> tuple[int, ...]:
        """Sizes of the simulated fleet."""
        return (10, 100, 1000)


def spread(count: int, gpus: tuple[str, ...] = BUSES) -> dict[str, int]:
    """So many vGPUs, on as many of the GPUs as there are, the same number on each."""
    used = gpus[: min(count, len(gpus))]
    if count % len(used):
        raise ValueError(f"{count} vGPUs do not spread evenly over {len(used)} GPUs")
    return {f"0000:{bus}:00.0": count // len(used) for bus in used}
