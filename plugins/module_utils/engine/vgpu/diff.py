# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host as text, for a diff."""

from __future__ import annotations

from ..hardware.gpu import Gpu
from ..read.inventory import Inventory
from .layout import plain_params
from .target import GpuTarget, Placed, Target


def lines(inventory: Inventory, target: Target | None = None) -> str:
    """The host's vGPUs, one a line, GPU instances and mixed-size mode; with a target: as they will be."""
    rows = []
    for gpu in inventory.gpus:
        planned = target.of(gpu.address) if target else GpuTarget()
        rows += _gpu_lines(gpu, planned)
        if planned.placed is not None:
            vgpus = [(one.slot.index, one.slot.parent, one.type.short, one.key, _params_to_come(one)) for one in planned.placed]
        else:
            staying = [vgpu for vgpu in gpu.vgpus if vgpu not in planned.removed]
            vgpus = [(vgpu.index, vgpu.parent, vgpu.type, vgpu.key, plain_params(vgpu.params or "")) for vgpu in staying]
        for dummy, parent, type_name, key, params in sorted(vgpus, key=lambda row: (row[0] or 0, row[3])):
            name = "" if key == parent else " " + key
            rows.append("%s %s%s%s" % (parent, type_name, name, " " + params if params else ""))
    return "".join(row + "\n" for row in rows)


def _params_to_come(placed: Placed) -> str:
    if placed.params is not None:
        return placed.params
    return plain_params(placed.vgpu.params or "") if placed.vgpu else ""


def _gpu_lines(gpu: Gpu, target: GpuTarget) -> list[str]:
    names = [one.profile for one in gpu.mig.instances] if gpu.mig and gpu.mig.current else []
    change = target.instances
    if change:
        going = [one.id for one in change.destroy]
        names = [one.profile for one in (gpu.mig.instances if gpu.mig else ()) if one.id not in going]
        names += [one.name for one in change.create]
    mixed = target.mixed if target.sets_mixed else bool(gpu.mixed and gpu.mixed[1])
    rows = ["%s GPU instances: %s" % (gpu.address, " ".join(sorted(names)))] if names else []
    return rows + (["%s mixed sizes" % gpu.address] if mixed else [])
