# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Detects conflicts that prevent a stored vGPU from being restored at boot: an existing UUID, or a VF that is not free."""

from __future__ import annotations

from ..base.errors import Refusal
from ..hardware.gpu import Gpu
from ..read.inventory import Inventory
from ..state.layout_file import StoredVgpu


def taken(inventory: Inventory, gpu: Gpu, one: StoredVgpu) -> list[Refusal]:
    """Returns the error for a stored vGPU whose UUID already exists on another GPU or with another type."""
    there = next(vgpu for vgpu in inventory.mdevs if vgpu.uuid == one.uuid)
    if there in gpu.vgpus and there.type == one.type:
        return []
    found, expected = "the UUID %s already belongs to the vGPU %s on %s" % (one.uuid, there.type, there.parent), "%s with this UUID on this VF" % one.type
    return [Refusal(found, one.parent, expected, "Run the playbook, which moves or recreates the vGPU.", "uuid_elsewhere")]


def blocked(gpu: Gpu, one: StoredVgpu) -> list[Refusal]:
    """Returns the error for a stored vGPU that cannot be created on its VF.

    Returns no error if no VF offers vGPU types, because the planner reports missing vGPU types.
    """
    if not any(vf.offers_types for vf in gpu.vfs) or not gpu.sriov:
        return []
    other = next((vgpu for vgpu in gpu.vgpus if vgpu.index == one.index and (vgpu.uuid, vgpu.type) != (one.uuid, one.type)), None)
    if other:
        found = "the VF already has the vGPU %s, which is not in the stored layout" % (" ".join(filter(None, (other.type, other.uuid))))
        remedy = "Remove that vGPU, then run 'vgpuctl restore'."
        if other.uuid:
            remedy += " If mdevctl starts this vGPU at each boot, run 'mdevctl modify -u %s -p %s --manual'." % (other.uuid, one.parent)
        return [Refusal(found, one.parent, "a free VF for %s" % one.type, remedy, "vf_busy")]
    vf = next((vf for vf in gpu.vfs if vf.index == one.index), None)
    if vf is None or not vf.offers_types:
        bound = ": the VF is bound to %s" % (vf.driver or "no driver") if vf else ""
        bound += " and in use by %s" % ", ".join(map(str, vf.holders)) if vf and vf.holders else ""
        found = "VF %s is missing or cannot accept a vGPU of type %s%s" % (one.index, one.type, bound)
        return [Refusal(
            found, gpu.address,
            remedy="Find the state of the VF in the output of 'vgpuctl status'. Enable or free the VF, then run 'vgpuctl restore'.", code="no_slot",
        )]
    return []
