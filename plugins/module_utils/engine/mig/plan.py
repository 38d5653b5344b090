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
from ..system.nvidia_smi import plain_profile
from .placement import plan_instances, steps
from .profiles import find_profile, predicted_profiles, profile_for, suits

# nvidia-smi and the driver live with it: it lets go by itself.
_HARMLESS = ("nvidia-persiste",)


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
            if suits(place[0], vgpu_type) and (place[1] is None or (place[1] == vgpu_type.short and place[2] < share)):
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
