# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vendor-specific VFIO framework, in which a VF becomes a vGPU when a type number is written to one of the VF's sysfs files.

The ``nvidia/current_vgpu_type`` file contains the VF's type number, or 0 if the VF has no vGPU. The ``nvidia/creatable_vgpu_types`` file lists the
types that can currently be created on the VF. The VF itself is the vGPU, so vGPUs have no UUIDs. A VF that has a vGPU lists no types, so the type
name comes from another VF, nvidia-smi, or the stored layout.
"""

from __future__ import annotations

import contextlib
import errno
import re
from typing import Iterable, Sequence

from ..base import refusals
from ..base.clock import until
from ..base.errors import EngineError, error
from ..hardware import vgpu_types
from ..hardware.gpu import Vf, Vgpu
from ..hardware.vgpu_types import VgpuType
from ..state import layout_file
from ..system import nvidia_smi
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, SysfsError
from .framework import CHECK_LOGS, END_PROCESS, LINGER, VF_REMOVED, Board, Framework, Surveyed

_NO_ROOM = (
    "The GPU is full, has vGPUs of another framebuffer size (mixed_sizes: true allows several sizes), "
    "or is in MIG mode without a free GPU instance. Find the cause with 'vgpuctl status'."
)
_CREATE_REMEDY = {
    errno.EPERM: "The driver does not change the type, because a VM uses the VF or the VF already has a type. "
    "Run 'vgpuctl status'. If a VM uses the VF, stop the VM. Otherwise, remove the vGPU of the VF.",
    errno.EIO: "If dmesg shows 'Failed to add vgpu create request: 0x38', no free GPU instance fits this type. "
    "Create a suitable GPU instance with the vgpu_layout variable or the nvidia_mig module, or use another type.",
    errno.ENXIO: "The VF does not respond. Disable and enable the VFs of this GPU with the nvidia_sriov module.",
    errno.ENOSPC: "The GPU is full. Use fewer or smaller vGPUs, or another GPU.",
    errno.EINVAL: "The driver does not accept this type. "
    "Choose a type from nvidia/creatable_vgpu_types of this VF, or find the reason in the output of 'dmesg'.",
    errno.ENODEV: VF_REMOVED,
    errno.ENOENT: "The VF is no longer bound to nvidia. Disable and enable the VFs of the GPU with the nvidia_sriov module, "
    "because a VF that was bound to vfio-pci does not work until then.",
}


def parse_creatable(text: str) -> list[VgpuType]:
    """Parses the contents of creatable_vgpu_types.

    Each line has one of two formats: ``1145  : NVIDIA L40S-1B``, below a header (``ID    : vGPU Name``), or ``NVIDIA A40-1Q 557``.
    """
    found = []
    for line in text.splitlines():
        id_first = re.match(r"^\s*([0-9]{1,9})\s*:\s*(\S.*?)\s*$", line)
        id_last = re.match(r"^\s*(\S.*?\S)\s+([0-9]{1,9})\s*$", line)
        if id_first:
            found.append(VgpuType(id_first.group(1), id_first.group(2)))
        elif id_last and (vgpu_types.gpu_word(id_last.group(1)) or id_last.group(1).startswith(("NVIDIA ", "GRID "))):
            found.append(VgpuType(id_last.group(2), id_last.group(1)))
    return found


class VendorVfio(Framework):
    """The vendor-specific VFIO framework on one host. The key of each vGPU is its VF address."""

    name = "vendor_vfio"
    uuids = False
    claims_vfs = True
    mark = "nvidia/current_vgpu_type"
    devices = PCI

    def _current(self, parent: str) -> int | None:
        """Returns the VF's type number, 0 if the VF has no vGPU, or None if the VF does not exist or is not bound to nvidia."""
        return self.sysfs.read_int("%s/%s" % (self.device(parent), self.mark))

    def _types(self, parent: str) -> list[VgpuType]:
        """Returns the types that can currently be created on the VF."""
        return parse_creatable(self.sysfs.read_or(self.device(parent) + "/nvidia/creatable_vgpu_types", ""))

    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        # A VF lists no types if the VF has a vGPU or the GPU is full. The types of one GPU are therefore not reused for another GPU.
        return vgpu_types.merge([], [one for parent in parents for one in self._types(parent)])

    def ready(self, vfs: Sequence[Vf]) -> bool:
        # The VFs of a full GPU list no types, but an existing vGPU proves that the driver has registered the types.
        return super().ready(vfs) and any(self._current(vf.address) or self._types(vf.address) for vf in vfs)

    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        # A VF that does not list the type now can list the type later, so the known number is returned.
        found = vgpu_types.find(type_name, self._types(parent))
        if found:
            return found.id
        return known if self.offered(self.sysfs, parent) else None

    def instances(self, open_files: OpenFiles | None = None, parents: Iterable[str] | None = None) -> list[Vgpu]:
        found = []
        for parent in self.sysfs.list(PCI) if parents is None else parents:
            # On most hosts, no device has this file, and an existence check is faster than a failed read.
            number = self._current(parent) if self.offered(self.sysfs, parent) else 0
            if number:
                holders = self.holders(open_files, parent) if open_files else ()
                instance = self.sysfs.read_int(self.device(parent) + "/nvidia/gpu_instance_id")
                found.append(Vgpu(None, parent, None, str(number), "", holders=holders, params=self.params(parent), gi=instance))
        self._name(found)
        return found

    def _name(self, vgpus: Sequence[Vgpu]) -> None:
        """Sets the type name of each vGPU from the lists of other VFs, from nvidia-smi, or from the stored layout, in this order.

        A type that is not listed in these sources is named by its number.
        """
        pfs = {vgpu.parent: self.sysfs.link(self.device(vgpu.parent) + "/physfn") or vgpu.parent for vgpu in vgpus}
        listed = {pf: {one.id: one.short for vf in self._vfs(pf) for one in self._types(vf)} for pf in set(pfs.values())}
        for vgpu in vgpus:
            vgpu.type = listed[pfs[vgpu.parent]].get(vgpu.type_id, "")
        left = [vgpu for vgpu in vgpus if not vgpu.type]
        supported = nvidia_smi.types(self.ctx, dict.fromkeys(pfs[vgpu.parent] for vgpu in left)) if left else {}
        for vgpu in left:
            vgpu.type = next((one.short for one in supported.get(pfs[vgpu.parent], ()) if one.id == vgpu.type_id), "")
        left = [vgpu for vgpu in left if not vgpu.type]
        stored: dict[str, str] = {}
        if left:
            with contextlib.suppress(EngineError):  # callers that need the stored layout report its read errors
                stored = {one.parent: one.type for gpu in layout_file.read(self.ctx.root).values() for one in gpu.vgpus}
        for vgpu in left:
            vgpu.type = stored.get(vgpu.parent) or "type %s" % vgpu.type_id

    def _vfs(self, pf: str) -> list[str]:
        links = [self.sysfs.link("%s/%s" % (self.device(pf), name)) for name in self.sysfs.list(self.device(pf)) if name.startswith("virtfn")]
        return [name for name in links if name]

    def exists(self, key: str) -> bool:
        return bool(self._current(key))

    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        number = self._current(parent)
        if number is None:
            return "the VF does not exist or is not bound to nvidia"
        if not number:
            return "the vGPU does not exist"
        return "the vGPU is of type %s" % number if str(number) != type_id else None

    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        number = self._current(parent)
        if number:
            held, free = "the VF already has a vGPU (type %d)" % number, "a free VF for %s" % type_name
            raise error(held, parent, free, "Run 'vgpuctl status' to show the vGPU. To change the type, remove the vGPU first.", "vf_busy")
        self._await_room(parent, type_id, type_name)
        try:
            self.sysfs.write("%s/%s" % (self.device(parent), self.mark), type_id)
        except SysfsError as exc:
            found, remedy = "creating %s failed: %s" % (type_name, exc.errors[0].found), _CREATE_REMEDY.get(exc.number, CHECK_LOGS + ".")
            raise error(found, parent, "a vGPU of type %s on this device" % type_name, remedy, "create_failed") from exc
        self._verify(uuid, parent, type_id, type_name, timeout)
        if self.params(parent):
            self.set_params(parent, "")  # clear the parameters of a vGPU that another program has removed

    def _await_room(self, parent: str, type_id: str, type_name: str) -> None:
        """Waits until the VF lists the type as creatable. Raises EngineError after the timeout."""
        if until(self.ctx.clock, lambda: any(one.id == type_id for one in self._types(parent)), LINGER):
            return
        listed = ", ".join(one.short for one in self._types(parent))
        found = "the VF does not currently list %s as creatable (%s)" % (type_name, "listed: " + listed if listed else "the list is empty")
        raise error(found, parent, "room for a vGPU of type %s" % type_name, _NO_ROOM, "no_room")

    def _write_none(self, parent: str) -> bool:
        """Writes type number 0 to the VF, which removes the VF's vGPU. Returns False if the driver refuses because the vGPU is in use."""
        try:
            self.sysfs.write("%s/%s" % (self.device(parent), self.mark), "0")
        except SysfsError as exc:
            if exc.number in (errno.EPERM, errno.EBUSY):
                return False
            if exc.number not in (errno.ENOENT, errno.ENODEV):
                raise
        return True

    def remove(self, key: str, timeout: float, forced: bool = False) -> None:
        if not self.exists(key):
            return
        # The driver refuses to remove a vGPU in use. After a VM stops, the driver takes up to 10 s to release the VF.
        if not until(self.ctx.clock, lambda: self._write_none(key), timeout if forced else min(timeout, LINGER)):
            if forced:
                stays = "a process uses the vGPU, and the vendor-specific VFIO framework never removes a vGPU that is in use"
                raise error(stays, key, None, END_PROCESS, "remove_pending")
            holders = self.holders(OpenFiles(self.sysfs), key)
            if holders:
                raise EngineError(refusals.in_use(key, holders, "removing the vGPU", "force_remove"))
            found = "the driver does not remove the vGPU (EPERM), because a VM uses the vGPU"
            raise error(found, key, None, "Stop the VM that uses this VF. Then rerun.", "in_use")
        self._await_gone(key, timeout)

    def _await_gone(self, key: str, timeout: float) -> None:
        super()._await_gone(key, timeout)
        if self.params(key):
            # vGPU parameters belong to the VF, and the next vGPU must not inherit the old vGPU's parameters.
            with contextlib.suppress(SysfsError):  # a driver that accepts parameters only together with a type has already deleted the parameters
                self.set_params(key, "")
