# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of all frameworks. Code outside of this directory checks the capabilities of a GPU, never the name of its framework.

The parent of a vGPU is the address of its VF, or of the PF on a GPU without SR-IOV. The key of a vGPU is its UUID if the framework has UUIDs,
otherwise its parent. To add a framework, write a file in this directory with a class that implements the abstract methods, and add the class to
``ALL`` in ``__init__.py``.
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

# Seconds to wait for a VF of a stopped VM: nvidia-vgpu-mgr takes up to 10 s to release the VF.
LINGER = 12

# A board is identified by its PCI device ID and its PCI subsystem ID.
Board = Tuple[str, str]
# The vGPU types that the current snapshot of the host has found so far, by framework, board, and names of the directories of the types.
Surveyed = Dict[Tuple[str, Board, Tuple[str, ...]], List[VgpuType]]

CHECK_LOGS = "Check dmesg and 'journalctl -u nvidia-vgpu-mgr'"
END_PROCESS = "End the process (see 'vgpuctl status'), then run again."
VF_REMOVED = "The VF is being removed: a program disables or rebinds VFs at this moment. Find this program (cloud agent, driverctl), then run again."


class Framework(ABC):
    """A framework on one host.

    Each method that changes a vGPU waits up to timeout seconds until the kernel shows the change. Otherwise, the method raises EngineError.
    """

    name: str
    uuids: bool  # whether vGPUs have UUIDs: mediated devices, which mdevctl and Cloudpods support
    claims_vfs: bool  # whether a VF itself becomes a vGPU and must therefore stay bound to nvidia
    mark: str  # the file or directory in sysfs that only parents of this framework have
    devices: str  # the directory in sysfs that has a subdirectory for each vGPU, named by the vGPU's key

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.sysfs = ctx.sysfs

    @classmethod
    def offered(cls, sysfs: Sysfs, parent: str) -> bool:
        """Returns whether the parent has the files of this framework in sysfs."""
        return sysfs.exists("%s/%s/%s" % (PCI, parent, cls.mark))

    @abstractmethod
    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        """Returns all vGPU types that the parents of a GPU offer.

        Args:
            known: The results of earlier surveys of the same snapshot. The method can reuse them, and add its own result.
        """

    def ready(self, vfs: Sequence[Vf]) -> bool:
        """Returns whether the driver had registered the vGPU types of all VFs when the VFs were read."""
        return all(vf.framework == self.name for vf in vfs)

    @abstractmethod
    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        """Returns the current number of a type on the parent, or None if the parent does not offer the type.

        Args:
            known: The number of the type when the plan was made.
        """

    @abstractmethod
    def instances(self, open_files: OpenFiles | None = None, parents: Iterable[str] | None = None) -> list[Vgpu]:
        """Returns all vGPUs of the host.

        Args:
            open_files: The open files of all processes, to find the users of each vGPU. Without it, the users are not set.
            parents: The VFs and PFs to read. Frameworks with UUIDs ignore this argument and read all vGPUs.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Returns whether the vGPU exists, regardless of the program that created it."""

    @abstractmethod
    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        """Returns a clause that describes how a vGPU differs from the request (missing, wrong parent or wrong type), or None."""

    @abstractmethod
    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        """Creates a vGPU, and verifies that the vGPU exists as requested."""

    @abstractmethod
    def remove(self, key: str, timeout: float, forced: bool = False) -> None:
        """Removes a vGPU. A missing vGPU is not an error.

        Args:
            forced: Whether the vGPU may be in use. If so, the removal waits up to timeout seconds until the user of the vGPU ends.
        """

    def device(self, key: str) -> str:
        """Returns the directory of a vGPU in sysfs."""
        return "%s/%s" % (self.devices, key)

    def holders(self, open_files: OpenFiles, key: str) -> list[Holder]:
        """Returns the processes that have the vGPU open."""
        return open_files.of_device(self.device(key))

    def vm(self, key: str) -> str | None:
        """Returns the name of the VM that uses the vGPU, or None if the driver does not report a VM."""
        return self.sysfs.read_or(self.device(key) + "/nvidia/vm_name", "").strip() or None

    def params(self, key: str) -> str | None:
        """Returns the vgpu_params of the vGPU, or None if the driver does not report them."""
        text = self.sysfs.read_or(self.device(key) + "/nvidia/vgpu_params")
        return None if text is None else text.strip()

    def set_params(self, key: str, text: str) -> None:
        """Writes the vgpu_params of the vGPU. An empty text clears them."""
        self.sysfs.write(self.device(key) + "/nvidia/vgpu_params", text or " ")  # the driver clears the parameters if a space is written

    def type_directory(self, key: str) -> str | None:
        """Returns the name of the vGPU's type that the kernel, libvirt and mdevctl use (nvidia-558).

        Returns None if the framework has no mediated devices.
        """
        return None

    def type_title(self, key: str) -> str | None:
        """Returns the full name of the vGPU's type (NVIDIA A40-24Q), or None if sysfs does not show the name."""
        return None

    def _verify(self, uuid: str | None, parent: str, type_id: str, type_name: str, timeout: float) -> None:
        """Waits until a new vGPU exists as requested. Raises EngineError if the timeout expires first."""
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
        """Waits until a removed vGPU no longer exists. Raises EngineError if the timeout expires first."""
        if not until(self.ctx.clock, lambda: not self.exists(key), timeout):
            found = "the vGPU still exists %d s after the request to remove it" % timeout
            raise error(found, key, None, "Find the VM that uses the vGPU ('vgpuctl status'), stop this VM, then run again.", "remove_failed")
