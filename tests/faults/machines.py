# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The machines of the fault tests. Only one machine runs at a time. Before each row, it is reset to the row's start state."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from bundles import PREPARE
from matrix import GPU, NAME, OTHER_GPU
from support import Twin, launcher

# UUID of a foreign vGPU on the GPU without a fault. A process keeps the vGPU open, as a VM does.
CANARY = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3aff"
_CANARY_VF = "0000:e7:00.4"


def _neighbour(twin: Twin) -> None:
    """Enable the VFs of the other GPU, create a vGPU on it, and start a process that uses the vGPU."""
    twin.sh(f"/usr/lib/nvidia/sriov-manage -e {OTHER_GPU}")
    twin.sh(f"echo {CANARY} > /sys/bus/pci/devices/{_CANARY_VF}/mdev_supported_types/nvidia-575/create")
    twin.sh(
        f"exec 9<>/dev/vfio/$(basename $(readlink /sys/bus/mdev/devices/{CANARY}/iommu_group)); "
        "(exec -a pretend-vm sleep 100000) >/dev/null 2>&1 </dev/null & echo $! > /run/canary.pid"
    )


def _vfs(twin: Twin) -> None:
    _neighbour(twin)
    twin.sh(f"/usr/lib/nvidia/sriov-manage -e {GPU}")


def _sysfs(twin: Twin) -> None:
    """Load the driver with support for writes to sriov_numvfs, as in some releases."""
    twin.sh("modprobe -r nvidia && modprobe nvidia sriov_sysfs=1")
    _neighbour_by_sysfs = f"echo 32 > /sys/bus/pci/devices/{OTHER_GPU}/sriov_numvfs"
    twin.sh(_neighbour_by_sysfs)


def _only_vfs(twin: Twin) -> None:
    twin.sh(f"/usr/lib/nvidia/sriov-manage -e {GPU}")


def _no_driver(twin: Twin) -> None:
    """Uninstall the driver and remove all files that the installer created, as before a first run."""
    twin.sh("modprobe -r nvidia; nvidia-uninstall --silent; depmod; rm -rf /var/cache/vgpuctl; ! modinfo nvidia 2>/dev/null")
    subprocess.run(PREPARE, shell=True, check=True)


# Start states by name: (options of "twin up", function that prepares a new machine)
_QUICK = ("--tier", "quick", "--gpus", "2")
STARTS: dict[str, tuple[tuple[str, ...], Callable[[Twin], None] | None]] = {
    "plain": (_QUICK, None),
    "bare": (_QUICK, _neighbour),
    "vfs": (_QUICK, _vfs),
    "sysfs": (_QUICK, _sysfs),
    "no-driver": (_QUICK, _no_driver),
    "mig": (("--tier", "quick", "--gpus", "1", "--model", "a100"), None),
    "vendor": (("--tier", "quick", "--gpus", "1", "--framework", "vendor_vfio"), _only_vfs),
    "no-iommu": (("--tier", "quick", "--gpus", "1", "--iommu", "none"), None),
    "ready": (("--tier", "full", "--gpus", "2", "--start", "ready"), None),
    "eight": (("--tier", "quick", "--gpus", "8"), None),
}


class Machines:
    """The machine in the requested start state, restored from a snapshot if one exists."""

    def __init__(self) -> None:
        self.options: tuple[str, ...] = ()
        self.made: set[str] = set()
        self.twin: Twin | None = None

    def at(self, start: str) -> Twin:
        """Return the machine in this start state."""
        options, prepare = STARTS[start]
        if self.twin is None or self.options != options:
            self.end()
            twin = Twin(NAME)
            twin.up(*options)
            twin.warm_up()
            launcher("snapshot", twin.name, "fresh")
            self.twin, self.options = twin, options
        elif start not in self.made:
            launcher("restore", self.twin.name, "fresh")
        if start in self.made:
            launcher("restore", self.twin.name, start)
        else:
            if prepare:
                prepare(self.twin)
            launcher("snapshot", self.twin.name, start)
            self.made.add(start)
        return self.twin

    def end(self) -> None:
        """Stop the running machine."""
        if self.twin is not None:
            self.twin.down()
        self.twin, self.made = None, set()


def neighbour(twin: Twin) -> str:
    """Return the damage to the foreign vGPU, which must exist and be in use, or an empty string if no damage or no such vGPU exists."""
    return twin.sh(
        "[ -e /run/canary.pid ] || exit 0; p=$(cat /run/canary.pid); "
        f"[ -e /sys/bus/mdev/devices/{CANARY} ] || echo the foreign vGPU no longer exists; "
        "tr '\\0' ' ' < /proc/$p/cmdline | grep -q pretend-vm || echo the process that uses the foreign vGPU no longer exists"
    )
