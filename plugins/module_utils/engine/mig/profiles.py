# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of GPU instances: by name, and for a vGPU type."""

from __future__ import annotations

from typing import Collection, Sequence

from ..hardware.mig_profiles import Profile, is_profile, plain_profile
from ..hardware.vgpu_types import VgpuType

# What a type's suffix says of its GPU instance, as NVIDIA spells it in the profile's name.
_SUFFIX = {"": ("",), "ME": ("+me",), "NOME": ("-me", ""), "MEALL": ("+me.all",), "GFX": ("+gfx",)}


def predicted_profiles(needs: Collection[str]) -> list[Profile]:
    """Profiles by the names that types and users give, where no driver lists them yet; what is no profile's name is left out."""
    return [Profile(name, 0) for name in sorted(needs) if is_profile(name)]


def find_profile(word: str, profiles: Sequence[Profile]) -> Profile | None:
    """The profile that a user's word means: 1g.5gb, MIG 1g.5gb, or its number."""
    plain = plain_profile(word)
    for one in profiles:
        if plain == one.name or plain == str(one.id):
            return one
    return None


def suits(profile: Profile, vgpu_type: VgpuType) -> bool:
    """Whether a vGPU of the type can live in a GPU instance of the profile."""
    if vgpu_type.gi_profile is not None and profile.id == vgpu_type.gi_profile:
        return bool(profile.slices == vgpu_type.slices)
    if profile.slices != vgpu_type.slices or profile.gib * 1024 < (vgpu_type.framebuffer_mib or 0):
        return False
    suffixes: tuple[str, ...] = _SUFFIX.get(vgpu_type.suffix, ("",))
    if not vgpu_type.suffix and vgpu_type.series in ("Q", "B", "A"):
        suffixes = ("", "+gfx")  # graphics on MIG; [guess] the driver's own word (gi_profile) goes first
    return profile.suffix in suffixes


def profile_for(vgpu_type: VgpuType, profiles: Sequence[Profile]) -> Profile | None:
    """The smallest profile that suits a type: what the driver names, else by slices, memory and suffix. None if none."""
    suiting = [one for one in profiles if suits(one, vgpu_type)]
    named = [one for one in suiting if one.id == vgpu_type.gi_profile]
    return min(named or suiting, key=lambda one: (one.gib, len(one.suffix), one.id)) if suiting else None
