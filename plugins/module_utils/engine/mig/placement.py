# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPU instances a GPU keeps and gets, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Trouble
from ..base.steps import Step
from ..hardware.gpu import Gpu, GpuInstance, Vgpu
from ..hardware.mig_profiles import Profile
from ..hardware.vgpu_types import VgpuType
from .profiles import find_profile, suits


def _memory_slices(profile: Profile, profiles: Sequence[Profile]) -> int:
    """How many memory slices a profile of those takes; powers of two, as all of NVIDIA's are."""
    smallest = min([one.memory for one in profiles if one.memory] or [0])
    ratio = profile.memory / smallest if profile.memory and smallest else float(profile.slices)
    size = 1
    while size < ratio * 0.85:
        size *= 2
    return size


def fits(profiles: Sequence[Profile], occupied: Sequence[tuple[int, int, int]], new: Sequence[Profile], slices: int | None = None) -> bool:
    """Whether GPU instances of the new profiles fit beside the occupied (start, size, compute slices)."""
    compute = slices or max([one.slices for one in profiles] or [0])
    memory = 1
    while memory < compute:
        memory *= 2
    todo = sorted(((_memory_slices(one, profiles), one.slices) for one in new), reverse=True)
    if sum(need for dummy, need in todo) + sum(need for dummy, dummy2, need in occupied) > compute:
        return False
    used = {slot for start, size, dummy in occupied for slot in range(start, start + size)}

    def fit(number: int, taken: set[int]) -> bool:
        if number == len(todo):
            return True
        size, need = todo[number]
        for start in range(0, memory - size + 1, size):
            slots = set(range(start, start + size))
            if start + need <= compute and not slots & taken and fit(number + 1, taken | slots):
                return True
        return False

    return fit(0, used)


@dataclass
class Instances:
    """What becomes of a GPU's GPU instances."""

    create: list[Profile] = field(default_factory=list)
    destroy: list[GpuInstance] = field(default_factory=list)
    without_compute: list[GpuInstance] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class InstanceRequest:
    """The GPU instances that a GPU is to have, as profiles.

    staying: vGPUs that live on, with their types. profiles: all that the GPU has. predicted: MIG mode is still to come,
    so that there are no GPU instances now.
    """

    desired: Sequence[Profile]
    staying: Sequence[tuple[Vgpu, VgpuType | None]]
    profiles: Sequence[Profile]
    predicted: bool = False

    @property
    def held(self) -> dict[int, Vgpu]:
        """The vGPUs that live on, by their GPU instance."""
        return {vgpu.gi: vgpu for vgpu, dummy in self.staying if vgpu.gi is not None}


def plan_instances(gpu: Gpu, request: InstanceRequest) -> tuple[Instances, list[Trouble]]:
    """What becomes of the GPU instances, and troubles.

    What matches is kept; if the rest does not fit then, instances that no vGPU lives in are recreated elsewhere.
    """
    result, troubles = _plan_instances(gpu, request, only_held=False)
    if any(one.code == "mig_no_room" for one in troubles):
        again, wrong = _plan_instances(gpu, request, only_held=True)
        if not wrong:
            return again, wrong
    return result, troubles


def _plan_instances(gpu: Gpu, request: InstanceRequest, only_held: bool) -> tuple[Instances, list[Trouble]]:
    """As plan_instances; only_held: of the present instances, only those that hold a vGPU are kept."""
    result, held = Instances(), request.held
    existing = [] if request.predicted or not gpu.mig else list(gpu.mig.instances)
    left = sorted(existing, key=lambda one: (one.id not in held, one.id))
    for profile in request.desired:
        match = next((one for one in left if one.profile == profile.name and (one.id in held or not only_held)), None)
        if match is None:
            result.create.append(profile)
            continue
        left.remove(match)
        if not match.compute:
            result.without_compute.append(match)
    troubles = _plan_surplus(result, gpu, request, left)
    result.create.sort(key=lambda one: (-one.slices, -one.gib, one.name))
    return result, troubles + _check_room(gpu, result.create, [one for one in existing if one not in result.destroy], request.profiles)


def _plan_surplus(result: Instances, gpu: Gpu, request: InstanceRequest, left: Sequence[GpuInstance]) -> list[Trouble]:
    """Destroys the instances that are left over, unless a vGPU lives in them, or may."""
    held, unknown = request.held, [vgpu_type for vgpu, vgpu_type in request.staying if vgpu.gi is None and vgpu_type is not None]
    troubles = []
    for instance in left:
        name, vgpu, profile = instance.profile, held.get(instance.id), find_profile(instance.profile, request.profiles)
        if vgpu:
            found = "the GPU instance %d (%s) holds the vGPU %s (%s) and is not among those wanted" % (instance.id, name, vgpu.key, vgpu.type)
            remedy = "Add %s to 'mig' of this GPU, or remove the vGPU." % name
            troubles.append(Trouble(found, gpu.address, "GPU instances for the vGPUs that stay", remedy, "gpu_instance_in_use"))
        elif profile and any(suits(profile, one) for one in unknown):
            text = "%s: the GPU instance %d (%s) is not wanted but stays: the driver does not tell whether a vGPU lives in it"
            result.warnings.append(text % (gpu.address, instance.id, name))
        else:
            result.destroy.append(instance)
    return troubles


def _check_room(gpu: Gpu, create: Sequence[Profile], stay: Sequence[GpuInstance], profiles: Sequence[Profile]) -> list[Trouble]:
    """Whether the instances that come fit beside those that stay."""
    occupied = [_placement_of(one, profiles) for one in stay if one.start is not None]
    slices = gpu.model.mig_slices if gpu.model and gpu.model.mig_slices else None
    if not create or fits(profiles, occupied, create, slices):
        return []
    whole = max(profiles, key=lambda one: (one.slices, one.gib))
    beside = " beside %s" % ", ".join("%s (instance %d)" % (one.profile, one.id) for one in stay) if stay else " on this GPU (%s)" % gpu.name
    found = "the GPU instances %s do not fit%s" % (", ".join(one.name for one in create), beside)
    wanted = "at most %d slices in all (the whole GPU is %s), larger ones at their own places" % (slices or whole.slices, whole.name)
    return [Trouble(found, gpu.address, wanted, "Take fewer or smaller types, or another GPU.", "mig_no_room")]


def _placement_of(instance: GpuInstance, profiles: Sequence[Profile]) -> tuple[int, int, int]:
    """(start, size, compute slices) in the units of fits(); the driver's own units are smaller on some GPUs."""
    profile, start = find_profile(instance.profile, profiles), instance.start or 0
    if not profile or not instance.size:
        size = instance.size or 1
        return start, size, profile.slices if profile else size
    size = _memory_slices(profile, profiles)
    return start * size // instance.size, size, profile.slices


def steps(gpu: Gpu, instances: Instances) -> list[Step]:
    """Steps of a GPU's Instances, in order: what goes, what is completed, what comes (larger first)."""
    pf, found = gpu.address, []
    for one in instances.destroy:
        found.append(Step("mig_destroy", pf, pf, "destroy the GPU instance %d (%s)" % (one.id, one.profile), instance=one.id))
    for one in instances.without_compute:
        found.append(Step("mig_compute", pf, pf, "create the compute instance of GPU instance %d (%s)" % (one.id, one.profile), instance=one.id))
    names = [one.name for one in instances.create]
    if names:
        found.append(Step("mig_create", pf, pf, "create the GPU instances %s" % ", ".join(names), names=names))
    return found
