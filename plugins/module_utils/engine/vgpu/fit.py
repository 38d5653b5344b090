# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits a GPU: which types it offers, one size or several, how many. Pure.

planner: the GpuPlanner, of which the GPU and its types are read.
"""

from __future__ import annotations

from ..base.errors import Trouble
from ..hardware import vgpu_types
from .placement import slots_of


def _names_model(word, model):
    """Whether the first word of a type's name is that of the model; cards with MIG add letters for their form (H100XM)."""
    word, prefix = word.lower(), model.prefix.lower()
    rest = word[len(prefix):]
    return word.startswith(prefix) and (not rest or (model.mig_slices > 0 and rest.isalpha()))


def choose_types(planner, wishes, predicted):
    chosen, troubles, known = [], [], {}
    for wish in wishes:
        if wish.type not in known:
            known[wish.type] = _predict(planner, wish) if predicted else vgpu_types.find(wish.type, planner.types)
        found = known[wish.type]
        if found:
            chosen.append((wish, found))
            continue
        near = vgpu_types.nearest(wish.type, planner.types)
        series = sorted({one.series for one in planner.types if one.series})
        remedy = None
        if series and vgpu_types.series_of(wish.type) not in series + [None]:
            remedy = "This driver offers the series %s on this GPU." % ", ".join(series)
            if vgpu_types.series_of(wish.type) == "C":
                remedy += " Series C comes with NVIDIA AI Enterprise's vGPU manager."
        have = ", ".join(near) if near else ", ".join(one.short for one in planner.types)
        if predicted and planner.gpu.model:
            have = "names such as %s-4Q" % planner.gpu.model.prefix
        troubles.append(
            Trouble(
                "the type %r (%s) is not offered by this GPU (%s)" % (wish.type, wish.where, planner.gpu.name),
                device=planner.gpu.address,
                wanted=("one of: " if not near else "nearest: ") + have,
                remedy=remedy,
                code="unknown_type",
            )
        )
    return chosen, troubles


def _predict(planner, wish):
    """The type that a name means before the driver is there to list its own."""
    word = vgpu_types.gpu_word(wish.type)
    model = planner.gpu.model
    if word is None or (model and not _names_model(word, model)):
        return None
    size = vgpu_types.framebuffer_of(wish.type)
    slices = vgpu_types.slices_of(wish.type)
    most = model.framebuffer_gib * 1024 // size if model and size else None
    if model and slices:
        most = model.mig_slices // slices
    return vgpu_types.VgpuType("", vgpu_types.short_name(wish.type), size, most or None)


def check_sizes(planner, chosen, wishes):
    if wishes.mixed or wishes.needs_mig:
        return []
    sizes = {}
    for dummy, one in chosen:
        sizes.setdefault(one.framebuffer_mib, one.short)
    if len(sizes) < 2:
        return []
    return [
        Trouble(
            "vGPUs of different framebuffer sizes are asked for: %s"
            % ", ".join("%s (%s MiB)" % (sizes[size], size) for size in sorted(sizes)),
            device=planner.gpu.address,
            wanted="one framebuffer size per GPU",
            remedy="Put the sizes on different GPUs, or set mixed_sizes: true for this GPU if it supports that.",
            code="two_sizes",
        )
    ]


def _most(planner, vgpu_type):
    """How many of a type fit; by the framebuffer's size where the driver doesn't say."""
    if vgpu_type.max_instances:
        return vgpu_type.max_instances
    model = planner.gpu.model
    if not model or not vgpu_type.framebuffer_mib:
        return None
    if vgpu_type.slices and model.mig_slices:
        return model.mig_slices // vgpu_type.slices
    return model.framebuffer_gib * 1024 // vgpu_type.framebuffer_mib or None


def check_room(planner, chosen, predicted, mixed):
    """Limits in vGPUs: each type's max_instance, the number of VFs, and in mixed-size mode the framebuffer."""
    slots = len(slots_of(planner, predicted))
    if mixed or any(one.slices for dummy, one in chosen):
        return _check_shares(planner, chosen, slots, mixed)
    most = min([_most(planner, one) for dummy, one in chosen if _most(planner, one)] or [len(chosen)])
    if len(chosen) <= min(slots, most):
        return []
    name = chosen[0][1].short
    if most <= slots:
        size = chosen[0][1].framebuffer_mib
        why = "max_instance of %s is %d" % (name, most)
        if size:
            why += ": each takes %d MiB of framebuffer" % size
    else:
        why = "the GPU has %d usable VFs, one for each vGPU" % slots
    return [_too_many(planner, len(chosen), name, min(slots, most), why)]


def _check_shares(planner, chosen, slots, mixed):
    """Limits where types of different sizes share a GPU."""
    troubles, counts = [], {}
    for dummy, one in chosen:
        counts.setdefault(one.short, [one, 0])[1] += 1
    for vgpu_type, count in counts.values():
        most = _most(planner, vgpu_type)
        if most and count > most:
            troubles.append(_too_many(planner, count, vgpu_type.short, most, "max_instance of %s is %d" % (vgpu_type.short, most)))
    if len(chosen) > slots:
        troubles.append(_too_many(planner, len(chosen), "all types", slots, "the GPU has %d usable VFs, one for each vGPU" % slots))
    whole = max([one.framebuffer_mib or 0 for one in planner.types if not one.slices] or [0])
    whole = whole or (planner.gpu.model.framebuffer_gib * 1024 if planner.gpu.model else 0)
    asked = sum(one.framebuffer_mib or 0 for dummy, one in chosen)
    if mixed and not troubles and whole and asked > whole:
        troubles.append(
            Trouble(
                "the vGPUs take %d MiB of framebuffer in all" % asked,
                device=planner.gpu.address,
                wanted="at most %d MiB, the whole GPU" % whole,
                remedy="Take fewer or smaller vGPUs.",
                code="too_many",
            )
        )
    return troubles


def _too_many(planner, count, name, most, why):
    return Trouble(
        "%d vGPUs of %s are asked for" % (count, name),
        device=planner.gpu.address,
        wanted="at most %d, because %s" % (most, why),
        code="too_many",
    )
