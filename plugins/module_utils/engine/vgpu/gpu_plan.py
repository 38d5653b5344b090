# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans one GPU: the vGPUs to keep, remove, and create, the GPU instances, and mixed-size mode. This module does not access the host."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Sequence

from ..base import refusals
from ..base.errors import Refusal, estimate
from ..hardware import vgpu_types
from ..hardware.gpu import Gpu, Vgpu
from ..hardware.mig_profiles import malformed
from ..mig import placement as mig_placement, selection
from ..state.layout_file import StoredGpu
from .fit import Chosen, check_room, choose_types
from .layout import guesses, two_kinds
from .placement import Matching, match, place
from .target import GpuRequest, GpuTarget, LayoutPlan, Options, Placed


def plan_gpu(result: LayoutPlan, request: GpuRequest) -> None:
    """Adds a GPU's target to the plan, with warnings and errors."""
    target = result.target.gpus[request.gpu.address] = GpuTarget(placed=[])
    if not request.spec.vgpus and request.spec.mig is None:
        result.errors += _empty(target, request)
        unset_mixed(result, target, request.gpu, request.stored)
        return
    result.warnings += guesses(request.gpu, request.spec) if request.predicted else []
    refused, chosen = _fitting(result, request)
    if refused:
        result.errors += refused
        if request.spec.removes is not None:  # for single devices, the errors include slot conflicts
            result.errors += place(request, match(request, chosen))
        target.placed = None
        return
    result.errors += _set_mixed(result, target, request) if request.spec.mixed else []
    found = Matching(removed=list(request.gpu.vgpus), open=chosen) if target.sets_mixed else match(request, chosen)
    wrong = place(request, found)
    target.placed, target.removed, target.left = found.placed, found.removed, found.left
    errors: list[Refusal] = []
    if request.spec.needs_mig and request.spec.removes is None:
        errors = _plan_instances(target, request, chosen)
    result.errors += guard_removal(target.removed, request.options) + wrong
    if not request.spec.mixed:
        unset_mixed(result, target, request.gpu, request.stored)
    result.errors += _changed_in_use(target.placed)
    if request.lists_profiles or malformed(request.spec.mig or ()):
        result.errors += errors
    else:
        result.warnings += map(estimate, errors)
    result.warnings += target.instances.warnings if target.instances else []


def _changed_in_use(placed: Sequence[Placed]) -> list[Refusal]:
    """Returns errors for vGPUs in use whose parameters change, because a VM reads vGPU parameters only when the VM starts."""
    return [
        refusals.in_use(one.key, one.vgpu.holders, "changing the vGPU's vgpu_params") for one in placed if one.vgpu and one.vgpu.holders and one.changes_params
    ]


def _empty(target: GpuTarget, request: GpuRequest) -> list[Refusal]:
    """Plans a GPU that gets no vGPUs or no additional vGPUs. Returns errors."""
    gpu, removes = request.gpu, request.spec.removes
    ours = request.stored is not None and request.stored.mig is not None
    target.removed = [vgpu for vgpu in gpu.vgpus if removes is None or vgpu.key in removes]
    if ours and gpu.mig and gpu.mig.current:
        target.instances = mig_placement.plan_instances(gpu, mig_placement.InstanceRequest([], [], gpu.mig.profiles))[0]
    # The value is stored until MIG mode is disabled, so that a run after an interruption can continue.
    target.mig = [] if ours and not (gpu.mig and gpu.mig.current is False) else None
    return guard_removal(target.removed, request.options)


def _fitting(result: LayoutPlan, request: GpuRequest) -> tuple[list[Refusal], list[Chosen]]:
    """Returns errors in the requested vGPUs that do not depend on existing vGPUs, and each vGPU's type. Adds warnings to the plan."""
    gpu, spec = request.gpu, request.spec
    if not request.predicted and not gpu.types and spec.vgpus:
        return refusals.no_types(gpu, request.host.facts), []
    refused = _check_mode(request)
    if refused and refused[0].code == "mig_unsupported" and request.predicted:
        result.warnings += map(estimate, refused)
    elif refused:
        return refused, []
    chosen, refused = choose_types(request)
    if refused:
        return refused, chosen
    there = [vgpu.uuid for vgpu in gpu.vgpus]
    if spec.removes is not None and all(one.uuid in there for one in spec.vgpus):
        return [], chosen  # no vGPU is created, and all existing vGPUs fit
    refused, doubts = check_room(request, chosen)
    result.warnings += doubts
    return refused, chosen


def _check_mode(request: GpuRequest) -> list[Refusal]:
    """Checks the MIG mode that the types require. The plan cannot change the mode, because MIG mode is set before VFs are enabled."""
    gpu, spec = request.gpu, request.spec
    sliced = [one for one in spec.vgpus if vgpu_types.slices_of(one.type)]
    shared = [one for one in spec.vgpus if vgpu_types.gpu_word(one.type) and not vgpu_types.slices_of(one.type)]
    if spec.needs_mig and not gpu.has_mig:
        others = [one.address for one in request.host.inventory.gpus if one.has_mig]
        asked = "%s requires MIG" % sliced[0].type if sliced else "GPU instances are requested (mig)"
        return [refusals.no_mig(gpu, others, asked)]
    wrong = two_kinds(gpu, spec)
    if wrong:
        return wrong
    if "mig" in request.options.assume:
        return []
    if spec.needs_mig and gpu.mig is None:
        return refusals.no_vfs_yet(gpu, request.host.facts) or [refusals.mig_unknown(gpu)]
    on = bool(gpu.mig and gpu.mig.current)
    if spec.needs_mig == on or not (spec.needs_mig or shared):
        return []
    present, needed = ("enabled", "disabled") if on else ("disabled", "enabled")
    return [Refusal(
        "MIG mode is %s, but %s requires MIG mode to be %s" % (present, (sliced or shared)[0].type if sliced or shared else "mig", needed),
        device=gpu.address, expected="%s MIG mode" % needed, code="mig_mode",
        remedy="Run the mig role, which sets the mode before the VFs are enabled. "
        "Alternatively, disable the VFs, run the nvidia_mig module, and enable the VFs.",
    )]


def _set_mixed(result: LayoutPlan, target: GpuTarget, request: GpuRequest) -> list[Refusal]:
    """Plans the requested mixed-size mode, and returns errors. The driver enables mixed-size mode only on an empty GPU."""
    gpu = request.gpu
    target.mixed = True
    supported, on = gpu.mixed or (request.predicted, False)
    if gpu.mixed is None and supported:
        result.warnings.append("%s: support for mixed_sizes on this GPU is unknown until the driver is installed" % gpu.address)
    if not supported:
        return [Refusal(
            "mixed_sizes is requested, but this GPU (%s) does not support mixed sizes with this driver" % gpu.name,
            device=gpu.address, expected="'Heterogeneous Time-Slice Sizes: Supported' in 'nvidia-smi -q'",
            remedy="Remove mixed_sizes, and use one framebuffer size per GPU.", code="mixed_unsupported",
        )]
    target.sets_mixed = not on
    options = request.options
    busy = [vgpu for vgpu in gpu.vgpus if not on and vgpu.holders and vgpu.key not in options.force_remove and not options.keeps]
    return [refusals.in_use(vgpu.key, vgpu.holders, "enabling mixed-size mode, which requires an empty GPU") for vgpu in busy]


def unset_mixed(result: LayoutPlan, target: GpuTarget, gpu: Gpu, stored: StoredGpu | None) -> None:
    """Plans to disable an earlier layout's mixed-size mode once no vGPU needs mixed-size mode."""
    on = stored is not None and stored.mixed is not None and (gpu.mixed is None or gpu.mixed[1])
    if not on:
        return
    target.mixed, target.sets_mixed = False, gpu.mixed is not None and all(vgpu in target.removed for vgpu in gpu.vgpus)
    if gpu.mixed and not target.sets_mixed:
        result.warnings.append("%s: mixed-size mode remains enabled until the GPU has no vGPUs or the host reboots" % gpu.address)


def _plan_instances(target: GpuTarget, request: GpuRequest, chosen: Sequence[Chosen]) -> list[Refusal]:
    """Plans GPU instances for the vGPUs. Returns errors if the GPU instances do not fit."""
    errors = _instances(target, request)
    # Idle vGPUs' GPU instances can block new instances. The plan removes or recreates as few idle vGPUs as possible, if all vGPUs fit afterward.
    sets = _recreatable(request, target.removed) if errors and not (target.sets_mixed or request.options.keeps) else []
    least, best = len(target.removed), None
    for some in sets if sets and _without(request, chosen, sets[-1]) else ():
        if best and (len(best.removed) <= max(least, len(some))):
            break
        again = _without(request, chosen, some)
        best = again if again and (not best or len(again.removed) < len(best.removed)) else best
    if not best:
        return errors
    target.placed, target.removed = best.placed, best.removed
    target.instances, target.mig, target.first = best.instances, best.mig, best.first
    return []


def _without(request: GpuRequest, chosen: Sequence[Chosen], gone: Sequence[Vgpu]) -> GpuTarget | None:
    """Returns the GPU's target after the removal of vGPUs, or None if a vGPU cannot be removed."""
    found = match(request, chosen, gone)
    wrong = place(request, found) + guard_removal(found.removed, request.options) + _changed_in_use(found.placed)
    target = GpuTarget(found.placed, found.removed)
    return None if wrong or _instances(target, request) else target


def _recreatable(request: GpuRequest, going: Sequence[Vgpu]) -> list[list[Vgpu]]:
    """Returns the sets of idle vGPUs whose removal can free GPU instances, smallest first. ``going`` contains vGPUs to be removed anyway.

    A set contains either all of a GPU instance's vGPUs or none. If the GPU instances are unknown for several vGPUs with the same profile and size,
    the set is large enough to leave fewer vGPUs than possible instances.
    """
    gpu, types = request.gpu, {one.id: one for one in request.gpu.types}
    there: Counter[int | str | None] = Counter(one.profile for one in (gpu.mig.instances if gpu.mig else ()))
    homes: dict[tuple[int | str | None, int | None], list[Vgpu]] = {}
    for vgpu in [one for one in gpu.vgpus if not one.holders]:
        own = types.get(vgpu.type_id)
        profile = mig_placement.profile_for(own, gpu.mig.profiles) if own and gpu.mig and vgpu.gi is None else None
        homes.setdefault((profile.name if profile else vgpu.gi, own.framebuffer_mib if own else None), []).append(vgpu)
    several = []
    for (home, dummy), mine in homes.items():
        mine.sort(key=lambda vgpu: (vgpu not in going, vgpu.key in request.host.defined))
        least = max(1, len(mine) - max(1, there[home]) + 1)
        several.append([mine[:number] for number in (0, *range(least, len(mine) + 1))])
    sets = [[vgpu for some in chosen for vgpu in some] for chosen in itertools.product(*several)]
    return sorted((some for some in sets if some), key=len)


def _instances(target: GpuTarget, request: GpuRequest) -> list[Refusal]:
    """Plans the target's GPU instances. Returns errors."""
    gpu, words = request.gpu, request.spec.mig
    tenants = [(one.type, one.vgpu) for one in target.placed or ()]
    unknown = {vgpu_type.short for vgpu_type, dummy in tenants if request.predicted and vgpu_type.framebuffer_mib is None}
    tenants = [one for one in tenants if one[0].short not in unknown]
    profiles = gpu.mig.profiles if gpu.mig else []
    if not profiles:
        profiles = mig_placement.predicted_profiles(gpu.model, words or (), [vgpu_type for vgpu_type, dummy in tenants])
    others = _others(target, request)
    tenants += others
    certain = not request.options.keeps  # without removals, vGPUs that do not fit cause no damage
    found, errors = selection.needed(gpu, tenants, profiles, certain) if words is None else selection.given(gpu, words, tenants, profiles, certain)
    if errors and others and words is not None:
        # The listed instances include all, some, or none of the remaining vGPUs' instances.
        beside = Counter(one.name for one in selection.needed(gpu, others, profiles, certain)[0].profiles)
        for more in (beside - Counter(one.name for one in found.profiles), beside):
            found, errors = selection.given(gpu, [*words, *more.elements()], tenants, profiles, certain)
            if not errors:
                break
    staying = [(vgpu, vgpu_type) for vgpu_type, vgpu in tenants if vgpu]
    asked = mig_placement.InstanceRequest(found.profiles, staying, profiles, predicted=not (gpu.mig and gpu.mig.current))
    target.instances, wrong = mig_placement.plan_instances(gpu, asked)
    target.instances.warnings += map(estimate, found.doubts)
    target.instances.warnings += [
        "%s: the GPU instance that %s requires is unknown until the driver lists the vGPU types" % (gpu.address, name) for name in sorted(unknown)
    ]
    target.first = found.first
    target.mig = target.instances.after(gpu) if words is None else sorted(one.name for one in found.profiles)
    return errors or wrong


def _others(target: GpuTarget, request: GpuRequest) -> list[selection.Tenant]:
    """Returns unrequested vGPUs with known types that remain on the GPU."""
    types = {one.id: one for one in request.gpu.types}
    return [(types[vgpu.type_id], vgpu) for vgpu in target.left if vgpu.type_id in types]


def guard_removal(vgpus: Sequence[Vgpu], options: Options) -> list[Refusal]:
    """Returns errors for vGPUs to be removed that are in use and not listed in force_remove."""
    used = [vgpu for vgpu in vgpus if vgpu.holders and vgpu.key not in options.force_remove and not options.keeps]
    names = ["%s (%s%s)" % (vgpu.key, vgpu.type, " on " + vgpu.parent if vgpu.uuid else "") for vgpu in used]
    override = "force_remove (the vgpu_force_remove variable)"
    return [refusals.in_use(name, vgpu.holders, "removing the vGPU", override) for name, vgpu in zip(names, used)]
