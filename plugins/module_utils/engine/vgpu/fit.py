# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits a GPU: which types it offers, one size or several, how many. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from ..base.errors import Refusal
from ..hardware import address, vgpu_types
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import VgpuType
from .layout import VgpuSpec
from .target import GpuRequest, Slot


@dataclass(eq=False, repr=False)
class Chosen:
    """A requested vGPU with the type that its name means."""

    spec: VgpuSpec
    type: VgpuType


def slots_of(request: GpuRequest) -> list[Slot]:
    """All slots of the GPU, in the order in which they are filled."""
    gpu = request.gpu
    if request.predicted and gpu.sriov:
        return [Slot(address.vf_address(gpu.address, gpu.vf_offset, gpu.vf_stride, number), number) for number in range(gpu.total_vfs)]
    if gpu.sriov:
        return [Slot(vf.address, vf.index) for vf in gpu.vfs if vf.offers_types]
    return [Slot(gpu.address, number) for number in range(max([one.max_instances or 1 for one in gpu.types] or [32]))]


def choose_types(request: GpuRequest) -> tuple[list[Chosen], list[Refusal]]:
    """The type of each requested vGPU, and errors of names and UUIDs that the GPU does not know."""
    chosen, errors = [], []
    known: dict[str, VgpuType | None] = {}
    for spec in request.spec.vgpus:
        if spec.type not in known:
            known[spec.type] = vgpu_types.predicted(spec.type) if request.predicted else vgpu_types.find(spec.type, request.gpu.types)
        found = known[spec.type]
        if spec.uuid and not request.uuids and not request.predicted:
            errors.append(Refusal(
                "a UUID is given (%s), but on this host vGPUs have none: a VF itself becomes the vGPU" % spec.uuid,
                device=spec.where or request.gpu.address, expected="type and count only",
                remedy="Leave uuid out; VMs get the vGPU by its VF's PCI address.", code="uuid_not_here",
            ))
        if not found:
            errors.append(_unknown_type(request, spec))
            continue
        chosen.append(Chosen(spec, found))
        if found.slices and not vgpu_types.slices_of(spec.type):  # MIG mode follows from the name
            errors.append(Refusal(
                "the type %r (%s) is %s, which lives in a GPU instance of MIG" % (spec.type, spec.where, found.short),
                device=request.gpu.address, expected="its short name, which shows the slices", code="unknown_type",
            ))
    return chosen, errors


def _unknown_type(request: GpuRequest, spec: VgpuSpec) -> Refusal:
    gpu = request.gpu
    near = vgpu_types.nearest(spec.type, gpu.types)
    series = sorted({one.series for one in gpu.types if one.series})
    asked = vgpu_types.series_of(spec.type)
    remedy = None
    if series and asked and asked not in series:
        remedy = "This driver offers the series %s on this GPU." % ", ".join(series)
        if asked == "C":
            remedy += " Series C comes with NVIDIA AI Enterprise's vGPU manager."
    have = ", ".join(near or [one.short for one in gpu.types])
    if request.predicted and gpu.model:
        have = "names such as %s-4Q" % gpu.model.prefix
    return Refusal(
        "the type %r (%s) is not offered by this GPU (%s)" % (spec.type, spec.where, gpu.name),
        device=gpu.address, expected=("one of: " if not near else "nearest: ") + have, remedy=remedy, code="unknown_type",
    )


def _most(gpu: Gpu, vgpu_type: VgpuType) -> int | None:
    """How many of a type fit, None if unknown; by slices or the framebuffer's size if the driver doesn't report it."""
    model, size = gpu.model, vgpu_type.framebuffer_mib
    if vgpu_type.max_instances or not model:
        return vgpu_type.max_instances
    if vgpu_type.slices and model.mig_slices:
        return model.mig_slices // vgpu_type.slices
    return model.framebuffer_gib * 1024 // size if size else None


def check_room(request: GpuRequest, chosen: Sequence[Chosen]) -> list[Refusal]:
    """Limits in vGPUs: one framebuffer size, each type's max_instance, the number of VFs, and in mixed-size mode the framebuffer."""
    gpu, types, slots = request.gpu, [one.type for one in chosen], len(slots_of(request))
    sizes = {one.framebuffer_mib or 0: one.short for one in reversed(types)}
    if len(sizes) > 1 and not request.spec.mixed and not request.spec.needs_mig:
        return [Refusal(
            "vGPUs of different framebuffer sizes are asked for: %s" % ", ".join("%s (%s MiB)" % (sizes[size], size) for size in sorted(sizes)),
            device=gpu.address, expected="one framebuffer size per GPU", code="two_sizes",
            remedy="Put the sizes on different GPUs, or set mixed_sizes: true for this GPU if it supports that.",
        )]
    most = {one.short: _most(gpu, one) or None for one in types}
    vfs = "the GPU has %d usable VFs, one for each vGPU" % slots
    limits: list[tuple[int, str, int | None, str]] = []  # how many are requested of what, the limit, and what sets it
    if request.spec.mixed or any(one.slices for one in types):
        for name, limit in most.items():
            limits.append((sum(one.short == name for one in types), name, limit, "max_instance of %s is %s" % (name, limit)))
        limits.append((len(types), "all types", slots, vfs))
    elif types:
        name, size = types[0].short, types[0].framebuffer_mib
        limit = min([one for one in most.values() if one] or [len(types)])
        why = "max_instance of %s is %d" % (name, limit) + (": each takes %d MiB of framebuffer" % size if size else "")
        limits.append((len(types), name, min(slots, limit), why if limit <= slots else vfs))
    errors = [
        Refusal("%d vGPUs of %s are asked for" % (count, name), gpu.address, "at most %d, because %s" % (limit, cause), code="too_many")
        for count, name, limit, cause in limits if limit is not None and count > limit
    ]
    whole = max([one.framebuffer_mib or 0 for one in gpu.types if not one.slices] or [0]) or (gpu.model.framebuffer_gib * 1024 if gpu.model else 0)
    asked = sum(one.framebuffer_mib or 0 for one in types)
    if request.spec.mixed and not errors and whole and asked > whole:
        found, expected = "the vGPUs take %d MiB of framebuffer in all" % asked, "at most %d MiB, the whole GPU" % whole
        errors.append(Refusal(found, device=gpu.address, expected=expected, remedy="Take fewer or smaller vGPUs.", code="too_many"))
    return errors
