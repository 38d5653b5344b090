# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a device open: through /proc/*/fd, which is right whatever libvirt knows."""

from __future__ import annotations

from typing import Sequence

from ..hardware.gpu import Holder
from .sysfs import Sysfs

_GONE = " (deleted)"  # the node went while the process has it open


def vm_name(words: Sequence[str]) -> str | None:
    """The guest's name in QEMU's arguments, or None: -name web1, or guest=web1 among others; a comma in it is doubled."""
    for here, after in zip(words, words[1:]):
        if here not in ("-name", "--name"):
            continue
        parts = [part.replace("\0", ",") for part in after.replace(",,", "\0").split(",")]
        for part in parts:
            if part.startswith("guest="):
                return part[len("guest="):]
        return parts[0] if "=" not in parts[0] else None
    return None


class OpenFiles:
    """All open files below /dev/vfio and /dev/nvidia*, /dev/kvm and /dev/iommu, by path. One walk of /proc."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._by_path: dict[str, set[int]] = {}
        for name in filter(str.isdigit, sysfs.list("/proc")):
            directory = "/proc/%s/fd" % name
            for number in sysfs.list(directory):
                target = sysfs.target("%s/%s" % (directory, number)) or ""
                if target.endswith(_GONE):
                    target = target[: -len(_GONE)]
                if target.startswith(("/dev/vfio/", "/dev/nvidia")) or target in ("/dev/kvm", "/dev/iommu"):
                    self._by_path.setdefault(target, set()).add(int(name))

    def _holder(self, pid: int) -> Holder:
        words = self._sysfs.read_or("/proc/%d/cmdline" % pid, "").split("\0")
        command = self._sysfs.read_or("/proc/%d/comm" % pid, "") or "?"
        shown = " ".join(word for word in words if word)[:60] or command
        vm = vm_name(words)
        return Holder(pid, command if vm else shown, vm)

    @property
    def vfio(self) -> bool:
        """Whether anything of VFIO is open, so that it is worth checking who has which device."""
        return any(path.startswith("/dev/vfio/") for path in self._by_path)

    def of(self, *paths: str) -> list[Holder]:
        """Holders of any of the paths, by pid."""
        return [self._holder(pid) for pid in sorted({pid for path in paths for pid in self._by_path.get(path, ())})]

    def of_device(self, device_path: str) -> list[Holder]:
        """Holders of a device through VFIO: its group (also one without an IOMMU), or its own character device on new kernels."""
        group = self._sysfs.link(device_path + "/iommu_group")
        paths = ["/dev/vfio/%s" % group, "/dev/vfio/noiommu-%s" % group] if group else []
        return self.of(*paths, *("/dev/vfio/devices/%s" % name for name in self._sysfs.list(device_path + "/vfio-dev")))

    def of_gpu(self, minor: int | None) -> list[Holder]:
        """Processes that have the GPU's own device node open: monitoring, persistenced, DCGM."""
        return self.of("/dev/nvidia%s" % minor) if minor is not None else []

    def natives(self) -> list[Holder]:
        """Processes that have a device node of NVIDIA's driver open."""
        return self.of(*[path for path in self._by_path if path.startswith("/dev/nvidia")])

    def machines(self) -> list[Holder]:
        """Processes that run VMs: /dev/kvm, /dev/iommu or anything of VFIO is open."""
        return self.of(*[path for path in self._by_path if not path.startswith("/dev/nvidia")])

    def devices_of(self, pid: int | None) -> list[str]:
        """What a process has of VFIO, sorted: PCI addresses, and UUIDs of mediated devices. All devices of a group that it holds."""
        found: set[str] = set()
        for path, pids in self._by_path.items():
            if pid not in pids:
                continue
            name = path.rsplit("/", 1)[-1]
            if path.startswith("/dev/vfio/devices/"):
                device = self._sysfs.link("/sys/class/vfio-dev/%s/device" % name)
                found |= {device} if device else set()
            elif path.startswith("/dev/vfio/"):
                found |= set(self._sysfs.list("/sys/kernel/iommu_groups/%s/devices" % name.replace("noiommu-", "")))
        return sorted(found)
