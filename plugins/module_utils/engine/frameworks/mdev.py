# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs as mediated devices: the kernel's mdev core (Documentation/driver-api/vfio-mediated-device.rst).

A type's directory is called <driver>-<id>, after the driver that the parent sat under when it was
registered (nvidia-558, vfio-pci-558): types are taken by the file ``name`` or the number, never by
prefix, and paths are looked up again each time.
"""

from __future__ import annotations

import errno
import os
from typing import Iterable, Sequence

from ..base.clock import until
from ..base.errors import trouble
from ..hardware import vgpu_types
from ..hardware.gpu import Holder, Vf, Vgpu
from ..hardware.vgpu_types import VgpuType
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, Sysfs, SysfsError
from .framework import LINGER, Board, Framework, Surveyed

DEVICES = "/sys/bus/mdev/devices"


class Mdev(Framework):
    """The mdev framework on one host."""

    name = "mdev"
    uuids = True
    claims_vfs = False

    @staticmethod
    def offered(sysfs: Sysfs, parent: str) -> bool:
        return sysfs.exists("%s/%s/mdev_supported_types" % (PCI, parent))

    def _types_directory(self, parent: str) -> str:
        return "%s/%s/mdev_supported_types" % (PCI, parent)

    def _type_directory(self, parent: str, type_id: str) -> str | None:
        """A type's directory as the parent has it now, or None. The name that it had on another parent is tried first."""
        top = self._types_directory(parent)
        known = self.ctx.type_folders.get(type_id)
        if known and self.sysfs.exists("%s/%s" % (top, known)):
            return "%s/%s" % (top, known)
        for name in self.sysfs.list(top):
            if name.rsplit("-", 1)[-1] == type_id:
                self.ctx.type_folders[type_id] = name
                return "%s/%s" % (top, name)
        return None

    def types(self, parent: str) -> list[VgpuType]:
        """The types that a parent offers, by number."""
        return self._types(parent, self.sysfs.list(self._types_directory(parent)))

    def _types(self, parent: str, names: Iterable[str]) -> list[VgpuType]:
        found = []
        for name in names:
            directory = "%s/%s" % (self._types_directory(parent), name)
            title = self.sysfs.read_or(directory + "/name")
            if title:
                found.append(
                    vgpu_types.from_mdev(
                        name.rsplit("-", 1)[-1],
                        title.strip(),
                        self.sysfs.read_or(directory + "/description", ""),
                    )
                )
        return vgpu_types.by_number(found)

    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        # Any parent that offers some lists them all. Boards of one kind under one driver have the same types: their files are read once.
        for parent in parents:
            names = self.sysfs.list(self._types_directory(parent))
            key = (self.name, board, tuple(names))
            if key not in known:
                known[key] = self._types(parent, names)
            if known[key]:
                return list(known[key])
        return []

    def ready(self, vfs: Sequence[Vf]) -> bool:
        return all(vf.framework == self.name for vf in vfs)

    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        directory = self._type_directory(parent, known)
        title = self.sysfs.read_or(directory + "/name") if directory else None
        if title and vgpu_types.short_name(title) == type_name:
            return known  # most parents number their types as the one that the plan was made from
        found = vgpu_types.find(type_name, self.types(parent))
        return found.id if found else None

    def instances(self, open_files: OpenFiles | None = None) -> list[Vgpu]:
        found = []
        watched = open_files if open_files and open_files.vfio else None  # most hosts need no check of each vGPU
        for uuid in self.sysfs.list(DEVICES):
            device = "%s/%s" % (DEVICES, uuid)
            parent = self._parent(device)
            type_directory = self.sysfs.target(device + "/mdev_type")
            title = self.sysfs.read_or(device + "/mdev_type/name")
            if not type_directory or not title:
                continue  # it was removed in the meantime
            shows = self.sysfs.exists(device + "/nvidia")  # older drivers have no such directory
            found.append(
                Vgpu(
                    uuid,
                    parent,
                    None,
                    type_directory.rsplit("-", 1)[-1],
                    vgpu_types.short_name(title),
                    holders=self.holders(watched, uuid) if watched else (),
                    params=self.params(uuid) if shows else None,
                    gi=self.sysfs.read_int(device + "/nvidia/gpu_instance_id") if shows else None,
                )
            )
        return found

    def _parent(self, device: str) -> str:
        """Where a device is: the directory that its link leads into (../../../devices/pci0000:e0/.../<parent>/<uuid>)."""
        return ("/" + (self.sysfs.target(device) or "")).rsplit("/", 2)[-2]

    def holders(self, open_files: OpenFiles, key: str) -> list[Holder]:
        return open_files.of_device("%s/%s" % (DEVICES, key))

    def exists(self, key: str) -> bool:
        return self.sysfs.exists("%s/%s" % (DEVICES, key))

    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        device = "%s/%s" % (DEVICES, uuid)
        if not self.sysfs.exists(device):
            return "the vGPU is not there"
        where = self._parent(device)
        if where != parent:
            return "the vGPU is on %s" % where
        title = self.sysfs.read_or(device + "/mdev_type/name", "")
        if vgpu_types.short_name(title) != type_name:
            return "the vGPU is of type %s" % (title or "unknown")
        return None

    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        directory = self._await_room(parent, type_id, type_name)
        try:
            self.sysfs.write(directory + "/create", str(uuid))
        except SysfsError as exc:
            raise trouble(
                "creating %s as %s failed: %s" % (type_name, uuid, exc.troubles[0].found),
                device=parent,
                wanted="a vGPU %s there" % type_name,
                remedy=_CREATE_REMEDY.get(exc.number, "Look into dmesg and 'journalctl -u nvidia-vgpu-mgr'."),
                code="create_failed",
            ) from exc

        wrong: list[str | None] = []

        def there() -> bool:
            wrong[:] = [self.complaint(uuid, parent, type_id, type_name)]
            return wrong == [None]

        if not until(self.ctx.clock, there, timeout):
            raise trouble(
                "the driver took the request for %s as %s, but after %d s %s"
                % (type_name, uuid, timeout, wrong[0]),
                device=parent,
                wanted="a vGPU %s there" % type_name,
                remedy="Look into dmesg and 'journalctl -u nvidia-vgpu-mgr', then run again.",
                code="create_lied",
            )

    def _await_room(self, parent: str, type_id: str, type_name: str) -> str:
        """Waits until the parent takes one more of the type; returns the type's directory."""
        last: list[str | None] = []

        def room() -> str | None:
            last[:] = [self._type_directory(parent, type_id)]
            return last[0] if last[0] and self.sysfs.read_int(last[0] + "/available_instances", 0) > 0 else None

        directory = until(self.ctx.clock, room, LINGER)
        if directory:
            return directory
        if not last[0]:
            found = "it does not offer the type %s now" % type_name
        else:
            found = "available_instances of %s is 0" % type_name
        raise trouble(
            found,
            device=parent,
            wanted="room for one %s" % type_name,
            remedy="The VF is in use, the GPU is full, or it holds vGPUs of another framebuffer size: "
            "look with 'nvidia-vgpu status'",
            code="no_room",
        )

    def remove(self, key: str, timeout: float) -> None:
        device = "%s/%s" % (DEVICES, key)
        try:
            self.sysfs.write(device + "/remove", "1")
        except SysfsError as exc:
            # EINVAL/ENODEV: the driver removes it by itself at this moment (after a VM's end).
            if exc.number not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                raise
        if not until(self.ctx.clock, lambda: not self.exists(key), timeout):
            raise trouble(
                "the vGPU is still there %d s after its removal was asked for" % timeout,
                device=key,
                remedy="Look who holds it ('nvidia-vgpu status'), stop that VM, then run again.",
                code="remove_failed",
            )

    def remove_forced(self, key: str, timeout: float) -> None:
        # The kernel blocks the write until the user closes the device: a child writes, this process checks with a deadline.
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # The write may last for days; the host's lock must not.
                os.closerange(3, 1024)
                self.sysfs.write("%s/%s/remove" % (DEVICES, key), "1")
                status = 0
            finally:
                os._exit(status)
        gone = until(self.ctx.clock, lambda: not self.exists(key), timeout)
        os.waitpid(child, 0 if gone else os.WNOHANG)
        if not gone:
            raise trouble(
                "its user does not let go of it; the kernel removes it as soon as that process ends",
                device=key,
                remedy="End the process (see 'nvidia-vgpu status'), then run again.",
                code="remove_pending",
            )

    def params(self, key: str) -> str | None:
        text = self.sysfs.read_or("%s/%s/nvidia/vgpu_params" % (DEVICES, key))
        return None if text is None else text.strip()

    def set_params(self, key: str, text: str) -> None:
        self.sysfs.write("%s/%s/nvidia/vgpu_params" % (DEVICES, key), text or " ")  # a space clears them

    def type_directory(self, key: str) -> str | None:
        return os.path.basename(self.sysfs.target("%s/%s/mdev_type" % (DEVICES, key)) or "")

    def type_title(self, key: str) -> str | None:
        return self.sysfs.read_or("%s/%s/mdev_type/name" % (DEVICES, key))


_CREATE_REMEDY = {
    errno.EEXIST: "Another device has this UUID: give another one, or remove that device.",
    errno.ENOSPC: "Another vGPU took the room in between: look with 'nvidia-vgpu status', then run again.",
    errno.ENODEV: "The VF is going away: something turns VFs off or rebinds them at this moment. "
    "Find it (cloud agent, driverctl), then run again.",
    errno.EINVAL: "The driver does not take this UUID or type here: look into dmesg.",
}
