# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mdev framework, whose vGPUs are mediated devices (Documentation/driver-api/vfio-mediated-device.rst in the kernel source).

A type directory is named <driver>-<id> (nvidia-558, vfio-pci-558), where <driver> is the parent's driver at the time of registration. The engine
therefore identifies types by the ``name`` file or by number, never by the driver prefix, and resolves the path of a type each time.
"""

from __future__ import annotations

import errno
import os
from typing import Iterable

from ..base.clock import until
from ..base.errors import error
from ..hardware import vgpu_types
from ..hardware.gpu import Vgpu
from ..hardware.vgpu_types import VgpuType
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, SysfsError
from .framework import CHECK_LOGS, END_PROCESS, LINGER, VF_REMOVED, Board, Framework, Surveyed

_CREATE_REMEDY = {
    errno.EEXIST: "Another device has this UUID. Use another UUID, or remove the other device.",
    errno.ENOSPC: "Another program created a vGPU during this run. Find the remaining capacity with 'vgpuctl status', then rerun.",
    errno.ENODEV: VF_REMOVED,
    errno.EINVAL: "The driver does not accept this UUID or type on this parent. Find the reason in the output of 'dmesg'.",
}


class Mdev(Framework):
    """The mdev framework on one host."""

    name = "mdev"
    uuids = True
    claims_vfs = False
    mark = "mdev_supported_types"
    devices = "/sys/bus/mdev/devices"

    def _types_directory(self, parent: str) -> str:
        return "%s/%s/%s" % (PCI, parent, self.mark)

    def _type_directory(self, parent: str, type_id: str) -> str | None:
        """Returns the current type directory on the parent, or None. The directory name from another parent is tried first."""
        top, known = self._types_directory(parent), self.ctx.type_directories.get(type_id)
        if known and self.sysfs.exists("%s/%s" % (top, known)):
            return "%s/%s" % (top, known)
        for name in self.sysfs.list(top):
            if name.rsplit("-", 1)[-1] == type_id:
                self.ctx.type_directories[type_id] = name
                return "%s/%s" % (top, name)
        return None

    def _types(self, parent: str) -> list[VgpuType]:
        """Returns the types that a parent offers, sorted by number."""
        found, top = [], self._types_directory(parent)
        for name in self.sysfs.list(top):
            directory = "%s/%s" % (top, name)
            title = self.sysfs.read_or(directory + "/name")
            if title:
                description = self.sysfs.read_or(directory + "/description", "")
                found.append(vgpu_types.from_mdev(name.rsplit("-", 1)[-1], title.strip(), description))
        return vgpu_types.by_number(found)

    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        # A parent that offers types lists all types of its GPU. Identical boards offer the same types, so the engine reads the type files only once.
        for parent in parents:
            key = (self.name, board, tuple(self.sysfs.list(self._types_directory(parent))))
            if key not in known:
                known[key] = self._types(parent)
            if known[key]:
                return list(known[key])
        return []

    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        directory = self._type_directory(parent, known)
        title = self.sysfs.read_or(directory + "/name") if directory else None
        if title and vgpu_types.short_name(title) == type_name:
            return known  # on most parents, a type has the same number as on the parent that the planner read
        found = vgpu_types.find(type_name, self._types(parent))
        return found.id if found else None

    def instances(self, open_files: OpenFiles | None = None, parents: Iterable[str] | None = None) -> list[Vgpu]:
        found = []
        watched = open_files if open_files and open_files.vfio else None  # if no process uses a VFIO device, no vGPU is in use
        for uuid in self.sysfs.list(self.devices):
            parent, type_directory, title = self._parent(uuid), self.type_directory(uuid), self.type_title(uuid)
            if not type_directory or not title:
                continue  # another program has removed the device
            vgpu = Vgpu(uuid, parent, None, type_directory.rsplit("-", 1)[-1], type=vgpu_types.short_name(title))
            if watched:
                vgpu.holders = self.holders(watched, uuid)
            if self.sysfs.exists(self.device(uuid) + "/nvidia"):  # older drivers do not create this directory
                vgpu.params = self.params(uuid)
                vgpu.gi = self.sysfs.read_int(self.device(uuid) + "/nvidia/gpu_instance_id")
            found.append(vgpu)
        return found

    def _parent(self, uuid: str) -> str:
        """Returns a mediated device's parent from the target of its sysfs link (../../../devices/pci0000:e0/.../<parent>/<uuid>)."""
        return ("/" + (self.sysfs.target(self.device(uuid)) or "")).rsplit("/", 2)[-2]

    def exists(self, key: str) -> bool:
        return self.sysfs.exists(self.device(key))

    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        key = str(uuid)
        if not self.exists(key):
            return "the vGPU does not exist"
        where, title = self._parent(key), self.type_title(key) or ""
        if where != parent:
            return "the vGPU is on %s" % where
        if vgpu_types.short_name(title) != type_name:
            return "the vGPU is of type %s" % (title or "unknown")
        return None

    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        directory = self._await_room(parent, type_id, type_name)
        try:
            self.sysfs.write(directory + "/create", str(uuid))
        except SysfsError as exc:
            found, remedy = "creating %s with the UUID %s failed: %s" % (type_name, uuid, exc.errors[0].found), _CREATE_REMEDY.get(exc.number, CHECK_LOGS + ".")
            raise error(found, parent, "a vGPU of type %s on this device" % type_name, remedy, "create_failed") from exc
        self._verify(uuid, parent, type_id, type_name, timeout)

    def _await_room(self, parent: str, type_id: str, type_name: str) -> str:
        """Waits until the parent accepts another vGPU of the type, and returns the type directory. Raises EngineError after the timeout."""
        last: str | None = None

        def room() -> str | None:
            nonlocal last
            last = self._type_directory(parent, type_id)
            return last if last and self.sysfs.read_int(last + "/available_instances", 0) > 0 else None

        directory = until(self.ctx.clock, room, LINGER)
        if directory:
            return directory
        found = "available_instances of %s is 0" % type_name if last else "the parent does not currently offer the type %s" % type_name
        remedy = "The VF is in use, the GPU is full, or the GPU has vGPUs of another framebuffer size. Find the cause with 'vgpuctl status'."
        raise error(found, parent, "room for a vGPU of type %s" % type_name, remedy, "no_room")

    def remove(self, key: str, timeout: float, forced: bool = False) -> None:
        # The kernel blocks the write until all processes close the device. The write cannot be canceled.
        try:
            self.sysfs.write(self.device(key) + "/remove", "1", timeout)
        except SysfsError as exc:
            if exc.number == errno.ETIMEDOUT:
                found = "a process uses the vGPU, and the kernel removes the vGPU as soon as this process exits"
                raise error(found, key, None, END_PROCESS, "remove_pending") from exc
            # The kernel returns EINVAL or ENODEV if the driver is already removing the vGPU after the VM has stopped.
            if exc.number not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                raise
        self._await_gone(key, timeout)

    def type_directory(self, key: str) -> str | None:
        return os.path.basename(self.sysfs.target(self.device(key) + "/mdev_type") or "")

    def type_title(self, key: str) -> str | None:
        return self.sysfs.read_or(self.device(key) + "/mdev_type/name")
