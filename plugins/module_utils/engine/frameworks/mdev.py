# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs as mediated devices: the kernel's mdev core (Documentation/driver-api/vfio-mediated-device.rst).

A type's folder is called <driver>-<id>, after the driver that the parent sat under when it was
registered (nvidia-558, vfio-pci-558): types are taken by the file ``name`` or the number, never by
prefix, and paths are looked up anew each time.
"""

from __future__ import annotations

import errno
import os

from ..base.clock import until
from ..base.errors import trouble
from ..hardware import vgpu_types
from ..hardware.gpu import Vgpu
from ..system.sysfs import SysfsError

PCI = "/sys/bus/pci/devices"
DEVICES = "/sys/bus/mdev/devices"

# nvidia-vgpu-mgr takes up to 10 s after a VM stops before the VF is free again.
LINGER = 12


class Mdev:
    """The mdev framework on one host."""

    name = "mdev"
    uuids = True

    def __init__(self, ctx):
        self.ctx = ctx
        self.sysfs = ctx.sysfs

    @staticmethod
    def offered(sysfs, parent):
        """Whether the VF (or PF) shows the framework."""
        return sysfs.exists("%s/%s/mdev_supported_types" % (PCI, parent))

    def _types_folder(self, parent):
        return "%s/%s/mdev_supported_types" % (PCI, parent)

    def _type_folder(self, parent, type_id):
        """A type's folder as the parent has it now, or None. The name that it had on another parent is tried first."""
        top = self._types_folder(parent)
        known = self.ctx.type_folders.get(type_id)
        if known and self.sysfs.exists("%s/%s" % (top, known)):
            return "%s/%s" % (top, known)
        for name in self.sysfs.list(top):
            if name.rsplit("-", 1)[-1] == type_id:
                self.ctx.type_folders[type_id] = name
                return "%s/%s" % (top, name)
        return None

    def types(self, parent):
        """The types that a parent offers, by number."""
        return self._types(parent, self.sysfs.list(self._types_folder(parent)))

    def _types(self, parent, names):
        found = []
        for name in names:
            folder = "%s/%s" % (self._types_folder(parent), name)
            title = self.sysfs.read_or(folder + "/name")
            if title:
                found.append(
                    vgpu_types.from_mdev(
                        name.rsplit("-", 1)[-1],
                        title.strip(),
                        self.sysfs.read_or(folder + "/description", ""),
                    )
                )
        return vgpu_types.by_number(found)

    def survey(self, parents, board, known):
        """The types of a GPU: any parent that offers some lists them all.

        known: what earlier surveys of the same reading found, by board (its PCI ids) and the folders' names. Boards of one kind
        under one driver have the same types, so that their files are read once.
        """
        for parent in parents:
            names = self.sysfs.list(self._types_folder(parent))
            key = (self.name, board, tuple(names))
            if key not in known:
                known[key] = self._types(parent, names)
            if known[key]:
                return list(known[key])
        return []

    def ready(self, vfs):
        """Whether all VFs, as they were just read, offer their types."""
        return all(vf.framework == self.name for vf in vfs)

    def find_id(self, parent, type_name, known):
        """The type's number as the parent has it now, or None. known: as it was when the plan was made."""
        folder = self._type_folder(parent, known)
        title = self.sysfs.read_or(folder + "/name") if folder else None
        if title and vgpu_types.short_name(title) == type_name:
            return known  # most parents number their types as the one that was asked for the plan
        found = vgpu_types.find(type_name, self.types(parent))
        return found.id if found else None

    def instances(self, open_files=None):
        """All mdevs of the host whose parent is a PCI device, with who holds them."""
        found = []
        watched = open_files if open_files and open_files.vfio else None  # most hosts need no look at each vGPU
        for uuid in self.sysfs.list(DEVICES):
            device = "%s/%s" % (DEVICES, uuid)
            parent = self._parent(device)
            type_folder = self.sysfs.target(device + "/mdev_type")
            title = self.sysfs.read_or(device + "/mdev_type/name")
            if not type_folder or not title:
                continue  # it went away while we looked
            tells = self.sysfs.exists(device + "/nvidia")  # older drivers have no such folder
            found.append(
                Vgpu(
                    uuid,
                    parent,
                    None,
                    type_folder.rsplit("-", 1)[-1],
                    vgpu_types.short_name(title),
                    self.holders(watched, uuid) if watched else (),
                    self.params(uuid) if tells else None,
                    self.sysfs.read_int(device + "/nvidia/gpu_instance_id") if tells else None,
                )
            )
        return found

    def _parent(self, device):
        """Where a device is: the folder that its link leads into (../../../devices/pci0000:e0/.../<parent>/<uuid>)."""
        return ("/" + (self.sysfs.target(device) or "")).rsplit("/", 2)[-2]

    def holders(self, open_files, uuid):
        """Who has the vGPU open."""
        return open_files.of_device("%s/%s" % (DEVICES, uuid))

    def exists(self, uuid):
        """Whether an mdev of that UUID exists on this host, whoever made it."""
        return self.sysfs.exists("%s/%s" % (DEVICES, uuid))

    def complaint(self, uuid, parent, type_id, type_name):
        """What is wrong with a vGPU that should be there, or None."""
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

    def create(self, parent, type_id, type_name, uuid, timeout):
        """Makes the vGPU and waits until it is there, of that type, on that parent."""
        folder = self._await_room(parent, type_id, type_name)
        try:
            self.sysfs.write(folder + "/create", uuid)
        except SysfsError as exc:
            raise trouble(
                "creating %s as %s failed: %s" % (type_name, uuid, exc.troubles[0].found),
                device=parent,
                wanted="a vGPU %s there" % type_name,
                remedy=_CREATE_REMEDY.get(exc.number, "Look into dmesg and 'journalctl -u nvidia-vgpu-mgr'."),
                code="create_failed",
            ) from exc

        wrong = []

        def there():
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

    def _await_room(self, parent, type_id, type_name):
        """Waits until the parent takes one more of the type; returns the type's folder."""
        last = []

        def room():
            last[:] = [self._type_folder(parent, type_id)]
            return last[0] and self.sysfs.read_int(last[0] + "/available_instances", 0) > 0

        if until(self.ctx.clock, room, LINGER):
            return last[0]
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

    def remove(self, uuid, timeout):
        """Removes the vGPU and waits until it is gone. Gone already is success."""
        device = "%s/%s" % (DEVICES, uuid)
        try:
            self.sysfs.write(device + "/remove", "1")
        except SysfsError as exc:
            # EINVAL/ENODEV: the driver removes it by itself at this moment (after a VM's end).
            if exc.number not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                raise
        if not until(self.ctx.clock, lambda: not self.exists(uuid), timeout):
            raise trouble(
                "the vGPU is still there %d s after its removal was asked for" % timeout,
                device=uuid,
                remedy="Look who holds it ('nvidia-vgpu status'), stop that VM, then run again.",
                code="remove_failed",
            )

    def remove_forced(self, uuid, timeout):
        """The kernel blocks the write until the user lets go: a child writes, we look with a deadline."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # The write may last for days; the host's lock must not.
                os.closerange(3, 1024)
                self.sysfs.write("%s/%s/remove" % (DEVICES, uuid), "1")
                status = 0
            finally:
                os._exit(status)
        gone = until(self.ctx.clock, lambda: not self.exists(uuid), timeout)
        os.waitpid(child, 0 if gone else os.WNOHANG)
        if not gone:
            raise trouble(
                "its user does not let go of it; the kernel removes it as soon as that process ends",
                device=uuid,
                remedy="End the process (see 'nvidia-vgpu status'), then run again.",
                code="remove_pending",
            )

    def params(self, uuid):
        """Its vgpu_params, or None when the driver doesn't tell."""
        text = self.sysfs.read_or("%s/%s/nvidia/vgpu_params" % (DEVICES, uuid))
        return None if text is None else text.strip()

    def set_params(self, uuid, text):
        """Writes its vgpu_params; a space clears them."""
        self.sysfs.write("%s/%s/nvidia/vgpu_params" % (DEVICES, uuid), text or " ")

    def definition_type(self, uuid):
        """The type folder's name of a device that exists: what mdevctl writes down."""
        return os.path.basename(self.sysfs.target("%s/%s/mdev_type" % (DEVICES, uuid)) or "")


_CREATE_REMEDY = {
    errno.EEXIST: "Another device has this UUID: give another one, or remove that device.",
    errno.ENOSPC: "Another vGPU took the room in between: look with 'nvidia-vgpu status', then run again.",
    errno.ENODEV: "The VF is going away: something turns VFs off or rebinds them at this moment. "
    "Find it (cloud agent, driverctl), then run again.",
    errno.EINVAL: "The driver does not take this UUID or type here: look into dmesg.",
}
