# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of a framework and its common parts. Code outside of this directory checks capabilities of a GPU, never its framework.

A parent is the address of a VF, or of a PF without SR-IOV. A vGPU's key is its UUID if the framework has UUIDs, otherwise its parent.
To add a framework, write a file in this directory with a class that implements the abstract methods, and add it to ``ALL`` in ``__init__.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Dict, Iterable, List, Sequence, Tuple

from ..base.clock import until
from ..base.errors import error
from ..hardware.gpu import Holder, Vf, Vgpu
from ..hardware.vgpu_types import VgpuType
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, Sysfs

# Seconds: after a VM stops, nvidia-vgpu-mgr takes up to 10 s to release the VF.
LINGER = 12

# PCI ids of a board: device, subsystem.
Board = Tuple[str, str]
# The types that a reading of the host has found so far, by framework, board and names of the types' directories.
Surveyed = Dict[Tuple[str, Board, Tuple[str, ...]], List[VgpuType]]

CHECK_LOGS = "Check dmesg and 'journalctl -u nvidia-vgpu-mgr'"
END_PROCESS = "End the process (see 'vgpuctl status'), then run again."
VF_REMOVED = "The VF is being removed: a program disables or rebinds VFs at this moment. Find this program (cloud agent, driverctl), then run again."


class Framework(ABC):
    """A framework on one host. Changes wait up to timeout seconds until the kernel shows them, and raise EngineError otherwise."""

    name: str
    uuids: bool  # whether its vGPUs have UUIDs (mediated devices, which mdevctl and Cloudpods support)
    claims_vfs: bool  # whether a VF itself becomes a vGPU, so that it must stay bound to nvidia
    mark: str  # the name that marks a parent's directory
    devices: str  # the directory of all vGPUs, which are listed by key

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.sysfs = ctx.sysfs

    @classmethod
    def offered(cls, sysfs: Sysfs, parent: str) -> bool:
        """Whether the parent shows the framework."""
        return sysfs.exists("%s/%s/%s" % (PCI, parent, cls.mark))

    @abstractmethod
    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        """The types of a GPU: all that its parents offer. known: earlier surveys of the same reading; this one may add to them."""

    def ready(self, vfs: Sequence[Vf]) -> bool:
        """Whether all VFs had their types when they were read."""
        return all(vf.framework == self.name for vf in vfs)

    @abstractmethod
    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        """The type's current number on the parent, or None. known: the number when the plan was made."""

    @abstractmethod
    def instances(self, open_files: OpenFiles | None = None, parents: Iterable[str] | None = None) -> list[Vgpu]:
        """All vGPUs of the host. open_files: adds their users. parents: limits the result to these VFs and PFs, if the framework has no UUIDs."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the vGPU exists, whoever created it."""

    @abstractmethod
    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        """The problem of a vGPU that should exist, as a clause, or None."""

    @abstractmethod
    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        """Creates the vGPU and verifies it."""

    @abstractmethod
    def remove(self, key: str, timeout: float, forced: bool = False) -> None:
        """Removes the vGPU. A missing vGPU is no error. forced: the vGPU has a user, and the removal waits until the user ends."""

    def device(self, key: str) -> str:
        """The directory of a vGPU."""
        return "%s/%s" % (self.devices, key)

    def holders(self, open_files: OpenFiles, key: str) -> list[Holder]:
        """The processes that have the vGPU open."""
        return open_files.of_device(self.device(key))

    def vm(self, key: str) -> str | None:
        """The name of the VM that uses the vGPU, or None if the driver does not show it."""
        return self.sysfs.read_or(self.device(key) + "/nvidia/vm_name", "").strip() or None

    def params(self, key: str) -> str | None:
        """The vGPU's vgpu_params, or None if the driver does not show them."""
        text = self.sysfs.read_or(self.device(key) + "/nvidia/vgpu_params")
        return None if text is None else text.strip()

    def set_params(self, key: str, text: str) -> None:
        """Writes the vGPU's vgpu_params. An empty text clears them."""
        self.sysfs.write(self.device(key) + "/nvidia/vgpu_params", text or " ")  # a space clears them

    def type_directory(self, key: str) -> str | None:
        """The type's name for the kernel, libvirt and mdevctl (nvidia-558); None if the framework has no mediated devices."""
        return None

    def type_title(self, key: str) -> str | None:
        """The full name of the vGPU's type (NVIDIA A40-24Q), or None if the vGPU does not show it."""
        return None

    def _verify(self, uuid: str | None, parent: str, type_id: str, type_name: str, timeout: float) -> None:
        """Waits until a new vGPU exists as requested."""
        wrong: str | None = None

        def there() -> bool:
            nonlocal wrong
            wrong = self.complaint(uuid, parent, type_id, type_name)
            return wrong is None

        if not until(self.ctx.clock, there, timeout):
            name = "%s as %s" % (type_name, uuid) if uuid else type_name
            found = "the driver accepted the request for %s, but after %d s %s" % (name, timeout, wrong)
            raise error(found, parent, "a vGPU %s there" % type_name, CHECK_LOGS + ", then run again.", "create_lied")

    def _await_gone(self, key: str, timeout: float) -> None:
        """Waits until a removed vGPU is gone."""
        if not until(self.ctx.clock, lambda: not self.exists(key), timeout):
            found = "the vGPU still exists %d s after the request to remove it" % timeout
            raise error(found, key, None, "Find the VM that uses the vGPU ('vgpuctl status'), stop this VM, then run again.", "remove_failed")
