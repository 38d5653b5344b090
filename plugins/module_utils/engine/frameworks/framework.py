# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of a framework, and what all have in common. Nothing above this directory asks which framework a GPU has, only what it is capable of.

A parent is the address of a VF, or of a PF without SR-IOV. A vGPU's key is its UUID where the framework has UUIDs, else its parent.
To add a framework: a file here, with a class that has all that is abstract here; its class in ``ALL`` of ``__init__.py``.
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

# Seconds: nvidia-vgpu-mgr takes up to 10 s after a VM stops before the VF is free again.
LINGER = 12

# PCI ids of a board: device, subsystem.
Board = Tuple[str, str]
# Types that one reading of the host has found already, by framework, board and names of the types' directories.
Surveyed = Dict[Tuple[str, Board, Tuple[str, ...]], List[VgpuType]]

CHECK_LOGS = "Check dmesg and 'journalctl -u nvidia-vgpu-mgr'"
END_PROCESS = "End the process (see 'vgpuctl status'), then run again."
VF_REMOVED = "The VF is being removed: something disables or rebinds VFs at this moment. Find it (cloud agent, driverctl), then run again."


class Framework(ABC):
    """A framework on one host. Changes wait until the kernel shows them, at most timeout seconds, and raise EngineError."""

    name: str
    uuids: bool  # whether its vGPUs have UUIDs (mediated devices, which mdevctl and Cloudpods know)
    claims_vfs: bool  # whether a VF itself becomes a vGPU, so that it must stay bound to nvidia
    mark: str  # what the directory of a parent has
    devices: str  # where the directories of vGPUs are, by key

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.sysfs = ctx.sysfs

    @classmethod
    def offered(cls, sysfs: Sysfs, parent: str) -> bool:
        """Whether the parent shows the framework."""
        return sysfs.exists("%s/%s/%s" % (PCI, parent, cls.mark))

    @abstractmethod
    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        """The types of a GPU: what its parents offer between them. known: earlier surveys of the same reading, which it may add to."""

    def ready(self, vfs: Sequence[Vf]) -> bool:
        """Whether all VFs, as they were just read, have their types."""
        return all(vf.framework == self.name for vf in vfs)

    @abstractmethod
    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        """The type's number as the parent has it now, or None. known: as it was when the plan was made."""

    @abstractmethod
    def instances(self, open_files: OpenFiles | None = None, parents: Iterable[str] | None = None) -> list[Vgpu]:
        """All vGPUs of the host; open_files: with who holds them. parents: those of these VFs and PFs are enough, where others have no UUID to be taken."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the vGPU is there, whoever created it."""

    @abstractmethod
    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        """What is wrong with a vGPU that should be there, as a clause, or None."""

    @abstractmethod
    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        """Creates the vGPU and verifies it."""

    @abstractmethod
    def remove(self, key: str, timeout: float, forced: bool = False) -> None:
        """Removes the vGPU. One that is gone already is success. forced: it has a user, whose end is waited for."""

    def device(self, key: str) -> str:
        """The directory of a vGPU."""
        return "%s/%s" % (self.devices, key)

    def holders(self, open_files: OpenFiles, key: str) -> list[Holder]:
        """Who has the vGPU open."""
        return open_files.of_device(self.device(key))

    def vm(self, key: str) -> str | None:
        """The name of the VM that has it, or None where the driver does not show it."""
        return self.sysfs.read_or(self.device(key) + "/nvidia/vm_name", "").strip() or None

    def params(self, key: str) -> str | None:
        """Its vgpu_params, or None when the driver doesn't show them."""
        text = self.sysfs.read_or(self.device(key) + "/nvidia/vgpu_params")
        return None if text is None else text.strip()

    def set_params(self, key: str, text: str) -> None:
        """Writes its vgpu_params; an empty text clears them."""
        self.sysfs.write(self.device(key) + "/nvidia/vgpu_params", text or " ")  # a space clears them

    def type_directory(self, key: str) -> str | None:
        """The name of its type as the kernel, libvirt and mdevctl have it (nvidia-558); None where there are no mediated devices."""
        return None

    def type_title(self, key: str) -> str | None:
        """The full name of its type (NVIDIA A40-24Q), or None where the vGPU does not show it."""
        return None

    def _verify(self, uuid: str | None, parent: str, type_id: str, type_name: str, timeout: float) -> None:
        """Waits until a new vGPU is there as requested."""
        wrong: str | None = None

        def there() -> bool:
            nonlocal wrong
            wrong = self.complaint(uuid, parent, type_id, type_name)
            return wrong is None

        if not until(self.ctx.clock, there, timeout):
            name = "%s as %s" % (type_name, uuid) if uuid else type_name
            found = "the driver took the request for %s, but after %d s %s" % (name, timeout, wrong)
            raise error(found, parent, "a vGPU %s there" % type_name, CHECK_LOGS + ", then run again.", "create_lied")

    def _await_gone(self, key: str, timeout: float) -> None:
        """Waits until a removed vGPU is gone."""
        if not until(self.ctx.clock, lambda: not self.exists(key), timeout):
            found = "the vGPU is still there %d s after its removal was asked for" % timeout
            raise error(found, key, None, "Check who holds it ('vgpuctl status'), stop that VM, then run again.", "remove_failed")
