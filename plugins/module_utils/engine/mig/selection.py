# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPU instances a GPU is to have: those that the types of its vGPUs need, or those that are given. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from ..base.errors import Refusal
from ..hardware.gpu import Gpu
from ..hardware.mig_profiles import Profile
from ..hardware.vgpu_types import VgpuType
from .placement import find_profile, profile_for, suits


@dataclass(eq=False, repr=False)
class Request:
    """What is requested of one GPU. mode: True, False or None (as it is); instances: profile names, or None."""

    mode: bool | None = None
    instances: Sequence[str] | None = None


def needed(gpu: Gpu, types: Sequence[VgpuType], profiles: Sequence[Profile]) -> tuple[list[Profile], list[Refusal]]:
    """Profiles of the GPU instances that the types need (one instance for each per_gi of a type), and errors."""
    found: list[Profile] = []
    errors: list[Refusal] = []
    for name in dict.fromkeys(one.short for one in types):
        alike = [one for one in types if one.short == name]
        profile, share = profile_for(alike[0], profiles), max(alike[0].per_gi or 1, 1)
        if profile:
            found += [profile] * ((len(alike) + share - 1) // share)
            continue
        unsuited = "no GPU instance profile suits %s (%d slices, %s MiB)" % (name, alike[0].slices or 0, alike[0].framebuffer_mib)
        errors.append(Refusal(unsuited, gpu.address, "one of its profiles: %s" % _names(profiles), code="mig_no_profile"))
    return found, errors


def _names(profiles: Sequence[Profile]) -> str:
    return ", ".join(one.name for one in profiles)


def given(gpu: Gpu, words: Sequence[str], types: Sequence[VgpuType], profiles: Sequence[Profile]) -> tuple[list[Profile], list[Refusal]]:
    """The given GPU instances as profiles; errors where one is unknown, or the types don't find theirs among them."""
    found: list[Profile] = []
    errors: list[Refusal] = []
    for word in words:
        profile = find_profile(word, profiles)
        if profile:
            found.append(profile)
        else:
            unknown = "the GPU instance profile %r is not one of this GPU (%s)" % (word, gpu.name)
            errors.append(Refusal(unknown, gpu.address, "one of: %s" % _names(profiles), code="mig_no_profile"))
    if errors:
        return found, errors
    # The largest need first, each into the smallest instance that suits and has room for one more of that type, and of no other.
    rooms: list[tuple[Profile, list[str]]] = [(profile, []) for profile in sorted(found, key=lambda one: (one.slices, one.gib))]
    for vgpu_type in sorted(types, key=lambda one: -(one.framebuffer_mib or 0)):
        name, share = vgpu_type.short, max(vgpu_type.per_gi or 1, 1)
        free = [inside for profile, inside in rooms if suits(profile, vgpu_type) and len(inside) < share and set(inside) <= {name}]
        if free:
            free[0].append(name)
            continue
        none_left = "none of the given GPU instances (%s) is left for %s" % (_names(found) or "none", name)
        suiting = profile_for(vgpu_type, profiles)
        such = suiting.name if suiting else "none of this GPU's"
        expected = "one of %d slices and at least %s MiB for each, such as %s" % (vgpu_type.slices or 0, vgpu_type.framebuffer_mib, such)
        remedy = "Add it to 'mig', or leave 'mig' out: then the GPU instances follow from the types."
        errors.append(Refusal(none_left, gpu.address, expected, remedy, "gpu_instance_too_small"))
    return found, errors
