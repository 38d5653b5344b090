# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits a GPU: which types it offers, one size or several, how many. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from ..base.errors import Trouble
from ..hardware import address, vgpu_types
from ..hardware.catalog import Model
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import VgpuType
from .layout import VgpuSpec
from .target import GpuRequest, Slot

_INSTANCES = "max_instance of %s is %d"
_VFS = "the GPU has %d usable VFs, one for each vGPU"


@dataclass(eq=False)
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


def _names_model(word: str, model: Model) -> bool:
    """Whether the first word of a type's name is that of the model; cards with MIG add letters for their form (H100XM)."""
    word, prefix = word.lower(), model.prefix.lower()
    rest = word[len(prefix):]
    return word.startswith(prefix) and (not rest or (model.mig_slices > 0 and rest.isalpha()))


def choose_types(request: GpuRequest) -> tuple[list[Chosen], list[Trouble]]:
    """The type of each requested vGPU, and errors of names that the GPU does not offer."""
    chosen, troubles = [], []
    known: dict[str, VgpuType | None] = {}
    for spec in request.spec.vgpus:
        if spec.type not in known:
            known[spec.type] = _predict(request.gpu, spec.type) if request.predicted else vgpu_types.find(spec.type, request.gpu.types)
        found = known[spec.type]
        if found:
            chosen.append(Chosen(spec, found))
        else:
            troubles.append(_unknown_type(request, spec))
    return chosen, troubles


def _unknown_type(request: GpuRequest, spec: VgpuSpec) -> Trouble:
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
    return Trouble(
        "the type %r (%s) is not offered by this GPU (%s)" % (spec.type, spec.where, gpu.name),
        device=gpu.address, wanted=("one of: " if not near else "nearest: ") + have, remedy=remedy, code="unknown_type",
    )


def _predict(gpu: Gpu, name: str) -> VgpuType | None:
    """The type that a name means before the driver is there to list its own."""
    word = vgpu_types.gpu_word(name)
    if word is None or (gpu.model and not _names_model(word, gpu.model)):
        return None
    return VgpuType("", vgpu_types.short_name(name))


def check_names(gpu: Gpu, chosen: Sequence[Chosen]) -> list[Trouble]:
    """Types that live in a GPU instance must be requested by a name that shows it: MIG mode follows from the name."""
    return [
        Trouble(
            "the type %r (%s) is %s, which lives in a GPU instance of MIG" % (one.spec.type, one.spec.where, one.type.short),
            device=gpu.address, wanted="its name, which tells so", code="unknown_type",
        )
        for one in chosen
        if one.type.slices and not vgpu_types.slices_of(one.spec.type)
    ]


def check_sizes(request: GpuRequest, chosen: Sequence[Chosen]) -> list[Trouble]:
    """One framebuffer size per GPU, without mixed-size mode and MIG."""
    sizes: dict[int, str] = {}
    for one in chosen:
        sizes.setdefault(one.type.framebuffer_mib or 0, one.type.short)
    if request.spec.mixed or request.spec.needs_mig or len(sizes) < 2:
        return []
    return [
        Trouble(
            "vGPUs of different framebuffer sizes are asked for: %s" % ", ".join("%s (%s MiB)" % (sizes[size], size) for size in sorted(sizes)),
            device=request.gpu.address, wanted="one framebuffer size per GPU", code="two_sizes",
            remedy="Put the sizes on different GPUs, or set mixed_sizes: true for this GPU if it supports that.",
        )
    ]


def _most(gpu: Gpu, vgpu_type: VgpuType) -> int | None:
    """How many of a type fit, None if unknown; by slices or the framebuffer's size if the driver doesn't report it."""
    model, size = gpu.model, vgpu_type.framebuffer_mib
    if vgpu_type.max_instances or not model:
        return vgpu_type.max_instances
    if vgpu_type.slices and model.mig_slices:
        return model.mig_slices // vgpu_type.slices
    return model.framebuffer_gib * 1024 // size if size else None


def check_room(request: GpuRequest, chosen: Sequence[Chosen]) -> list[Trouble]:
    """Limits in vGPUs: each type's max_instance, the number of VFs, and in mixed-size mode the framebuffer."""
    types, slots = [one.type for one in chosen], len(slots_of(request))
    if request.spec.mixed or any(one.slices for one in types):
        return _check_shares(request, types, slots)
    most = min([limit for limit in (_most(request.gpu, one) for one in types) if limit] or [len(types)])
    if len(types) <= min(slots, most):
        return []
    name, size, why = types[0].short, types[0].framebuffer_mib, _VFS % slots
    if most <= slots:
        why = _INSTANCES % (name, most) + (": each takes %d MiB of framebuffer" % size if size else "")
    return [_too_many(request.gpu, len(types), name, min(slots, most), why)]


def _check_shares(request: GpuRequest, types: Sequence[VgpuType], slots: int) -> list[Trouble]:
    """Limits where types of different sizes share a GPU."""
    gpu, troubles = request.gpu, []
    for name in dict.fromkeys(one.short for one in types):
        same = [one for one in types if one.short == name]
        most = _most(gpu, same[0])
        if most and len(same) > most:
            troubles.append(_too_many(gpu, len(same), name, most, _INSTANCES % (name, most)))
    if len(types) > slots:
        troubles.append(_too_many(gpu, len(types), "all types", slots, _VFS % slots))
    whole = max([one.framebuffer_mib or 0 for one in gpu.types if not one.slices] or [0])
    whole = whole or (gpu.model.framebuffer_gib * 1024 if gpu.model else 0)
    asked = sum(one.framebuffer_mib or 0 for one in types)
    if request.spec.mixed and not troubles and whole and asked > whole:
        troubles.append(
            Trouble(
                "the vGPUs take %d MiB of framebuffer in all" % asked,
                device=gpu.address, wanted="at most %d MiB, the whole GPU" % whole, remedy="Take fewer or smaller vGPUs.", code="too_many",
            )
        )
    return troubles


def _too_many(gpu: Gpu, count: int, name: str, most: int, why: str) -> Trouble:
    wanted = "at most %d, because %s" % (most, why)
    return Trouble("%d vGPUs of %s are asked for" % (count, name), device=gpu.address, wanted=wanted, code="too_many")
