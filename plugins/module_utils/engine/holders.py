# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a device open: through /proc/*/fd, which tells the truth whatever libvirt knows."""

from __future__ import annotations

from .model import Holder


class OpenFiles:
    """All open files below /dev/vfio and /dev/nvidia*, and /dev/kvm, by path. One walk of /proc."""

    def __init__(self, sysfs):
        self._sysfs = sysfs
        self._by_path = {}
        for name in sysfs.list("/proc"):
            if not name.isdigit():
                continue
            folder = "/proc/%s/fd" % name
            for number in sysfs.list(folder):
                target = sysfs.target("%s/%s" % (folder, number)) or ""
                if target.startswith(("/dev/vfio/", "/dev/nvidia")) or target == "/dev/kvm":
                    self._by_path.setdefault(target, set()).add(int(name))

    def _holder(self, pid):
        words = (self._sysfs.read_or("/proc/%d/cmdline" % pid, "") or "").split("\0")
        command = self._sysfs.read_or("/proc/%d/comm" % pid, "") or "?"
        shown = " ".join(word for word in words if word)[:60] or command
        vm = None
        for here, after in zip(words, words[1:]):
            if here in ("-name", "--name"):
                vm = after.split(",")[0].replace("guest=", "", 1)
        return Holder(pid, command if vm else shown, vm)

    def of(self, *paths):
        """Holders of any of the paths, by pid."""
        pids = set()
        for path in paths:
            pids |= self._by_path.get(path, set())
        return [self._holder(pid) for pid in sorted(pids)]

    def of_group(self, group):
        """Holders of a VFIO group."""
        return self.of("/dev/vfio/%s" % group) if group else []

    def of_device(self, device_path):
        """Holders of a device through VFIO: its group, or its own character device on new kernels."""
        paths = []
        group = self._sysfs.link(device_path + "/iommu_group")
        if group:
            paths.append("/dev/vfio/%s" % group)
        for name in self._sysfs.list(device_path + "/vfio-dev"):
            paths.append("/dev/vfio/devices/%s" % name)
        return self.of(*paths)

    def of_gpu(self, minor):
        """Processes that have the GPU's own device node open: monitoring, persistenced, DCGM."""
        return self.of("/dev/nvidia%s" % minor) if minor is not None else []

    def machines(self):
        """Processes that run VMs: /dev/kvm or anything of VFIO is open."""
        paths = [
            path
            for path in self._by_path
            if path == "/dev/kvm" or path.startswith("/dev/vfio/")
        ]
        return self.of(*paths)
