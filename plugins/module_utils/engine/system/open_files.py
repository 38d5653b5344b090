# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the processes that have a device open from /proc/*/fd, without libvirt.

Devices are compared by number, not by path, because paths differ in a container, chroot, or mount namespace.
A process whose open files are unreadable counts as a user of every device.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from typing import Any, Container, Iterable, Iterator, Sequence, Tuple

from ..base.clock import Clock
from ..base.errors import command_line
from ..hardware.gpu import Holder
from . import daemons
from .sysfs import Sysfs

Number = Tuple[int, int]

NVIDIA_MAJOR = 195  # the major number for /dev/nvidiaN and /dev/nvidiactl, assigned in the kernel's Documentation/admin-guide/devices.txt
_TIMEOUT = 30  # seconds for one walk of /proc, because stat on a file in a hanging network file system never returns
_FRESH = 1  # seconds for which a batch of removals reuses one walk of /proc, except for new processes
_GONE = (errno.ENOENT, errno.ESRCH)
# Open files without paths: sockets, pipes, and the kernel's anonymous files.
_PATHLESS = re.compile(r"[a-z_]+:")
# The anonymous files for VMs and VFIO devices. The original device nodes may already be closed (Firecracker closes /dev/kvm).
_MACHINE = re.compile(r"anon_inode:(?:kvm-v(?:m|cpu)\b|\[vfio-device\])")
# The host's PID namespace, which is PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h (0xEFFFFFFC since Linux 3.8).
_HOST = "pid:[4026531836]"
_INSIDE = "/proc shows only the processes of a container with the PID namespace %s"
_OUTSIDE = "rerun on the host itself, or in a container with the host's PID namespace and /proc (--pid=host, hostPID: true)"
_UNREAD = "rerun as root with all capabilities (including CAP_SYS_PTRACE), and check dmesg for messages from a security module"
_COMM = 15  # the maximum number of characters in a process name
_NO_NUMBER, _NODELESS = (-1, -1), (-1, 0)
_END: list[Any] = [0, []]  # the last row from a walk of /proc; no process has PID 0


def vm_name(words: Sequence[str]) -> str | None:
    """Returns the guest name in QEMU's arguments, or None.

    QEMU accepts -name web1, or guest=web1 among other settings. Commas in the name are doubled.
    """
    for here, after in zip(words, words[1:]):
        if here not in ("-name", "--name"):
            continue
        parts = [part.replace("\0", ",") for part in after.replace(",,", "\0").split(",")]
        for part in parts:
            if part.startswith("guest="):
                return part[len("guest="):]
        return parts[0] if "=" not in parts[0] else None
    return None


def inside(sysfs: Sysfs) -> str | None:
    """Returns None if /proc contains all processes on the host. Otherwise, returns the reason as a clause.

    /proc contains all processes if PID 1 is in the host's PID namespace.
    """
    namespace = sysfs.target("/proc/1/ns/pid")  # None if the kernel has no PID namespaces or open files are unreadable
    return None if namespace in (None, _HOST) else _INSIDE % namespace


def _walk(sysfs: Sysfs, known: Container[int]) -> Iterator[list[Any]]:
    """Yields [pid] for each unknown process, and then [pid, open device numbers], or [pid, None] if unreadable. The last row is _END."""
    try:
        pids = sorted(int(name) for name in sysfs.names("/proc") if name.isdigit())
    except OSError:
        pids = []
    if 1 not in pids:  # the hidepid mount option hides PID 1 and other processes
        yield [1, None]
    for pid in [one for one in pids if one not in known]:
        yield [pid]
        try:
            yield [pid, sorted(_devices(sysfs, "/proc/%d/fd" % pid) or _of_threads(sysfs, pid))]
        except OSError as exc:
            yield [pid, [] if exc.errno in _GONE else None]
    yield _END


def _of_threads(sysfs: Sysfs, pid: int) -> set[Number]:
    """Returns a process's open devices after the first thread has ended. Open files are then only visible in the other threads."""
    found: set[Number] = set()
    for name in sysfs.list("/proc/%d/task" % pid) if not sysfs.names("/proc/%d/fd" % pid) else ():
        try:
            found |= _devices(sysfs, "/proc/%d/task/%s/fd" % (pid, name))
        except OSError as exc:
            if exc.errno not in _GONE:
                raise
    return found


def _devices(sysfs: Sysfs, directory: str) -> set[Number]:
    found = set()
    for name in sysfs.names(directory):
        path = "%s/%s" % (directory, name)
        try:
            leads = sysfs.leads(path)
            if _PATHLESS.match(leads):
                found.update([_NODELESS] if _MACHINE.match(leads) else [])
                continue
        except OSError as exc:
            if exc.errno in _GONE:  # the process has closed the file
                continue
            raise
        try:
            number = sysfs.node(path)
        except OSError:  # the file is closed, or stat failed on a network file system or FUSE, which have no device nodes
            continue
        if number:
            found.add(number)
    return found


class OpenFiles:
    """The VFIO, KVM, IOMMUFD, and NVIDIA devices that processes have open, from one walk of /proc."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._by_number: dict[Number, set[int]] = {}
        self._unread: list[int] = []
        self._known: set[int] = set()
        self._inside = inside(sysfs)
        self.read_new()

    def read_new(self) -> None:
        """Adds the processes that started after the last walk of /proc."""
        rows, ended = self._sysfs.apart(lambda: _walk(self._sysfs, self._known), _TIMEOUT)
        found = {row[0]: row[1] if len(row) > 1 else None for row in rows if isinstance(row, list)}
        self._known |= set(found)
        by_number = {number: set(pids) for number, pids in self._by_number.items()}  # another thread may iterate over the old sets
        for pid, numbers in found.items():
            if numbers is None:
                self._unread.append(pid)
            for major, minor in numbers or ():
                by_number.setdefault((major, minor), set()).add(pid)
        self._by_number = by_number
        majors = {NVIDIA_MAJOR: "nvidia"}
        text = self._sysfs.read_or("/proc/devices")
        majors.update((int(major), name) for major, name in re.findall(r"^ *([0-9]+) (\S+)$", (text or "").partition("Block devices")[0], re.MULTILINE))
        if not self._unread and (self._inside or not ended or _END not in rows or text is None):
            self._unread.append(1)
        misc = {self._number("/sys/class/misc/%s" % name) for name in ("kvm", "iommu", "vfio")}
        self._vfio = {one for one in self._by_number if majors.get(one[0], "").startswith("vfio")}
        self._machines = self._vfio | {one for one in self._by_number if one in misc or one == _NODELESS}
        self._natives = {one for one in self._by_number if majors.get(one[0], "").startswith("nvidia")}

    def _number(self, directory: str) -> Number | None:
        """Returns a device's major and minor numbers from the sysfs directory, or None."""
        match = re.match(r"^([0-9]{1,9}):([0-9]{1,9})$", self._sysfs.read_or(directory + "/dev", ""))
        return (int(match.group(1)), int(match.group(2))) if match else None

    def _holder(self, pid: int) -> Holder:
        words = self._sysfs.read_or("/proc/%d/cmdline" % pid, "").split("\0")
        command = self._sysfs.read_or("/proc/%d/comm" % pid, "") or "?"
        shown = command_line(words) or command
        vm = vm_name(words)
        return Holder(pid, command if vm else shown, vm)

    def _of(self, numbers: Iterable[Number | None]) -> list[Holder]:
        """Returns the holders of the devices, ordered by PID. The last holder represents unreadable processes."""
        pids = {pid for number in numbers if number for pid in self._by_number.get(number, ())}
        return [self._holder(pid) for pid in sorted(pids)] + self._not_read()

    def _not_read(self) -> list[Holder]:
        if not self._unread:
            return []
        if self._inside:
            return [Holder(1, "%s, so other users of devices are unknown" % self._inside, remedy=_OUTSIDE)]
        one, more = self._holder(self._unread[0]), len(self._unread) - 1
        others = ", like those of %d more processes" % more if more else ""
        one.command, one.remedy = "%s, whose open files cannot be read%s" % (one.command, others), _UNREAD
        return [one]

    @property
    def vfio(self) -> bool:
        """Returns whether any VFIO device is or may be open. If false, callers do not need to read holders."""
        return bool(self._vfio or self._unread)

    def _vfio_numbers(self, device_path: str) -> list[Number | None]:
        group = self._sysfs.link(device_path + "/iommu_group")
        directories = ["/sys/class/vfio/%s" % group, "/sys/class/vfio/noiommu-%s" % group] if group else []
        directories += ["%s/vfio-dev/%s" % (device_path, name) for name in self._sysfs.list(device_path + "/vfio-dev")]
        return [self._number(one) for one in directories]

    def of_device(self, device_path: str) -> list[Holder]:
        """Returns the processes that have a device open through VFIO.

        A holder has the device's VFIO group open (even without an IOMMU) or, on newer kernels, the device's own character device.
        """
        return self._of(self._vfio_numbers(device_path))

    def of_gpu(self, minor: int | None) -> list[Holder]:
        """Returns the processes that have the GPU's own device node open, such as monitoring programs, nvidia-persistenced, and DCGM."""
        return self._of([(NVIDIA_MAJOR, minor)]) if minor is not None else []

    def natives(self) -> list[Holder]:
        """Returns the processes that have an NVIDIA driver device node open."""
        return self._of(self._natives)

    def jobs(self, gpus: Iterable[str]) -> list[Holder]:
        """Returns the processes that need the driver, excluding NVIDIA services.

        The result contains processes that have an NVIDIA driver node or a GPU's DRM node open. ``gpus`` contains the GPUs' sysfs directories.
        """
        drm = [number for directory in gpus for number in self._drm(directory)]
        return self.without(daemons.ALL, self._of([*self._natives, *drm]))

    def without(self, programs: Iterable[str], holders: Iterable[Holder]) -> list[Holder]:
        """Returns the holders, excluding the given programs. Unreadable processes are included."""
        return [one for one in holders if one.remedy or not self._is_one(one, programs)]

    def _is_one(self, holder: Holder, programs: Iterable[str]) -> bool:
        names = (os.path.basename(holder.command.split(" ")[0]), self._sysfs.read_or("/proc/%s/comm" % holder.pid, ""))
        return any(name in (one, one[:_COMM]) for one in programs for name in names)

    def _drm(self, directory: str) -> list[Number | None]:
        return [self._number("%s/drm/%s" % (directory, name)) for name in self._sysfs.list(directory + "/drm")]

    def of_nodes(self, minor: int | None, directory: str) -> set[int]:
        """Returns the PIDs of processes that have a GPU's own nodes open (/dev/nvidiaN or DRM nodes)."""
        numbers = [*self._drm(directory), (NVIDIA_MAJOR, minor) if minor is not None else None]
        return {pid for number in numbers if number for pid in self._by_number.get(number, ())}

    def machines(self) -> list[Holder]:
        """Returns the VM processes, which have /dev/kvm, /dev/iommu, a VFIO device, or a related anonymous file open."""
        return self._of(self._machines)

    def devices(self) -> dict[int, set[str]]:
        """Returns each process's VFIO devices (PCI addresses, mdev UUIDs), keyed by PID. An open group counts as all devices in the group."""
        found: dict[int, set[str]] = {}
        for name in self._sysfs.list("/sys/class/vfio") if self._vfio else ():
            pids = self._by_number.get(self._number("/sys/class/vfio/" + name) or _NO_NUMBER, ())
            devices = self._sysfs.list("/sys/kernel/iommu_groups/%s/devices" % name.replace("noiommu-", "")) if pids else ()
            for pid in pids:
                found.setdefault(pid, set()).update(devices)
        for name in self._sysfs.list("/sys/class/vfio-dev") if self._vfio else ():
            device = self._sysfs.link("/sys/class/vfio-dev/%s/device" % name)
            for pid in self._by_number.get(self._number("/sys/class/vfio-dev/" + name) or _NO_NUMBER, ()):
                found.setdefault(pid, set()).update([device] if device else [])
        return found


class Watch:
    """One walk of /proc for a batch of removals, because one walk per removal would take minutes on a host with hundreds of VMs."""

    def __init__(self, sysfs: Sysfs, clock: Clock) -> None:
        self._sysfs, self._clock, self._one = sysfs, clock, threading.Lock()
        self._last: tuple[float, OpenFiles] | None = None

    def open_files(self) -> OpenFiles:
        """Returns the current open files of new processes, and other processes' open files from the last walk of /proc."""
        with self._one:  # threads handle several GPUs in parallel
            now = self._clock.now()
            if self._last is None or now - self._last[0] > _FRESH:
                self._last = (now, OpenFiles(self._sysfs))
            else:
                self._last[1].read_new()
            return self._last[1]
