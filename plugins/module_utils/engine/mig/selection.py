# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selects the GPU instances that a GPU's vGPUs require or that the user lists. This module does not access the host.

A GPU instance can have as many vGPUs as fit into its memory. The vGPUs must have the same framebuffer size, but can belong to different series.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Optional, Sequence, Tuple

from ..base.errors import Refusal
from ..hardware.gpu import Gpu, Vgpu
from ..hardware.mig_profiles import Profile
from ..hardware.vgpu_types import VgpuType
from .placement import find_profile, profile_for, suits

# A Tenant is a desired vGPU, with the vGPU type and, if already created, the vGPU.
Tenant = Tuple[VgpuType, Optional[Vgpu]]


@dataclass(eq=False, repr=False)
class Request:
    """The MIG request for one GPU.

    Attributes:
        mode: Whether MIG mode should be enabled, or None to keep the current mode.
        instances: The profile names of the requested GPU instances, or None to keep the current GPU instances.
    """

    mode: bool | None = None
    instances: Sequence[str] | None = None


@dataclass(eq=False, repr=False)
class Group:
    """A group of vGPUs that have the same framebuffer size and use GPU instances with the same profile.

    Attributes:
        size: The framebuffer size of each vGPU in MiB.
        share: The number of vGPUs that fit into one GPU instance.
        names: The vGPU type names in the group.
        living: The number of existing vGPUs in each GPU instance, keyed by GPU instance ID.
        unknown: The number of existing vGPUs whose GPU instance the driver does not report.
        coming: The number of vGPUs to create.
    """

    profile: Profile
    size: int
    share: int
    names: list[str] = field(default_factory=list)
    living: Counter[int] = field(default_factory=Counter)
    unknown: int = 0
    coming: int = 0

    @property
    def _spare(self) -> int:
        return sum(max(self.share - count, 0) for count in self.living.values())

    @property
    def least(self) -> int:
        """The minimum number of additional GPU instances occupied by vGPUs in unknown GPU instances."""
        return _ceil(self.unknown - self._spare, self.share)

    def instances(self, spread: int) -> tuple[int, int]:
        """Returns the number of GPU instances that the group needs, and the number of needed GPU instances without a vGPU in the group.

        Args:
            spread: The number of GPU instances over which the group's vGPUs in unknown GPU instances are spread, if possible.
        """
        spread = max(self.least, min(self.unknown, spread))
        room = self._spare + spread * self.share - self.unknown
        new = _ceil(self.coming - room, self.share)
        return len(self.living) + spread + new, new

    def __str__(self) -> str:
        return "%s (%d MiB)" % (" and ".join(self.names), self.size)


@dataclass(eq=False, repr=False)
class Selected:
    """The GPU instances selected for a GPU.

    Attributes:
        certain: Whether the selection must have room for every possible distribution of vGPUs in unknown GPU instances. If false, the selection only
            has room for the minimum number of GPU instances.
        profiles: The profiles of all GPU instances that the GPU should have.
        doubts: Problems that are based only on type and profile names.
        first: The number of vGPUs to create before all others, keyed by slices and framebuffer size: one for each GPU instance without a vGPU of the
            given size. In this order, all vGPUs fit, regardless of whether the driver fills GPU instances one by one or spreads vGPUs evenly.
    """

    certain: bool = True
    profiles: list[Profile] = field(default_factory=list)
    doubts: list[Refusal] = field(default_factory=list)
    first: dict[tuple[int, int], int] = field(default_factory=dict)


def _ceil(count: int, share: int) -> int:
    return (max(count, 0) + share - 1) // share


def _groups(gpu: Gpu, tenants: Sequence[Tenant], profiles: Sequence[Profile], given: Sequence[Profile] | None = None) -> tuple[list[Group], list[VgpuType]]:
    """Returns the groups of vGPUs, largest profiles first, and the types for which no profile is suitable."""
    found: dict[tuple[str, int], Group] = {}
    unsuited: dict[str, VgpuType] = {}
    suiting: dict[str, Profile | None] = {}
    there = [one.id for one in gpu.mig.instances] if gpu.mig else []
    for vgpu_type, vgpu in tenants:
        name, size = vgpu_type.short, vgpu_type.framebuffer_mib or 0
        if name not in suiting:
            suiting[name] = profile_for(vgpu_type, profiles, given) or _large_enough(vgpu_type, given or ())
        profile = suiting[name]
        if profile is None:
            unsuited[name] = vgpu_type
            continue
        share = max(vgpu_type.per_gi or profile.gib * 1024 // max(size, 1), 1)
        group = found.setdefault((profile.name, size), Group(profile, size, share))
        group.share = min(group.share, share)
        if name not in group.names:
            group.names.append(name)
        if vgpu is None:
            group.coming += 1
        elif vgpu.gi in there:
            group.living[vgpu.gi] += 1
        else:
            group.unknown += 1
    return sorted(found.values(), key=lambda one: (-one.profile.slices, -one.profile.gib, -one.size)), list(unsuited.values())


def _large_enough(vgpu_type: VgpuType, given: Sequence[Profile]) -> Profile | None:
    """Returns the smallest suitable profile if the driver does not report the profile for a type, or None.

    The suffix in the type name is ignored, because the meaning of the suffix is a guess.
    """
    found = [one for one in given if one.slices == vgpu_type.slices and one.gib * 1024 >= (vgpu_type.framebuffer_mib or 0)]
    return min(found, key=lambda one: (one.gib, one.name)) if found and vgpu_type.gi_profile is None else None


def _counts(gpu: Gpu, groups: Sequence[Group], selected: Selected) -> list[tuple[Group, int]]:
    """Returns the number of GPU instances that each group of vGPUs needs, and sets selected.first.

    If vGPUs are created and several framebuffer sizes share a profile, the result assumes the worst distribution of vGPUs whose GPU instance is unknown.
    """
    held = {instance for group in groups for instance in group.living}
    found = []
    for group in groups:
        alike = [one for one in groups if one.profile.name == group.profile.name]
        free = 0
        if selected.certain and len(alike) > 1 and any(one.coming for one in alike):
            free = sum(one.profile == group.profile.name and one.id not in held for one in (gpu.mig.instances if gpu.mig else ()))
        alone = free - sum(one.least for one in alike if one is not group)
        selected.first[group.profile.slices, group.size] = group.instances(alone)[1]
        found.append((group, group.instances(_worst(alike, free)[alike.index(group)])[0]))
    return found


def _worst(groups: Sequence[Group], free: int) -> Sequence[int]:
    """Returns, for each group, the number of GPU instances that vGPUs in unknown GPU instances occupy in the worst case.

    Args:
        free: The number of GPU instances that may contain vGPUs in unknown GPU instances.
    """
    most = max(free, sum(one.least for one in groups))
    ways = itertools.product(*(range(one.least, max(one.least, min(one.unknown, free)) + 1) for one in groups))
    return max((way for way in ways if sum(way) <= most), key=lambda way: sum(one.instances(spread)[0] for one, spread in zip(groups, way)))


def needed(gpu: Gpu, tenants: Sequence[Tenant], profiles: Sequence[Profile], certain: bool = True) -> tuple[Selected, list[Refusal]]:
    """Returns the GPU instances that the vGPUs need, including GPU instances already in use, and the errors.

    Args:
        certain: The value for Selected.certain.
    """
    groups, unsuited = _groups(gpu, tenants, profiles)
    own = {one.id: find_profile(one.profile, profiles) for one in gpu.mig.instances} if gpu.mig else {}
    found = Selected(certain)
    for group, count in _counts(gpu, groups, found):
        found.profiles += [own.get(instance) or group.profile for instance in group.living] + [group.profile] * (count - len(group.living))
    errors = []
    for one in unsuited:
        wrong = "no GPU instance profile fits %s (%d slices, %s MiB)" % (one.short, one.slices or 0, one.framebuffer_mib)
        errors.append(Refusal(wrong, gpu.address, "a type that fits one of the GPU's profiles: %s" % _names(profiles), code="mig_no_profile"))
    return found, errors


def _names(profiles: Sequence[Profile]) -> str:
    return ", ".join(one.name for one in profiles)


def given(
    gpu: Gpu, words: Sequence[str], tenants: Sequence[Tenant], profiles: Sequence[Profile], certain: bool = True
) -> tuple[Selected, list[Refusal]]:
    """Returns the GPU instances that the user lists, and errors for unknown profiles and for vGPUs that fit no GPU instance.

    Args:
        words: The profile names or numbers that the user lists.
        certain: The value for Selected.certain.
    """
    found = Selected(certain)
    errors: list[Refusal] = []
    for word in words:
        profile = find_profile(word, profiles)
        if profile:
            found.profiles.append(profile)
        else:
            unknown = "this GPU (%s) does not have the GPU instance profile %r" % (gpu.name, word)
            errors.append(Refusal(unknown, gpu.address, "one of: %s" % _names(profiles), code="mig_no_profile"))
    return found, errors or _check_given(gpu, found, tenants, profiles)


def _check_given(gpu: Gpu, selected: Selected, tenants: Sequence[Tenant], profiles: Sequence[Profile]) -> list[Refusal]:
    """Returns an error for each group of vGPUs that does not fit into the listed GPU instances.

    The check assigns the largest vGPUs first, and uses the smallest suitable GPU instance for each vGPU.
    """
    found = selected.profiles
    groups, unsuited = _groups(gpu, tenants, profiles, found)
    errors = [_none_left(gpu, found, one, profiles) for one in unsuited]
    left = sorted(found, key=lambda one: (one.slices, one.gib))
    by_name = {vgpu_type.short: vgpu_type for vgpu_type, dummy in tenants}
    for group, count in _counts(gpu, groups, selected):
        vgpu_type = by_name[group.names[0]]
        if not suits(group.profile, vgpu_type, profiles):
            selected.doubts.append(_none_left(gpu, found, vgpu_type, profiles, group.share))
        mine = [one for one in left if one.name == group.profile.name or suits(one, vgpu_type, profiles)][:count]
        for one in mine:
            left.remove(one)
        others = [one for one in groups if one.profile.name == group.profile.name]
        if len(mine) < count and len(others) > 1:
            wrong = "the listed GPU instances (%s) are too few for vGPUs of different framebuffer sizes: %s" % (_names(found), ", ".join(map(str, others)))
            expected = "%s GPU instances, each for at most %d of the vGPUs %s, because all vGPUs in a GPU instance have the same framebuffer size" % (
                group.profile.name, group.share, " and ".join(group.names),
            )
            errors.append(Refusal(wrong, gpu.address, expected, _ADD, "mixed_framebuffer_sizes"))
        elif len(mine) < count:
            errors.append(_none_left(gpu, found, vgpu_type, profiles, group.share))
    return errors


_ADD = "Add such a GPU instance to 'mig', or remove 'mig' to derive the GPU instances from the types."


def _none_left(gpu: Gpu, found: Sequence[Profile], vgpu_type: VgpuType, profiles: Sequence[Profile], share: int = 1) -> Refusal:
    none_left = "none of the listed GPU instances (%s) is available for %s" % (_names(found) or "none", vgpu_type.short)
    suiting = profile_for(vgpu_type, profiles)
    such = suiting.name if suiting else "none on this GPU"
    each = "each" if share == 1 else "every %d" % share
    expected = "a %d-slice GPU instance with at least %s MiB for %s of the vGPUs; smallest matching profile: %s" % (
        vgpu_type.slices or 0, vgpu_type.framebuffer_mib, each, such,
    )
    return Refusal(none_left, gpu.address, expected, _ADD, "gpu_instance_too_small")
