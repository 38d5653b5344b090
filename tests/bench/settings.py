# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Settings of the bench."""

from __future__ import annotations

from dataclasses import dataclass

BUSES = ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8")  # buses of the machine's eight GPUs
KIND = "A40-3Q"  # sixteen vGPUs of this type fit on a GPU


@dataclass(frozen=True)
class Settings:
    """Settings of a run of the bench.

    repeats: runs of each measurement; the median counts.
    full: whether to measure values that are calculated otherwise, and more sizes; this takes over an hour without KVM.
    """

    repeats: int = 3
    full: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the numbers of vGPUs on eight GPUs."""
        return (2, 16, 64, 128)

    @property
    def pairs(self) -> int:
        """Return the number of extra no-op tasks, each measured next to a ping. The ratio is near 1, but an emulated processor's speed varies by a third."""
        return 2 * self.repeats

    @property
    def mdevctl_devices(self) -> int:
        """Return the number of devices that mdevctl creates one by one."""
        return 16 if self.full else 8

    @property
    def per_vf_sizes(self) -> tuple[int, ...]:
        """Return the numbers of vGPUs on two GPUs for the runs of tasks for each VF."""
        return (4, 32) if self.full else (4,)

    @property
    def fleet_hosts(self) -> tuple[int, ...]:
        """Return the sizes of the simulated fleet."""
        return (10, 100, 1000)


def spread(count: int, gpus: tuple[str, ...] = BUSES) -> dict[str, int]:
    """Return the number of vGPUs by GPU, for *count* vGPUs spread evenly over as many GPUs as possible."""
    used = gpus[: min(count, len(gpus))]
    if count % len(used):
        raise ValueError(f"{count} vGPUs do not spread evenly over {len(used)} GPUs")
    return {f"0000:{bus}:00.0": count // len(used) for bus in used}
