# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans which GPU instances a GPU keeps and gets, and their placements; finds profiles by name and by vGPU type.

The model of placements follows NVIDIA's lists of placements: an instance of m memory slices starts at a multiple of m,
and its compute slices end within the GPU's.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Collection, Iterator, Sequence

from ..base.errors import Refusal
from ..base.steps import Step
from ..hardware.catalog import Model
from ..hardware.gpu import Gpu, GpuInstance, Vgpu
from ..hardware.mig_profiles import Profile, is_profile, plain_profile
from ..hardware.vgpu_types import VgpuType

# The suffix of the GPU instance profile for each suffix of a type.
SUFFIXES = {"": ("",), "ME": ("+me",), "NOME": ("-me", ""), "MEALL": ("+me.all",), "GFX": ("+gfx",)}


def predicted_profiles(model: Model | None, words: Collection[str], types: Collection[VgpuType] = ()) -> list[Profile]:
    """The profiles before a driver lists them: those of the model in the table, and others from the names of the user and the types."""
    found = list(model.profiles) if model else []
    names = {plain_profile(word) for word in words}
    names |= {"%dg.%dgb" % (one.slices or 0, (one.framebuffer_mib or 1024) // 1024) for one in types if not profile_for(one, found)}
    return found + [Profile(name, -1) for name in sorted(names - {one.name for one in found}) if is_profile(name)]


def find_profile(word: str, profiles: Sequence[Profile]) -> Profile | None:
    """The profile for a user's word: 1g.5gb, MIG 1g.5gb, or its number."""
    plain = plain_profile(word)
    return next((one for one in profiles if plain in (one.name, str(one.id))), None)


def suits(profile: Profile, vgpu_type: VgpuType, profiles: Sequence[Profile]) -> bool:
    """Whether a GPU instance of the profile can have a vGPU of the type. profiles: all of the GPU."""
    alike = [one for one in profiles if one.slices == vgpu_type.slices]
    if vgpu_type.gi_profile is not None and any(one.id == vgpu_type.gi_profile for one in alike):
        return profile.slices == vgpu_type.slices and profile.id == vgpu_type.gi_profile  # as the driver reports
    if profile.slices != vgpu_type.slices or profile.gib * 1024 < (vgpu_type.framebuffer_mib or 0):
        return False
    # [guess] If a GPU has profiles with graphics, all types require one of them, even compute types.
    suffix = "GFX" if not vgpu_type.suffix and any(one.suffix == "+gfx" for one in alike) else vgpu_type.suffix
    return profile.suffix in SUFFIXES.get(suffix, ("",))


def profile_for(vgpu_type: VgpuType, profiles: Sequence[Profile], given: Sequence[Profile] | None = None) -> Profile | None:
    """The smallest MIG profile for a vGPU type: as the driver reports it, otherwise matched by slices, memory and suffix. None if there is none.

    profiles: all of the GPU; given: those to choose from.
    """
    suiting = [one for one in (profiles if given is None else given) if suits(one, vgpu_type, profiles)]
    return min(suiting, key=lambda one: (one.gib, len(one.suffix), one.id)) if suiting else None


def _memory_slices(profile: Profile, profiles: Sequence[Profile]) -> int:
    """The number of memory slices of each profile: a power of two, as with all of NVIDIA's profiles."""
    ratio = (profile.memory or profile.gib) / max(min([one.memory or one.gib for one in profiles] or [1]), 1)
    size = 1
    while size < ratio * 0.85:
        size *= 2
    return size


def starts_of(new: Sequence[tuple[Sequence[int], int]], taken: set[int], greedy: bool = False) -> list[int] | None:
    """A start for each new (possible starts, size), so that no slots overlap; None if this is impossible.

    greedy: each takes the first free start, even if this blocks later ones.
    """
    if not new:
        return []
    starts, size = new[0]
    for start in starts:
        slots = set(range(start, start + size))
        if not slots & taken:
            others = starts_of(new[1:], taken | slots, greedy)
            if others is not None or greedy:
                return None if others is None else [start, *others]
    return None


def fits(profiles: Sequence[Profile], occupied: Sequence[tuple[int, int, int]], new: Sequence[Profile]) -> bool:
    """Whether GPU instances of the new profiles fit next to the occupied (start, size, compute slices). profiles: all of the GPU."""
    compute = max([one.slices for one in profiles] or [0])
    memory = 1
    while memory < compute:
        memory *= 2
    todo = sorted(((_memory_slices(one, profiles), one.slices) for one in new), reverse=True)
    if sum(need for dummy, need in todo) + sum(need for dummy, dummy2, need in occupied) > compute:
        return False
    taken = {slot for start, size, dummy in occupied for slot in range(start, start + size)}
    new_starts = [([start for start in range(0, memory - size + 1, size) if start + need <= compute], size) for size, need in todo]
    return starts_of(new_starts, taken) is not None


@dataclass(eq=False, repr=False)
class Instances:
    """The planned GPU instances of a GPU."""

    create: list[Profile] = field(default_factory=list)
    destroy: list[GpuInstance] = field(default_factory=list)
    without_compute: list[GpuInstance] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def after(self, gpu: Gpu) -> list[str]:
        """The names of the profiles that the GPU will have, sorted."""
        present = gpu.mig.instances if gpu.mig and gpu.mig.current else []
        return sorted([one.profile for one in present if one not in self.destroy] + [one.name for one in self.create])


@dataclass(eq=False, repr=False)
class InstanceRequest:
    """The GPU instances that a GPU should have, as profiles.

    staying: vGPUs that stay, with their types. profiles: all of the GPU. predicted: MIG mode and all instances are enabled or created later.
    """

    desired: Sequence[Profile]
    staying: Sequence[tuple[Vgpu, VgpuType | None]]
    profiles: Sequence[Profile]
    predicted: bool = False

    @property
    def held(self) -> dict[int, Vgpu]:
        """The vGPUs that stay, by their GPU instance."""
        return {vgpu.gi: vgpu for vgpu, dummy in self.staying if vgpu.gi is not None}


def plan_instances(gpu: Gpu, request: InstanceRequest) -> tuple[Instances, list[Refusal]]:
    """The planned GPU instances, and errors.

    Matching instances are kept. If the others do not fit then, as few instances without a vGPU as possible are recreated at other placements.
    """
    existing = [] if request.predicted or not gpu.mig else list(gpu.mig.instances)
    plans = (_plan_instances(gpu, request, existing, kept) for kept in _keepable(existing, request))
    result, errors = next(plans)
    if any(one.code == "mig_no_room" for one in errors):
        return next(((again, wrong) for again, wrong in plans if not wrong), (result, errors))
    return result, errors


def _keepable(existing: Sequence[GpuInstance], request: InstanceRequest) -> Iterator[list[GpuInstance]]:
    """The sets of matching instances without a vGPU that may be kept, the largest sets first."""
    held = request.held
    free = Counter(one.name for one in request.desired)
    free.subtract(one.profile for one in existing if one.id in held)
    loose = sorted((one for one in existing if one.id not in held and free[one.profile] > 0), key=lambda one: one.id)
    for number in range(len(loose), -1, -1):
        for some in itertools.combinations(loose, number):
            if all(count <= free[name] for name, count in Counter(one.profile for one in some).items()):
                yield list(some)


def _plan_instances(
    gpu: Gpu, request: InstanceRequest, existing: Sequence[GpuInstance], kept: Sequence[GpuInstance]
) -> tuple[Instances, list[Refusal]]:
    """As plan_instances. kept: the existing instances without a vGPU that are kept."""
    result, held = Instances(), request.held
    left = sorted(existing, key=lambda one: (one.id not in held, one.id))
    for profile in request.desired:
        match = next((one for one in left if one.profile == profile.name and (one.id in held or one in kept)), None)
        if match is None:
            result.create.append(profile)
            continue
        left.remove(match)
        if not match.compute:
            result.without_compute.append(match)
    errors = _plan_surplus(result, gpu, request, left)
    result.create.sort(key=lambda one: (-one.slices, -one.gib, one.name))
    return result, errors + _check_room(gpu, result.create, [one for one in existing if one not in result.destroy], request.profiles)


def _plan_surplus(result: Instances, gpu: Gpu, request: InstanceRequest, left: Sequence[GpuInstance]) -> list[Refusal]:
    """Destroys the remaining instances, unless they have or may have a vGPU."""
    held, unknown = request.held, [vgpu_type for vgpu, vgpu_type in request.staying if vgpu.gi is None]
    errors = []
    for instance in left:
        name, vgpu, profile = instance.profile, held.get(instance.id), find_profile(instance.profile, request.profiles)
        if vgpu:
            found = "the GPU instance %d (%s) has the vGPU %s (%s), but is not among the expected ones" % (instance.id, name, vgpu.key, vgpu.type)
            remedy = "Add %s to 'mig' of this GPU, or remove the vGPU." % name
            errors.append(Refusal(found, gpu.address, "GPU instances for the vGPUs that stay", remedy, "gpu_instance_in_use"))
        elif any(one is None or profile and suits(profile, one, request.profiles) for one in unknown):
            text = "%s: the GPU instance %d (%s) is not expected but stays: the driver does not report whether it has a vGPU"
            result.warnings.append(text % (gpu.address, instance.id, name))
        else:
            result.destroy.append(instance)
    return errors


def _check_room(gpu: Gpu, create: Sequence[Profile], stay: Sequence[GpuInstance], profiles: Sequence[Profile]) -> list[Refusal]:
    """Adds errors if the new instances do not fit next to those that stay."""
    remedy = "Use fewer or smaller types, or another GPU."
    counts = Counter([one.name for one in create] + [one.profile for one in stay])
    errors = [
        Refusal("%d GPU instances %s are requested" % (counts[name], name), gpu.address, "at most %d of that profile" % most, remedy, "mig_no_room")
        for name, most in {one.name: one.total for one in create}.items() if most and counts[name] > most
    ]
    occupied = [_placement_of(one, profiles) for one in stay if one.start is not None]
    if errors or not create or fits(profiles, occupied, create):
        return errors
    whole = max(profiles, key=lambda one: (one.slices, one.gib))
    beside = " beside %s" % ", ".join("%s (instance %d)" % (one.profile, one.id) for one in stay) if stay else " on this GPU (%s)" % gpu.name
    found = "the GPU instances %s do not fit%s" % (", ".join(one.name for one in create), beside)
    expected = "at most %d slices in all (the whole GPU is %s), with larger instances at their own placements" % (whole.slices, whole.name)
    return [Refusal(found, gpu.address, expected, remedy, "mig_no_room")]


def _placement_of(instance: GpuInstance, profiles: Sequence[Profile]) -> tuple[int, int, int]:
    """(start, size, compute slices) in the units of fits(). The driver's own units are smaller on some GPUs."""
    profile, start, own = find_profile(instance.profile, profiles), instance.start or 0, instance.size or 1
    if not profile:
        return start, own, own
    size = _memory_slices(profile, profiles) if instance.size else own
    return start * size // own, size, profile.slices


def steps(gpu: Gpu, instances: Instances) -> list[Step]:
    """The steps for a GPU's Instances, in order: destroy, complete, create (larger ones first)."""
    pf, found = gpu.address, []
    for one in instances.destroy:
        found.append(Step("mig_destroy", pf, pf, "destroy the GPU instance %d (%s)" % (one.id, one.profile), instance=one.id))
    for one in instances.without_compute:
        found.append(Step("mig_compute", pf, pf, "create the compute instance of GPU instance %d (%s)" % (one.id, one.profile), instance=one.id))
    names = [one.name for one in instances.create]
    if names:
        found.append(Step("mig_create", pf, pf, "create the GPU instances %s" % ", ".join(names), names=names))
    return found
