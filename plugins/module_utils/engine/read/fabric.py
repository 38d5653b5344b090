# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's NVLink fabric: Fabric Manager, the partitions, and the GPUs' module IDs.

On a host without NVSwitches, the reader runs no queries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..base.errors import EngineError, Refusal
from ..hardware.fabric import FailedDevice, GpuFabric, Partition
from ..state import fabric_record
from ..system import fabric_manager, nvidia_smi, systemd
from ..system.context import Context
from .inventory import Inventory, answering

# The NVSwitch driver lists NVSwitches in this directory, which exists even on a host without NVSwitches.
SWITCHES = "/proc/driver/nvidia-nvswitch/devices"
# Boards whose NVSwitches are behind a network adapter and are therefore not PCI functions.
# nvlsm configures NVSwitches behind a network adapter, and only the driver reports that these switches exist.
_BRIDGED = ("B200", "B300")


@dataclass(eq=False, repr=False)
class Manager:
    """The state of Fabric Manager.

    ``mode`` and ``restart`` are FABRIC_MODE and FABRIC_MODE_RESTART in the configuration file. ``unit`` is the state that systemd.read returns.
    """

    package: str | None = None
    version: str | None = None
    mode: str | None = None
    restart: bool = False
    unit: dict[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Returns whether the Fabric Manager service is running."""
        return self.unit.get("active") == "active"

    @property
    def installed(self) -> bool:
        """Returns whether any part of Fabric Manager is installed."""
        return bool(self.package or self.version or self.unit.get("load") not in (None, "not-found"))


@dataclass(eq=False, repr=False)
class Fabric:
    """The NVLink fabric of a host.

    ``switches`` contains PCI addresses, and is empty on a board whose NVSwitches are behind a network adapter. ``gpus`` is keyed by PCI address.
    If the partitions are unknown, ``partitions`` is None and ``silence`` is the reason.
    ``record`` contains the partitions that the collection activated.
    """

    switches: list[str]
    bridged: bool
    manager: Manager
    gpus: dict[str, GpuFabric]
    partitions: list[Partition] | None = None
    silence: Refusal | None = None
    failed: list[FailedDevice] = field(default_factory=list)
    record: fabric_record.Record = field(default_factory=fabric_record.Record)

    @property
    def modules(self) -> dict[str, int]:
        """Returns the known module IDs, keyed by PCI address."""
        return {pf: one.module for pf, one in self.gpus.items() if one.module is not None}

    def address_of(self, module: int) -> str:
        """Returns the address of the GPU with the given module ID, for messages."""
        return next((pf for pf, one in sorted(self.gpus.items()) if one.module == module), "module %d" % module)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fabric as a dictionary for the module result."""
        manager = {name: value for name, value in vars(self.manager).items() if name != "unit"}
        units = {name: self.manager.unit.get(name) for name in ("active", "enabled")}
        partitions = None if self.partitions is None else [
            dict(one.as_dict(), vfs=self.record.partitions.get(one.id) if one.active else None) for one in self.partitions
        ]
        return {
            "switches": self.switches, "nvlsm": self.bridged, "manager": dict(manager, **units), "partitions": partitions,
            "silence": str(self.silence) if self.silence else None, "failed": [one.as_dict() for one in self.failed],
        }


def present(ctx: Context, inventory: Inventory) -> tuple[list[str], bool]:
    """Returns the NVSwitch addresses, and whether the NVSwitches are behind a network adapter.

    On a host without NVSwitches, the result is ([], False), and no further query is necessary.
    """
    switches = list(inventory.switches) or ctx.sysfs.list(SWITCHES)
    bridged = not switches and any(gpu.driver == "nvidia" and gpu.name in _BRIDGED for gpu in inventory.gpus)
    return switches, bridged and any(one.state for one in _gpus(ctx, inventory).values())


def read(ctx: Context, inventory: Inventory, timeout: float = 30, wait: float = 0) -> Fabric | None:
    """Returns the fabric, or None on a host without NVSwitches. ``wait`` is the time to wait for Fabric Manager to start, in seconds."""
    switches, bridged = present(ctx, inventory)
    if not switches and not bridged:
        return None
    found = fabric_manager.settings(ctx.root) or {}
    package, version = fabric_manager.version(ctx, timeout)
    unit = systemd.read(ctx, timeout, [fabric_manager.UNIT]).get(fabric_manager.UNIT, {})
    manager = Manager(package, version, found.get("FABRIC_MODE"), found.get("FABRIC_MODE_RESTART") == "1", unit)
    fabric = Fabric(switches, bridged, manager, _gpus(ctx, inventory), record=fabric_record.read(ctx))
    _ask(ctx, fabric, wait)
    return fabric


def _gpus(ctx: Context, inventory: Inventory) -> dict[str, GpuFabric]:
    bound = [gpu for gpu in inventory.gpus if gpu.driver == "nvidia"]
    return nvidia_smi.fabric(ctx, answering(inventory.gpus)) if bound else {}


def _ask(ctx: Context, fabric: Fabric, wait: float) -> None:
    """Adds Fabric Manager's responses to the fabric, or the reason why Fabric Manager does not respond."""
    manager = fabric.manager
    if not manager.installed or (manager.unit and not manager.running):
        code = "fabric_not_running" if manager.installed else "fabric_not_installed"
        word = "is not running" if manager.installed else "is not installed"
        unit, remedy = fabric_manager.UNIT + ".service", "Run the fabric role, which installs and starts Fabric Manager."
        fabric.silence = Refusal("Fabric Manager %s" % word, unit, "a running Fabric Manager", remedy, code)
        return
    try:
        found, addresses = fabric_manager.partitions(ctx, 0 if manager.restart else wait)
        fabric.failed = fabric_manager.failed_devices(ctx)
    except EngineError as exc:
        fabric.silence = exc.errors[0]
        return
    fabric.partitions = found
    for module, pci in addresses.items():  # Fabric Manager only reports addresses on A100 boards
        for pf, gpu in fabric.gpus.items():
            if pci.lower().endswith(pf):
                gpu.module = module
