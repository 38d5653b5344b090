# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the GPU instances to keep, create, and destroy, and finds profiles by name and by vGPU type. This module does not access the host.

The placement rules follow NVIDIA's placement lists. A GPU instance with m memory slices starts at a multiple of m. A GPU instance's compute slices,
counted from the instance's start, do not exceed the GPU's compute slices.
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

# The possible suffixes of a GPU instance profile, keyed by vGPU type suffix.
SUFFIXES = {"": ("",), "ME": ("+me",), "NOME": ("-me", ""), "MEALL": ("+me.all",), "GFX": ("+gfx",)}


def predicted_profiles(model: Model | None, words: Collection[str], types: Collection[VgpuType] = ()) -> list[Profile]:
    """Returns a GPU's probable profiles before the driver lists profiles.

    The sources are the catalog's profiles for the GPU model, the profiles that the user requests, and the names of the requested vGPU types.

    Args:
        words: The profile names that the user requests.
        types: The vGPU types that the user requests.
    """
    found = list(model.profiles) if model else []
    names = {plain_profile(word) for word in words}
    names |= {"%dg.%dgb" % (one.slices or 0, (one.framebuffer_mib or 1024) // 1024) for one in types if not profile_for(one, found)}
    return found + [Profile(name, -1) for name in sorted(names - {one.name for one in found}) if is_profile(name)]


def find_profile(word: str, profiles: Sequence[Profile]) -> Profile | None:
    """Returns the profile with the requested name (1g.5gb or MIG 1g.5gb) or number, or None if no profile matches."""
    plain = plain_profile(word)
    return next((one for one in profiles if plain in (one.name, str(one.id))), None)


def suits(profile: Profile, vgpu_type: VgpuType, profiles: Sequence[Profile]) -> bool:
    """Returns whether a GPU instance with the given profile can host a vGPU of the given type.

    Args:
        profiles: All profiles of the GPU.
    """
    alike = [one for one in profiles if one.slices == vgpu_type.slices]
    if vgpu_type.gi_profile is not None and any(one.id == vgpu_type.gi_profile for one in alike):
        return profile.slices == vgpu_type.slices and profile.id == vgpu_type.gi_profile  # the driver reports the required profile
    if profile.slices != vgpu_type.slices or profile.gib * 1024 < (vgpu_type.framebuffer_mib or 0):
        return False
    # [guess] If a GPU has graphics-enabled profiles, all types require a graphics-enabled profile, including compute types.
    suffix = "GFX" if not vgpu_type.suffix and any(one.suffix == "+gfx" for one in alike) else vgpu_type.suffix
    return profile.suffix in SUFFIXES.get(suffix, ("",))


def profile_for(vgpu_type: VgpuType, profiles: Sequence[Profile], given: Sequence[Profile] | None = None) -> Profile | None:
    """Returns the smallest GPU instance profile for a vGPU type, or None if no profile is suitable.

    A required profile that the driver reports takes precedence. Otherwise, slices, memory, and suffix must match.

    Args:
        profiles: All profiles of the GPU.
        given: The profiles to select from, or None to select from all profiles of the GPU.
    """
    suiting = [one for one in (profiles if given is None else given) if suits(one, vgpu_type, profiles)]
    return min(suiting, key=lambda one: (one.gib, len(one.suffix), one.id)) if suiting else None


def _memory_slices(profile: Profile, profiles: Sequence[Profile]) -> int:
    """Returns the number of memory slices in a profile, which is a power of two for all NVIDIA profiles.

    Args:
        profiles: All profiles of the GPU.
    """
    ratio = (profile.memory or profile.gib) / max(min([one.memory or one.gib for one in profiles] or [1]), 1)
    size = 1
    while size < ratio * 0.85:
        size *= 2
    return size


def starts_of(new: Sequence[tuple[Sequence[int], int]], taken: set[int], greedy: bool = False) -> list[int] | None:
    """Returns a start for each new GPU instance without overlapping memory slices, or None if the instances do not fit.

    Args:
        new: The possible starts and the size for each new GPU instance.
        taken: The occupied memory slices.
        greedy: Whether each GPU instance uses the first free start, even if the start blocks later GPU instances.
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
    """Returns whether GPU instances with the new profiles fit next to the existing GPU instances.

    Args:
        profiles: All profiles of the GPU.
        occupied: The start, size, and number of compute slices for each existing GPU instance.
        new: The profiles of the new GPU instances.
    """
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
    """The GPU instances planned for a GPU."""

    create: list[Profile] = field(default_factory=list)
    destroy: list[GpuInstance] = field(default_factory=list)
    without_compute: list[GpuInstance] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def after(self, gpu: Gpu) -> list[str]:
        """Returns the sorted profile names of all GPU instances that the GPU has after the plan is applied."""
        present = gpu.mig.instances if gpu.mig and gpu.mig.current else []
        return sorted([one.profile for one in present if one not in self.destroy] + [one.name for one in self.create])


@dataclass(eq=False, repr=False)
class InstanceRequest:
    """The GPU instances requested for a GPU.

    Attributes:
        desired: The profiles of all GPU instances that the GPU should have.
        staying: The remaining vGPUs, with their types.
        profiles: All profiles of the GPU.
        predicted: Whether MIG mode is enabled later in the run. If true, the GPU has no GPU instances yet.
    """

    desired: Sequence[Profile]
    staying: Sequence[tuple[Vgpu, VgpuType | None]]
    profiles: Sequence[Profile]
    predicted: bool = False

    @property
    def held(self) -> dict[int, Vgpu]:
        """The remaining vGPUs, keyed by GPU instance ID."""
        return {vgpu.gi: vgpu for vgpu, dummy in self.staying if vgpu.gi is not None}


def plan_instances(gpu: Gpu, request: InstanceRequest) -> tuple[Instances, list[Refusal]]:
    """Returns the planned GPU instances and the errors for a GPU.

    Existing GPU instances that match the request are kept. If new GPU instances do not fit next to the existing ones, the plan recreates as few GPU
    instances as possible at other placements. The plan never recreates a GPU instance that has a vGPU.
    """
    existing = [] if request.predicted or not gpu.mig else list(gpu.mig.instances)
    plans = (_plan_instances(gpu, request, existing, kept) for kept in _keepable(existing, request))
    result, errors = next(plans)
    if any(one.code == "mig_no_room" for one in errors):
        return next(((again, wrong) for again, wrong in plans if not wrong), (result, errors))
    return result, errors


def _keepable(existing: Sequence[GpuInstance], request: InstanceRequest) -> Iterator[list[GpuInstance]]:
    """Yields the sets of requested GPU instances without vGPUs that can be kept, largest sets first."""
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
    """Returns the planned GPU instances and the errors if the given GPU instances without vGPUs are kept."""
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
    """Plans the removal of GPU instances that are not requested. A GPU instance that has a vGPU causes an error.

    A GPU instance that may have a vGPU is kept and causes a warning.
    """
    held, unknown = request.held, [vgpu_type for vgpu, vgpu_type in request.staying if vgpu.gi is None]
    errors = []
    for instance in left:
        name, vgpu, profile = instance.profile, held.get(instance.id), find_profile(instance.profile, request.profiles)
        if vgpu:
            found = "GPU instance %d (%s) has the vGPU %s (%s), but the request does not include this GPU instance" % (instance.id, name, vgpu.key, vgpu.type)
            remedy = "Add %s to the 'mig' list of this GPU, or remove the vGPU." % name
            errors.append(Refusal(found, gpu.address, "a GPU instance for each remaining vGPU", remedy, "gpu_instance_in_use"))
        elif any(one is None or profile and suits(profile, one, request.profiles) for one in unknown):
            text = "%s: GPU instance %d (%s) is not requested but is kept, because the driver does not report whether the GPU instance has a vGPU"
            result.warnings.append(text % (gpu.address, instance.id, name))
        else:
            result.destroy.append(instance)
    return errors


def _check_room(gpu: Gpu, create: Sequence[Profile], stay: Sequence[GpuInstance], profiles: Sequence[Profile]) -> list[Refusal]:
    """Returns the errors if the new GPU instances do not fit next to the remaining GPU instances."""
    remedy = "Use fewer vGPUs, smaller types, or another GPU."
    counts = Counter([one.name for one in create] + [one.profile for one in stay])
    errors = [
        Refusal(
            "%d GPU instances with the profile %s are requested" % (counts[name], name),
            gpu.address, "at most %d GPU instances with this profile" % most, remedy, "mig_no_room",
        )
        for name, most in {one.name: one.total for one in create}.items() if most and counts[name] > most
    ]
    occupied = [_placement_of(one, profiles) for one in stay if one.start is not None]
    if errors or not create or fits(profiles, occupied, create):
        return errors
    whole = max(profiles, key=lambda one: (one.slices, one.gib))
    beside = " beside %s" % ", ".join("%s (instance %d)" % (one.profile, one.id) for one in stay) if stay else " on this GPU (%s)" % gpu.name
    found = "the GPU instances %s do not fit%s" % (", ".join(one.name for one in create), beside)
    expected = "at most %d slices in total, as in %s for the whole GPU, and a valid placement for each GPU instance" % (whole.slices, whole.name)
    return [Refusal(found, gpu.address, expected, remedy, "mig_no_room")]


def _placement_of(instance: GpuInstance, profiles: Sequence[Profile]) -> tuple[int, int, int]:
    """Returns a GPU instance's start, size, and number of compute slices, in the units that fits() uses.

    On some GPUs, the memory slices that the driver reports are smaller than the units that fits() uses.
    """
    profile, start, own = find_profile(instance.profile, profiles), instance.start or 0, instance.size or 1
    if not profile:
        return start, own, own
    size = _memory_slices(profile, profiles) if instance.size else own
    return start * size // own, size, profile.slices


def steps(gpu: Gpu, instances: Instances) -> list[Step]:
    """Returns the steps for a GPU's planned GPU instances.

    The steps destroy GPU instances, create missing compute instances, and then create GPU instances, largest first.
    """
    pf, found = gpu.address, []
    for one in instances.destroy:
        found.append(Step("mig_destroy", pf, pf, "destroy GPU instance %d (%s)" % (one.id, one.profile), instance=one.id))
    for one in instances.without_compute:
        found.append(Step("mig_compute", pf, pf, "create the compute instance of GPU instance %d (%s)" % (one.id, one.profile), instance=one.id))
    names = [one.name for one in instances.create]
    if names:
        found.append(Step("mig_create", pf, pf, "create the GPU instances %s" % ", ".join(names), names=names))
    return found
