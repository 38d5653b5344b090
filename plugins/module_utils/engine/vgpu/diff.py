# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vGPUs of a host as text, for a diff."""

from __future__ import annotations

from .layout import plain_params


def lines(inventory, result=None):
    """The host's vGPUs as text, one a line, for a diff; with a plan: as they will be. GPU instances and mixed-size mode likewise."""
    rows = []
    for gpu in inventory.gpus:
        rows += _gpu_lines(gpu, result)
        current = [(vgpu.index, vgpu.parent, vgpu.type, vgpu.key, plain_params(vgpu.params or "")) for vgpu in gpu.vgpus]
        if result is not None and gpu.address in result.placed:
            current = [
                (one.slot.index, one.slot.parent, one.type.short, one.key, _params_to_come(one))
                for one in result.placed[gpu.address]
            ]
        elif result is not None:
            going = [vgpu.key for owner, vgpu in result.removed if owner is gpu]
            current = [row for row in current if row[3] not in going]
        for dummy, parent, type_name, key, params in sorted(current, key=lambda row: (row[0] or 0, row[3])):
            name = "" if key == parent else " " + key
            rows.append("%s %s%s%s" % (parent, type_name, name, " " + params if params else ""))
    return "".join(row + "\n" for row in rows)


def _params_to_come(placed):
    if placed.params is not None:
        return placed.params
    return plain_params(placed.vgpu.params or "") if placed.vgpu else ""


def _gpu_lines(gpu, result):
    names = [one.profile for one in gpu.mig.instances] if gpu.mig and gpu.mig.current else []
    mixed = bool(gpu.mixed and gpu.mixed[1])
    if result is not None:
        change = result.instances.get(gpu.address)
        if change:
            going = [one.id for one in change.destroy]
            names = [one.profile for one in (gpu.mig.instances if gpu.mig else ()) if one.id not in going]
            names += [one.name for one in change.create]
        planned = result.mixed.get(gpu.address)
        if planned and planned[1]:
            mixed = planned[0]
    rows = ["%s GPU instances: %s" % (gpu.address, " ".join(sorted(names)))] if names else []
    return rows + (["%s mixed sizes" % gpu.address] if mixed else [])
