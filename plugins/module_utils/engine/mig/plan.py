# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG: which mode, which GPU instances stay, go and come. Pure.

MIG mode must be set before the VFs are made, and GPU instances after that (sriov-manage takes them
away). GPU instances follow from the types of the vGPUs that shall live in them, or are given.
Placing is modelled as NVIDIA's own lists of placements show it: an instance of m memory slices
starts at a multiple of m, and its compute slices end within the GPU's.
"""

from __future__ import annotations

from ..base import refusals
from ..base.errors import Trouble, raise_if_any
from ..base.steps import Step, passed_over, refusal
from ..sriov import plan as sriov_plan
from ..system.nvidia_smi import Profile, is_profile, plain_profile

# What a type's suffix says of its GPU instance, as NVIDIA spells it in the profile's name.
_SUFFIX = {"": ("",), "ME": ("+me",), "NOME": ("-me", ""), "MEALL": ("+me.all",), "GFX": ("+gfx",)}
# nvidia-smi and the driver live with it: it lets go by itself.
_HARMLESS = ("nvidia-persiste",)


# --- profiles and types


def predicted_profiles(needs):
    """Profiles by the names that types and users give, where no driver lists them yet; what is no profile's name is left out."""
    return [Profile(name, 0) for name in sorted(needs) if is_profile(name)]


def find_profile(word, profiles):
    """The profile that a user's word means: 1g.5gb, MIG 1g.5gb, or its number."""
    plain = plain_profile(word)
    for one in profiles:
        if plain == one.name or plain == str(one.id):
            return one
    return None


def _suits(profile, vgpu_type):
    """Whether a vGPU of the type can live in a GPU instance of the profile."""
    if vgpu_type.gi_profile is not None and profile.id == vgpu_type.gi_profile:
        return profile.slices == vgpu_type.slices
    if profile.slices != vgpu_type.slices or profile.gib * 1024 < (vgpu_type.framebuffer_mib or 0):
        return False
    wanted = _SUFFIX.get(vgpu_type.suffix, ("",))
    if not vgpu_type.suffix and vgpu_type.series in ("Q", "B", "A"):
        wanted = ("", "+gfx")  # graphics on MIG; [guess] the driver's own word (gi_profile) goes first
    return profile.suffix in wanted


def profile_for(vgpu_type, profiles):
    """The smallest profile that suits a type: what the driver names, else by slices, memory and suffix. None if none."""
    suiting = [one for one in profiles if _suits(one, vgpu_type)]
    named = [one for one in suiting if one.id == vgpu_type.gi_profile]
    return min(named or suiting, key=lambda one: (one.gib, len(one.suffix), one.id)) if suiting else None


def needed(gpu, chosen, profiles):
    """Profiles of the GPU instances that the types need (one instance for each per_gi of a type), and troubles."""
    counts, troubles, found = {}, [], []
    for one in chosen:
        counts.setdefault(one.short, [one, 0])[1] += 1
    for vgpu_type, count in counts.values():
        profile = profile_for(vgpu_type, profiles)
        if profile is None:
            troubles.append(
                Trouble(
                    "no GPU instance profile suits %s (%d slices, %s MiB)" % (vgpu_type.short, vgpu_type.slices, vgpu_type.framebuffer_mib),
                    device=gpu.address,
                    wanted="one of its profiles: %s" % ", ".join(one.name for one in profiles),
                    code="mig_no_profile",
                )
            )
            continue
        share = max(vgpu_type.per_gi or 1, 1)
        found += [profile] * ((count + share - 1) // share)
    return found, troubles


def given(gpu, words, chosen, profiles):
    """The given GPU instances as profiles; troubles where one is unknown, or the types don't find theirs among them."""
    found, troubles = [], []
    for word in words:
        profile = find_profile(word, profiles)
        if profile:
            found.append(profile)
            continue
        troubles.append(
            Trouble(
                "the GPU instance profile %r is not one of this GPU (%s)" % (word, gpu.name),
                device=gpu.address,
                wanted="one of: %s" % ", ".join(one.name for one in profiles),
                code="mig_no_profile",
            )
        )
    if troubles:
        return found, troubles
    # The largest need first, each into the smallest instance that suits.
    left = [[profile, None, 0] for profile in sorted(found, key=lambda one: (one.slices, one.gib))]
    for vgpu_type in sorted(chosen, key=lambda one: -(one.framebuffer_mib or 0)):
        share = max(vgpu_type.per_gi or 1, 1)
        for place in left:
            if _suits(place[0], vgpu_type) and (place[1] is None or (place[1] == vgpu_type.short and place[2] < share)):
                place[1], place[2] = vgpu_type.short, place[2] + 1
                break
        else:
            fits = profile_for(vgpu_type, profiles)
            troubles.append(
                Trouble(
                    "none of the given GPU instances (%s) is left for %s" % (", ".join(one.name for one in found) or "none", vgpu_type.short),
                    device=gpu.address,
                    wanted="one of %d slices and at least %s MiB for each, such as %s"
                    % (vgpu_type.slices, vgpu_type.framebuffer_mib, fits.name if fits else "none of this GPU's"),
                    remedy="Add it to 'mig', or leave 'mig' out: then the GPU instances follow from the types.",
                    code="gpu_instance_too_small",
                )
            )
    return found, troubles


# --- placing


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
        maybe = [one for one in unknown if profile and _suits(profile, one)]
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


# --- mode, and the module nvidia_mig


class Wanted:
    """What is wanted of one GPU. mode: True, False or None (as it is); instances: profile names, or None."""

    def __init__(self, mode=None, instances=None):
        self.mode = mode
        self.instances = instances


class MigPlan:
    """Steps, the state to come by GPU ((mode, instance profile names)), and GPUs left out with the reason."""

    def __init__(self):
        self.steps = []
        self.after = {}
        self.skipped = []
        self.warnings = []
        self.lost = []
        self.gpus = []


def from_layout(wishes, inventory):
    """Wanted by GPU, of the GPUs that a layout names: MIG mode as its types need it."""
    wanted = {}
    for pf in sorted(wishes):
        gpu = inventory.gpu(pf)
        if wishes[pf].needs_mig:
            wanted[pf] = Wanted(True)
        elif wishes[pf] and gpu.has_mig:
            wanted[pf] = Wanted(False)
    return wanted


def plan(inventory, state, wanted, cycle_vfs=False, has_tool=True, assume=(), troubles=(), lost_gpus="fail"):
    """The plan for Wanted by GPU address; raises EngineError with all that is wrong. lost_gpus: see steps.LOST_WORDS."""
    result = MigPlan()
    troubles = list(troubles)
    others = [gpu.address for gpu in inventory.gpus if gpu.has_mig]
    for pf in sorted(wanted):
        gpu, wish = inventory.gpu(pf), wanted[pf]
        if not gpu.has_mig:
            if wish.mode or wish.instances:
                troubles.append(refusals.no_mig(gpu, others, "MIG is asked for"))
            else:
                result.skipped.append({"gpu": pf, "reason": "%s has no MIG" % gpu.name})
            continue
        if passed_over(result, gpu, "set its MIG mode", lost_gpus):
            continue
        result.gpus.append(gpu)
        predicted = gpu.mig is None
        if predicted and "driver" not in assume:
            troubles += refusals.no_vfs_yet(gpu, state) or [refusals.mig_unknown(gpu)]
            continue
        mode = bool(gpu.mig and gpu.mig.current)
        names = [one.profile for one in gpu.mig.instances] if gpu.mig else []
        if wish.mode is not None and (predicted or wish.mode != gpu.mig.current or wish.mode != gpu.mig.pending):
            if not predicted or wish.mode:
                troubles += _plan_mode(result, inventory, gpu, wish.mode, cycle_vfs, has_tool, assume)
                mode, names = wish.mode, []
        if wish.instances is not None:
            names, more = _plan_given(result, gpu, wish, mode, predicted, assume)
            troubles += more
        result.after[pf] = (mode, sorted(names))
    raise_if_any(refusal(troubles, result.steps))
    return result


def _plan_mode(result, inventory, gpu, enabled, cycle_vfs, has_tool, assume):
    word = "on" if enabled else "off"
    troubles = sriov_plan.vgpu_guard(gpu, "turning MIG mode %s" % word, assume)
    holders = [one for one in inventory.open_files.of_gpu(gpu.minor) if not one.command.split("/")[-1].startswith(_HARMLESS)]
    if holders:
        # On Ampere the mode takes a reset, which would end what they do; later GPUs refuse while they are there.
        troubles.append(refusals.in_use(gpu.address, holders, "turning MIG mode %s" % word))
    if gpu.num_vfs and not cycle_vfs:
        troubles.append(
            Trouble(
                "MIG mode can't be turned %s while its %d VFs are on" % (word, gpu.num_vfs),
                device=gpu.address,
                wanted="no VFs",
                remedy="Turn them off first (module nvidia_sriov, state: disabled) and on again afterwards, or set cycle_vfs: true.",
                code="mig_vfs_on",
            )
        )
    elif gpu.num_vfs:
        result.steps.append(sriov_plan.off_step(gpu, has_tool))
    result.steps.append(Step("mig_mode", gpu.address, gpu.address, "turn MIG mode %s" % word, enabled=enabled))
    return troubles


def _plan_given(result, gpu, wish, mode, predicted, assume):
    """(names of the profiles to come, troubles)."""
    if not wish.instances and not mode:
        return [], []
    if not mode:
        return [], [
            Trouble(
                "GPU instances are asked for, but MIG mode is off",
                device=gpu.address,
                wanted="MIG mode on",
                remedy="Set mode: enabled.",
                code="mig_off",
            )
        ]
    changing = any(step.kind == "mig_mode" and step.gpu == gpu.address for step in result.steps)
    if (not gpu.num_vfs or changing) and wish.instances and gpu.sriov and "vfs" not in assume:
        return [], [
            Trouble(
                "GPU instances are asked for before the VFs are on; turning those on would take the instances away",
                device=gpu.address,
                wanted="MIG mode first, then VFs, then GPU instances",
                remedy="Set the mode alone, turn the VFs on (module nvidia_sriov), then ask for the instances.",
                code="vfs_off",
            )
        ]
    profiles = gpu.mig.profiles if gpu.mig else []
    if predicted or not profiles:
        profiles = predicted_profiles({plain_profile(word) for word in wish.instances})
    found, troubles = given(gpu, wish.instances, (), profiles)
    if troubles:
        return [], troubles
    staying = [(vgpu, next((one for one in gpu.types if one.short == vgpu.type), None)) for vgpu in gpu.vgpus]
    instances, troubles = plan_instances(gpu, found, staying, profiles, predicted or changing)
    result.steps += steps(gpu, instances)
    result.warnings += instances.warnings
    return [one.name for one in found], troubles


def lines(gpus, after=None):
    """MIG's state as text, a GPU a line, for a diff."""
    rows = []
    for gpu in gpus:
        mode, names = bool(gpu.mig and gpu.mig.current), sorted(one.profile for one in gpu.mig.instances) if gpu.mig else []
        if after and gpu.address in after:
            mode, names = after[gpu.address]
        rows.append("%s MIG %s%s\n" % (gpu.address, "on" if mode else "off", "".join(" " + name for name in names)))
    return "".join(rows)
