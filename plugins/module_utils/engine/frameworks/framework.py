# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of all frameworks. Code outside this directory checks GPU capabilities, never framework names.

A vGPU's parent is the VF address, or the PF address on a GPU without SR-IOV. A vGPU's key is its UUID if the framework uses UUIDs, and its parent
otherwise. To add a framework, write a file in this directory with a class that implements the abstract methods, and add the class to
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

# Seconds to wait for a stopped VM's VF, because nvidia-vgpu-mgr takes up to 10 s to release the VF.
LINGER = 12

# A board is identified by the PCI device ID and the PCI subsystem ID.
Board = Tuple[str, str]
# The vGPU types found so far in the current host snapshot, keyed by framework, board, and names of the type directories.
Surveyed = Dict[Tuple[str, Board, Tuple[str, ...]], List[VgpuType]]

CHECK_LOGS = "Find the cause in the output of 'dmesg' and 'journalctl -u nvidia-vgpu-mgr'"
END_PROCESS = "Stop the process that 'vgpuctl status' shows. Then rerun."
VF_REMOVED = "The VF is being removed, because a program is disabling or rebinding VFs. Find this program, such as a cloud agent or driverctl. Then rerun."


class Framework(ABC):
    """A framework on one host.

    Each method that changes a vGPU waits up to timeout seconds for the change to appear in sysfs, and raises EngineError if the change does not
    appear.
    """

    name: str
    uuids: bool  # whether vGPUs are mediated devices with UUIDs, which mdevctl and Cloudpods support
    claims_vfs: bool  # whether VFs themselves become vGPUs and must therefore stay bound to nvidia
    mark: str  # the sysfs file or directory that only parents of this framework have
    devices: str  # the sysfs directory with one subdirectory for each vGPU, named after the vGPU's key

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.sysfs = ctx.sysfs

    @classmethod
    def offered(cls, sysfs: Sysfs, parent: str) -> bool:
        """Returns whether sysfs contains this framework's files for the parent."""
        return sysfs.exists("%s/%s/%s" % (PCI, parent, cls.mark))

    @abstractmethod
    def survey(self, parents: Iterable[str], board: Board, known: Surveyed) -> list[VgpuType]:
        """Returns all vGPU types that a GPU's parents offer.

        Args:
            known: The results of earlier surveys of the same host snapshot. The method can reuse and extend these results.
        """

    def ready(self, vfs: Sequence[Vf]) -> bool:
        """Returns whether the driver had registered vGPU types for all VFs when the engine read the VFs."""
        return all(vf.framework == self.name for vf in vfs)

    @abstractmethod
    def find_id(self, parent: str, type_name: str, known: str) -> str | None:
        """Returns the current type number on the parent, or None if the parent does not offer the type.

        Args:
            known: The type number at planning time.
        """

    @abstractmethod
    def instances(self, open_files: OpenFiles | None = None, parents: Iterable[str] | None = None) -> list[Vgpu]:
        """Returns all of the framework's vGPUs on the host.

        Args:
            open_files: The open files of all processes, which identify the users of each vGPU. If None, the users are not set.
            parents: The VFs and PFs to read. Frameworks that use UUIDs ignore this argument and read all vGPUs.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Returns whether the vGPU exists, regardless of which program created the vGPU."""

    @abstractmethod
    def complaint(self, uuid: str | None, parent: str, type_id: str, type_name: str) -> str | None:
        """Returns a clause that describes how a vGPU differs from the request (missing, wrong parent, or wrong type), or None."""

    @abstractmethod
    def create(self, parent: str, type_id: str, type_name: str, uuid: str | None, timeout: float) -> None:
        """Creates a vGPU, and verifies that the vGPU matches the request."""

    @abstractmethod
    def remove(self, key: str, timeout: float, forced: bool = False) -> None:
        """Removes a vGPU. A missing vGPU is not an error.

        Args:
            forced: Whether the vGPU may be in use. If true, the removal waits up to timeout seconds for the vGPU's user to exit.
        """

    def device(self, key: str) -> str:
        """Returns the vGPU's sysfs directory."""
        return "%s/%s" % (self.devices, key)

    def holders(self, open_files: OpenFiles, key: str) -> list[Holder]:
        """Returns the processes that use the vGPU."""
        return open_files.of_device(self.device(key))

    def vm(self, key: str) -> str | None:
        """Returns the name of the VM that uses the vGPU, or None if the driver reports no VM."""
        return self.sysfs.read_or(self.device(key) + "/nvidia/vm_name", "").strip() or None

    def params(self, key: str) -> str | None:
        """Returns the vGPU's vgpu_params, or None if the driver does not report vgpu_params."""
        text = self.sysfs.read_or(self.device(key) + "/nvidia/vgpu_params")
        return None if text is None else text.strip()

    def set_params(self, key: str, text: str) -> None:
        """Writes the vGPU's vgpu_params. An empty string clears all parameters."""
        self.sysfs.write(self.device(key) + "/nvidia/vgpu_params", text or " ")  # writing a space clears the parameters

    def type_directory(self, key: str) -> str | None:
        """Returns the vGPU type name that the kernel, libvirt, and mdevctl use (nvidia-558).

        Returns None if the framework does not use mediated devices.
        """
        return None

    def type_title(self, key: str) -> str | None:
        """Returns the full name of the vGPU's type (NVIDIA A40-24Q), or None if sysfs does not contain the name."""
        return None

    def _verify(self, uuid: str | None, parent: str, type_id: str, type_name: str, timeout: float) -> None:
        """Waits until a new vGPU matches the request. Raises EngineError if the timeout expires first."""
        wrong: str | None = None

        def there() -> bool:
            nonlocal wrong
            wrong = self.complaint(uuid, parent, type_id, type_name)
            return wrong is None

        if not until(self.ctx.clock, there, timeout):
            name = "%s with the UUID %s" % (type_name, uuid) if uuid else type_name
            found = "the driver accepted the request for %s, but after %d s, %s" % (name, timeout, wrong)
            raise error(found, parent, "a vGPU of type %s on this device" % type_name, CHECK_LOGS + ", then rerun.", "create_lied")

    def _await_gone(self, key: str, timeout: float) -> None:
        """Waits until a removed vGPU no longer exists. Raises EngineError if the timeout expires first."""
        if not until(self.ctx.clock, lambda: not self.exists(key), timeout):
            found = "the vGPU still exists %d s after the removal request" % timeout
            raise error(found, key, None, "Find the VM that uses the vGPU with 'vgpuctl status', and stop this VM. Then rerun.", "remove_failed")
