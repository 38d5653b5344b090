# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds Fabric Manager and partition problems that prevent CUDA in whole-card vGPUs on NVSwitch boards.

The functions read only their arguments, not the host.
"""

from __future__ import annotations

from typing import Iterator, Mapping

from ..base.errors import Refusal
from ..fabric import plan as fabric_plan
from ..hardware.gpu import Gpu, Vgpu
from ..read.fabric import Fabric
from ..read.inventory import Inventory
from ..system.fabric_manager import CONFIG, MODES, UNIT, VGPU_MODE

_NO_CUDA = "otherwise, cuInit fails with error 802, 'system not yet initialized', in a VM with a whole-card vGPU"
_MIG = "MIG-backed vGPUs do not require Fabric Manager."


def find(fabric: Fabric | None, inventory: Inventory, driver: str | None) -> Iterator[Refusal]:
    """Yields all fabric problems. *fabric* is None on a host without NVSwitches.

    The *driver* argument is the version of the loaded driver, or the version on disk if no driver is loaded.
    """
    if fabric is None or _all_mig(inventory):
        return
    manager, unit = fabric.manager, UNIT + ".service"
    if not manager.installed:
        yield Refusal(
            "this host has NVSwitches, but Fabric Manager is not installed", unit,
            "Fabric Manager %s: %s" % (driver or "of the driver's version", _NO_CUDA),
            "Run the fabric role, which installs Fabric Manager. " + _MIG, "fabric_not_installed",
        )
    else:
        if manager.version and driver and manager.version != driver:
            versions = "Fabric Manager has version %s, but the driver has version %s" % (manager.version, driver)
            install = "Run the fabric role, which installs the driver's version of Fabric Manager."
            yield Refusal(versions, unit, "equal versions, because Fabric Manager does not start otherwise", install, "fabric_version")
        if manager.mode != VGPU_MODE:
            mode = manager.mode
            shown = "FABRIC_MODE is %s%s" % (mode, " (%s)" % MODES[mode] if mode in MODES else "") if mode else "the file is missing or sets no FABRIC_MODE"
            set_mode = "While no VM uses a GPU, run the fabric role, which sets the mode and restarts Fabric Manager. " + _MIG
            yield Refusal(shown, CONFIG, "FABRIC_MODE=2: " + _NO_CUDA, set_mode, "fabric_mode")
        if manager.unit and not manager.running:
            start = ("Run 'systemctl start nvidia-fabricmanager'. "
                     "To find out why the service stopped, check 'journalctl -u nvidia-fabricmanager' and /var/log/fabricmanager.log.")
            yield Refusal(
                "the state of the service is %s" % (manager.unit.get("active") or "not reported"), unit, "active: " + _NO_CUDA, start, "fabric_not_running",
            )
        elif fabric.silence and fabric.silence.code not in ("fabric_not_running", "fabric_mode", "fabric_version"):
            yield fabric.silence
    for one in fabric.failed:
        ports = "%d NVLinks failed (ports %s)" % (len(one.ports), ", ".join(map(str, one.ports)))
        remedy = "Restart Fabric Manager while no VM uses a GPU. If the NVLinks fail again, have the board serviced."
        yield Refusal(ports, one.device, "working NVLinks", remedy, "fabric_links_failed")
    yield from _partitions(fabric, inventory)


def _all_mig(inventory: Inventory) -> bool:
    """Returns whether all GPUs are in MIG mode, which disables NVLink."""
    return bool(inventory.gpus) and all(gpu.mig and gpu.mig.current for gpu in inventory.gpus)


def _partitions(fabric: Fabric, inventory: Inventory) -> Iterator[Refusal]:
    """Yields the errors for whole-card vGPUs without an active partition, and for active partitions for a VF without a vGPU."""
    vgpus = {vgpu.parent: vgpu for gpu in inventory.gpus for vgpu in gpu.vgpus}
    active = [one for one in fabric.partitions or () if one.active]
    served = {module: one.id for one in active for module in one.gpus}
    for gpu in inventory.gpus:
        for vgpu in gpu.vgpus:
            if gpu.alive and fabric_plan.takes_card(gpu, vgpu.type or ""):
                yield from _without(fabric, gpu, vgpu, served)
    for one in active:
        for vf in fabric.record.partitions.get(one.id, ()):
            if vf not in vgpus:
                yield Refusal(
                    "the partition is active for %s, which has no vGPU" % vf, "fabric partition %d" % one.id, "active partitions only for existing vGPUs",
                    "Run 'vgpuctl restore' or the playbook to deactivate the partition, or to activate the partition for the existing vGPU.",
                    "fabric_partition_stale",
                )


def _without(fabric: Fabric, gpu: Gpu, vgpu: Vgpu, served: Mapping[int, int]) -> Iterator[Refusal]:
    module = fabric.modules.get(gpu.address)
    if module is not None and module in served:
        recorded = fabric.record.partitions.get(served[module])
        if not recorded or vgpu.parent in recorded:
            return
        found = "the fabric partition of the vGPU's GPU is active for another VF (%s)" % ", ".join(recorded)
    elif fabric.partitions is None and fabric.silence and fabric.silence.code != "fabric_not_installed" and fabric.manager.running:
        found = "it is unknown whether the fabric partition of the vGPU's GPU is active"
    else:
        found = "the fabric partition of the vGPU's GPU is not active"
    remedy = "Run 'vgpuctl restore' or the playbook to activate the partition."
    yield Refusal(found, vgpu.parent, "an active partition with this VF: " + _NO_CUDA, remedy, "fabric_partition_inactive")
