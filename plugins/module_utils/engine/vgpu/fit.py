# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks which vGPUs fit on a GPU: offered types, framebuffer sizes, and counts. This module does not access the host."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Sequence

from ..base.errors import Refusal, estimate
from ..hardware import address, vgpu_types
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import VgpuType
from ..mig.placement import SUFFIXES, profile_for
from . import layout
from .layout import VgpuSpec
from .target import GpuRequest, Slot


@dataclass(eq=False, repr=False)
class Chosen:
    """A requested vGPU and its vGPU type."""

    spec: VgpuSpec
    type: VgpuType


def slots_of(request: GpuRequest) -> list[Slot]:
    """Returns all slots on a GPU in the order in which the planner fills the slots."""
    gpu = request.gpu
    if request.predicted and gpu.sriov:
        return [Slot(address.vf_address(gpu.address, gpu.vf_offset, gpu.vf_stride, number), number) for number in range(gpu.total_vfs)]
    if gpu.sriov:
        return [Slot(vf.address, vf.index) for vf in gpu.vfs if vf.offers_types]
    most = [one.max_instances or 0 for one in gpu.types]
    return [Slot(gpu.address, number) for number in range(min(max(most), layout.MOST) if most and all(most) else layout.MOST)]


def choose_types(request: GpuRequest) -> tuple[list[Chosen], list[Refusal]]:
    """Returns each requested vGPU's type, and errors for unknown types and unsupported UUIDs."""
    chosen, errors = [], []
    known: dict[str, VgpuType | None] = {}
    for spec in request.spec.vgpus:
        if spec.type not in known:
            known[spec.type] = _predict(request.gpu, spec.type) if request.predicted else _offered(request.gpu, spec.type)
        found = known[spec.type]
        if spec.uuid and not request.uuids and not request.predicted:
            errors.append(Refusal(
                "a UUID is set (%s), but vGPUs on this host have no UUIDs, because each VF becomes a vGPU" % spec.uuid,
                device=spec.where or request.gpu.address, expected="a vGPU without a UUID",
                remedy="Remove uuid. A VM uses the vGPU through the PCI address of the VF.", code="uuid_not_here",
            ))
        if not found:
            errors.append(_unknown_type(request, spec))
            continue
        chosen.append(Chosen(spec, found))
    return chosen, errors


def _unknown_type(request: GpuRequest, spec: VgpuSpec) -> Refusal:
    gpu = request.gpu
    if gpu.types_silence:
        return Refusal(
            "whether this GPU offers the type %r (%s) is unknown, because the VFs list only types that can currently be created, and %s" % (
                spec.type, spec.where, gpu.types_silence,
            ),
            device=gpu.address, expected="the type in the output of 'nvidia-smi vgpu -s -v'", code="types_unknown",
            remedy="Run this command manually, and find the cause of its failure in the NVRM and Xid lines in dmesg.",
        )
    near = vgpu_types.nearest(spec.type, gpu.types)
    series = sorted({one.series for one in gpu.types if one.series})
    asked = vgpu_types.series_of(spec.type)
    remedy = None
    if series and asked and asked not in series:
        remedy = "On this GPU, the driver offers the series %s." % ", ".join(series)
        if asked == "C":
            remedy += " Series C requires NVIDIA AI Enterprise's vGPU manager."
    have = ", ".join(near or [one.short for one in gpu.types])
    if request.predicted and gpu.model:
        have = "names such as %s-4Q" % gpu.model.prefix
    return Refusal(
        "this GPU does not offer the type %r (%s; GPU: %s)" % (spec.type, spec.where, gpu.name),
        device=gpu.address, expected=("one of: " if not near else "nearest: ") + have, remedy=remedy, code="unknown_type",
    )


def _offered(gpu: Gpu, name: str) -> VgpuType | None:
    """Returns the driver's type with the given name, or None. NVIDIA's vGPU Device Manager adds GPU instance suffixes to some names."""
    found, suffix = vgpu_types.find(name, gpu.types), VgpuType("", name).suffix
    if found or not suffix or not gpu.mig:
        return found
    plain = vgpu_types.find(vgpu_types.short_name(name)[: -len(suffix)], gpu.types)
    profile = profile_for(plain, gpu.mig.profiles) if plain else None
    return plain if profile and profile.suffix == SUFFIXES[suffix][0] else None


def _predict(gpu: Gpu, name: str) -> VgpuType | None:
    """Returns the predicted type with the given name before the driver lists types.

    The GFX suffix is removed if the GPU has graphics-enabled GPU instances (+gfx).
    """
    found = vgpu_types.predicted(name)
    if found and found.suffix == "GFX" and gpu.model and any(one.suffix == "+gfx" for one in gpu.model.profiles):
        return vgpu_types.predicted(found.short[: -len(found.suffix)])
    return found


@dataclass(eq=False, repr=False)
class _Limit:
    """A limit on the number of vGPUs, for one type or all types.

    ``count`` is the requested number, ``most`` is the limit, and ``cause`` is the reason for the limit.
    ``estimate`` is true if the limit comes only from the collection's tables.
    """

    count: int
    name: str
    most: int | None
    cause: str
    estimate: bool = False


def _limit_of(gpu: Gpu, vgpu_type: VgpuType) -> tuple[int | None, bool]:
    """Returns the maximum number of vGPUs of a type (None if unknown), and whether the number is an estimate.

    An estimate is based on the framebuffer size. All other numbers come from the driver.
    """
    if vgpu_type.max_instances or not gpu.model or vgpu_type.slices:
        return vgpu_type.max_instances or None, False
    return gpu.model.most(vgpu_type), True


def _limits(request: GpuRequest, types: Sequence[VgpuType]) -> list[_Limit]:
    slots, limits = len(slots_of(request)), []
    vfs = "the GPU has %d usable VFs, one for each vGPU" % slots
    most = {one.short: _limit_of(request.gpu, one) for one in types}
    if request.spec.mixed or any(one.slices for one in types):
        counts = Counter(one.short for one in types)
        for name, (limit, guessed) in most.items():
            limits.append(_Limit(counts[name], name, limit, "max_instance of %s is %s" % (name, limit), guessed))
        limits.append(_Limit(len(types), "all types", slots, vfs))
    elif types:
        name, size = " and ".join(dict.fromkeys(one.short for one in types)), types[0].framebuffer_mib
        limits.append(_Limit(len(types), name, slots, vfs))
        least = min([(limit, short, guessed) for short, (limit, guessed) in most.items() if limit], default=None)
        if least and least[0] <= slots:
            limit, short, guessed = least
            cause = "max_instance of %s is %d" % (short, limit) + (", and each vGPU uses %d MiB of framebuffer" % size if size else "")
            limits[0] = _Limit(len(types), name, limit, cause, guessed)
            limits += [_Limit(len(types), name, slots, vfs)] if guessed else []
    return limits


def check_room(request: GpuRequest, chosen: Sequence[Chosen]) -> tuple[list[Refusal], list[str]]:
    """Checks the vGPU limits: one framebuffer size, each type's max_instance, the number of VFs, and the framebuffer in mixed-size mode.

    Returns errors, and warnings for limits that come only from the collection's tables.
    """
    gpu, types = request.gpu, [one.type for one in chosen]
    sizes = {one.framebuffer_mib: one.short for one in reversed(types) if one.framebuffer_mib}  # a type that is only known by number has no size
    if len(sizes) > 1 and not request.spec.mixed and not request.spec.needs_mig:
        return [Refusal(
            "vGPUs of different framebuffer sizes are requested: %s" % ", ".join("%s (%s MiB)" % (sizes[size], size) for size in sorted(sizes)),
            device=gpu.address, expected="one framebuffer size per GPU", code="two_sizes",
            remedy="Use a separate GPU for each size. Alternatively, if this GPU supports mixed sizes, set mixed_sizes: true for this GPU.",
        )], []
    found = [
        (Refusal("%d vGPUs of %s are requested" % (one.count, one.name), gpu.address, "at most %d, because %s" % (one.most, one.cause), code="too_many"),
         one.estimate)
        for one in _limits(request, types) if one.most is not None and one.count > one.most
    ]
    listed = max([one.framebuffer_mib or 0 for one in gpu.types if not one.slices] or [0])
    whole = listed or (gpu.model.framebuffer_gib * 1024 if gpu.model else 0)
    asked = sum(one.framebuffer_mib or 0 for one in types)
    if request.spec.mixed and not found and whole and asked > whole:
        words, expected = "the vGPUs use %d MiB of framebuffer in total" % asked, "at most %d MiB, which is the framebuffer of the whole GPU" % whole
        found.append((Refusal(words, gpu.address, expected, "Use fewer or smaller vGPUs.", "too_many"), not listed))
    return [one for one, guessed in found if not guessed], [estimate(one) for one, guessed in found if guessed]
