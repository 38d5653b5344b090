# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPU instances a GPU keeps and gets, and where."""

from __future__ import annotations

from ..base.errors import Trouble
from ..base.steps import Step
from .profiles import find_profile, suits


def _memory_slices(profile, smallest):
    """How many memory slices a profile takes; powers of two, as all of NVIDIA's are."""
    ratio = profile.memory / smallest if profile.memory and smallest else float(profile.slices)
    size = 1
    while size < ratio * 0.85:
        size *= 2
    return size


def fits(profiles, occupied, wanted, slices=None):
    """Whether GPU instances of the wanted profiles find places beside the occupied (start, size, compute slices)."""
    smallest = min([one.memory for one in profiles if one.memory] or [0])
    compute = slices or max([one.slices for one in profiles] or [0])
    memory = 1
    while memory < compute:
        memory *= 2
    todo = sorted(((_memory_slices(one, smallest), one.slices) for one in wanted), reverse=True)
    if sum(need for dummy, need in todo) + sum(need for dummy, dummy2, need in occupied) > compute:
        return False
    used = {slot for start, size, dummy in occupied for slot in range(start, start + size)}

    def place(number, taken):
        if number == len(todo):
            return True
        size, need = todo[number]
        for start in range(0, memory - size + 1, size):
            slots = set(range(start, start + size))
            if start + need <= compute and not slots & taken and place(number + 1, taken | slots):
                return True
        return False

    return place(0, used)


class Instances:
    """What becomes of a GPU's GPU instances."""

    def __init__(self):
        self.create = []
        self.destroy = []
        self.without_compute = []
        self.warnings = []


def plan_instances(gpu, wanted, staying, profiles, predicted=False):
    """Instances to the wanted profiles, and troubles. staying: vGPUs that live on, with their VgpuTypes: (vgpu, type).

    What matches is kept; where the rest then finds no place, what no vGPU lives in is made anew elsewhere.
    """
    result, troubles = _plan_instances(gpu, wanted, staying, profiles, predicted, False)
    if [one for one in troubles if one.code == "mig_no_room"]:
        again, wrong = _plan_instances(gpu, wanted, staying, profiles, predicted, True)
        if not wrong:
            return again, wrong
    return result, troubles


def _plan_instances(gpu, wanted, staying, profiles, predicted, only_held):
    result, troubles = Instances(), []
    existing = [] if predicted or not gpu.mig else list(gpu.mig.instances)
    held = {vgpu.gi: vgpu for vgpu, dummy in staying if vgpu.gi is not None}
    unknown = [vgpu_type for vgpu, vgpu_type in staying if vgpu.gi is None and vgpu_type is not None]
    left = sorted(existing, key=lambda one: (one.id not in held, one.id))
    for profile in wanted:
        match = next((one for one in left if one.profile == profile.name and (one.id in held or not only_held)), None)
        if match:
            left.remove(match)
            if not match.compute:
                result.without_compute.append(match)
        else:
            result.create.append(profile)
    for instance in left:
        profile = find_profile(instance.profile, profiles)
        maybe = [one for one in unknown if profile and suits(profile, one)]
        if instance.id in held:
            vgpu = held[instance.id]
            troubles.append(
                Trouble(
                    "the GPU instance %d (%s) holds the vGPU %s (%s) and is not among those wanted" % (instance.id, instance.profile, vgpu.key, vgpu.type),
                    device=gpu.address,
                    wanted="GPU instances for the vGPUs that stay",
                    remedy="Add %s to 'mig' of this GPU, or remove the vGPU." % instance.profile,
                    code="gpu_instance_in_use",
                )
            )
        elif maybe:
            result.warnings.append(
                "%s: the GPU instance %d (%s) is not wanted but stays: the driver does not tell whether a vGPU lives in it"
                % (gpu.address, instance.id, instance.profile)
            )
        else:
            result.destroy.append(instance)
    result.create.sort(key=lambda one: (-one.slices, -one.gib, one.name))
    stay = [one for one in existing if one not in result.destroy]
    smallest = min([one.memory for one in profiles if one.memory] or [0])
    occupied = [_place_of(one, profiles, smallest) for one in stay if one.start is not None]
    slices = gpu.model.mig_slices if gpu.model and gpu.model.mig_slices else None
    if result.create and not fits(profiles, occupied, result.create, slices):
        whole = max(profiles, key=lambda one: (one.slices, one.gib))
        troubles.append(
            Trouble(
                "the GPU instances %s do not fit%s"
                % (
                    ", ".join(one.name for one in result.create),
                    " beside %s" % ", ".join("%s (instance %d)" % (one.profile, one.id) for one in stay) if stay else " on this GPU (%s)" % gpu.name,
                ),
                device=gpu.address,
                wanted="at most %d slices in all (the whole GPU is %s), larger ones at their own places" % (slices or whole.slices, whole.name),
                remedy="Take fewer or smaller types, or another GPU.",
                code="mig_no_room",
            )
        )
    return result, troubles


def _place_of(instance, profiles, smallest):
    """(start, size, compute slices) in the units of fits(); the driver's own units are smaller on some GPUs."""
    profile = find_profile(instance.profile, profiles)
    if not profile or not instance.size:
        size = instance.size or 1
        return instance.start, size, profile.slices if profile else size
    size = _memory_slices(profile, smallest)
    return instance.start * size // instance.size, size, profile.slices


def steps(gpu, instances):
    """Steps of a GPU's Instances, in order: what goes, what is completed, what comes (larger first)."""
    found = []
    for one in instances.destroy:
        found.append(
            Step("mig_destroy", gpu.address, gpu.address, "destroy the GPU instance %d (%s)" % (one.id, one.profile), instance=one.id)
        )
    for one in instances.without_compute:
        found.append(
            Step(
                "mig_compute", gpu.address, gpu.address, "create the compute instance of GPU instance %d (%s)" % (one.id, one.profile), instance=one.id
            )
        )
    if instances.create:
        names = [one.name for one in instances.create]
        found.append(
            Step("mig_create", gpu.address, gpu.address, "create the GPU instances %s" % ", ".join(names), names=names)
        )
    return found
