# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans MIG mode and the GPU instances to keep, destroy, and create. This module does not access the host.

MIG mode must be set before the VFs are enabled. GPU instances must be created after the VFs are enabled, because sriov-manage removes existing GPU
instances. The user lists the GPU instances, or the vGPU types determine the GPU instances.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from ..base import refusals
from ..base.errors import Refusal, estimate
from ..base.plan import Plan, Skipped
from ..base.steps import Step
from ..hardware.gpu import Gpu, Holder
from ..hardware.mig_profiles import malformed
from ..read.host import HostState
from ..read.inventory import Inventory
from ..sriov import plan as sriov_plan
from .placement import InstanceRequest, plan_instances, predicted_profiles, steps
from .selection import Request, given

# The start of nvidia-persistenced's command name. nvidia-persistenced does not prevent a MIG mode change, because the daemon releases the GPU
# automatically.
_HARMLESS = "nvidia-persiste"


@dataclass(eq=False, repr=False)
class Host:
    """The state of the host on which a MIG plan is based.

    Attributes:
        users: The processes that have a GPU's device node open, keyed by GPU address.
        has_tool: Whether sriov-manage is installed.
    """

    inventory: Inventory
    state: HostState
    users: Mapping[str, Sequence[Holder]]
    has_tool: bool = True


@dataclass(eq=False, repr=False)
class Options:
    """The options for a MIG plan.

    Attributes:
        cycle_vfs: Whether the plan may disable VFs to change MIG mode.
        assume: The value of the check_mode_assume module option.
        unresponsive: One of UNRESPONSIVE_POLICIES in base/plan.py.
    """

    cycle_vfs: bool = False
    assume: Sequence[str] = ()
    unresponsive: str = "fail"


@dataclass(eq=False, repr=False)
class MigState:
    """A GPU's MIG mode and the sorted profile names of the GPU instances."""

    mode: bool
    instances: list[str]


@dataclass(eq=False, repr=False)
class Target:
    """The result of a MIG plan.

    Attributes:
        gpus: The selected GPUs.
        after: The MIG state of each GPU after the plan is applied, keyed by GPU address.
        skipped: The skipped GPUs, which do not support MIG.
    """

    gpus: list[Gpu] = field(default_factory=list)
    after: dict[str, MigState] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)


MigPlan = Plan[Target]


def plan(host: Host, requests: Mapping[str, Request], options: Options, errors: Sequence[Refusal] = ()) -> MigPlan:
    """Returns the MIG plan for the requested GPUs. Raises EngineError with all errors.

    Args:
        requests: The request for each GPU, keyed by GPU address.
        errors: Errors that the caller has already found, which are reported together with planning errors.
    """
    result = Plan(Target(), errors=list(errors))
    gpus = {gpu.address: gpu for gpu in host.inventory.gpus}
    others = [gpu.address for gpu in host.inventory.gpus if gpu.has_mig]
    for pf, request in sorted(requests.items()):
        gpu = gpus[pf]
        absent = refusals.no_mig(gpu, others, "MIG is requested")
        if gpu.has_mig:
            _plan_gpu(result, host, gpu, request, options)
        elif not (request.mode or request.instances):
            result.target.skipped.append(Skipped(pf, "%s does not support MIG" % gpu.name))
        elif gpu.driver != "nvidia" and "driver" in options.assume:
            result.warnings.append(estimate(absent))
            _plan_gpu(result, host, gpu, request, options)
        else:
            result.errors.append(absent)
    result.refuse()
    return result


def _plan_gpu(result: MigPlan, host: Host, gpu: Gpu, request: Request, options: Options) -> None:
    if result.skips(gpu, "set the MIG mode", options.unresponsive):
        return
    result.target.gpus.append(gpu)
    if gpu.mig is None and "driver" not in options.assume:
        result.errors += refusals.no_vfs_yet(gpu, host.state) or [refusals.mig_unknown(gpu)]
        return
    after = _present(gpu)
    modes = {gpu.mig.current, gpu.mig.pending} if gpu.mig else {False}  # MIG mode is disabled before the driver is installed
    if request.mode is not None and modes != {request.mode}:
        after = MigState(request.mode, [])
        _plan_mode(result, host, gpu, after.mode, options)
    if request.instances is not None:
        after.instances = _plan_given(result, gpu, request.instances, after.mode, options)
    after.instances.sort()
    result.target.after[gpu.address] = after


def _present(gpu: Gpu) -> MigState:
    return MigState(bool(gpu.mig.current), sorted(one.profile for one in gpu.mig.instances)) if gpu.mig else MigState(False, [])


def _plan_mode(result: MigPlan, host: Host, gpu: Gpu, enabled: bool, options: Options) -> None:
    word = "enabled" if enabled else "disabled"
    doing = "%s MIG mode" % ("enabling" if enabled else "disabling")
    result.errors += sriov_plan.vgpu_guard(gpu, doing, options.assume)
    holders = [one for one in host.users.get(gpu.address, ()) if not _is_harmless(one)]
    if holders:
        # On Ampere, a MIG mode change requires a reset, which would terminate the GPU's users. Later GPUs reject the change while in use.
        result.errors.append(refusals.in_use(gpu.address, holders, doing))
    if gpu.num_vfs and options.cycle_vfs:
        result.steps.append(sriov_plan.off_step(gpu, sriov_plan.Options(has_tool=host.has_tool)))
    elif gpu.num_vfs:
        found = "MIG mode should be %s, but cannot be changed while the GPU's %d VFs are enabled" % (word, gpu.num_vfs)
        remedy = "Set cycle_vfs: true. Alternatively, disable the VFs with the nvidia_sriov module, and enable the VFs after the change."
        result.errors.append(Refusal(found, gpu.address, "no VFs", remedy, "mig_vfs_on"))
    result.steps.append(Step("mig_mode", gpu.address, gpu.address, "%s MIG mode" % ("enable" if enabled else "disable"), enabled=enabled))


def _is_harmless(holder: Holder) -> bool:
    """Returns whether the entry is for nvidia-persistenced, and not for processes that cannot be read."""
    return not holder.remedy and os.path.basename(holder.command.split(" ")[0]).startswith(_HARMLESS)


def _plan_given(result: MigPlan, gpu: Gpu, words: Sequence[str], mode: bool, options: Options) -> list[str]:
    """Plans the GPU instances that the user lists, and returns the profile names of all resulting GPU instances."""
    changing = any(step.kind == "mig_mode" and step.lane == gpu.address for step in result.steps)
    if not mode:
        if words:
            wrong = "GPU instances are requested, but MIG mode is disabled"
            result.errors.append(Refusal(wrong, gpu.address, "enabled MIG mode", "Set mode: enabled.", "mig_off"))
        return []
    if (not gpu.num_vfs or changing) and words and gpu.sriov and "vfs" not in options.assume:
        early = "GPU instances are requested before the VFs are enabled, and enabling the VFs would remove the GPU instances"
        remedy = "Set only the mode, and enable the VFs with the nvidia_sriov module. Then request the GPU instances."
        result.errors.append(Refusal(early, gpu.address, "MIG mode first, then VFs, then GPU instances", remedy, "vfs_off"))
        return []
    listed = gpu.mig.profiles if gpu.mig else []
    profiles = listed or predicted_profiles(gpu.model, words)
    selected, errors = given(gpu, words, (), profiles)
    found = selected.profiles
    staying = [(vgpu, next((one for one in gpu.types if one.short == vgpu.type), None)) for vgpu in gpu.vgpus]
    instances, no_room = plan_instances(gpu, InstanceRequest(found, staying, profiles, predicted=gpu.mig is None or changing))
    errors = errors or no_room
    if errors and (listed or malformed(words)):
        result.errors += errors
        return []
    result.warnings += map(estimate, errors)
    result.steps += steps(gpu, instances)
    result.warnings += instances.warnings
    return [one.name for one in found] if changing or gpu.mig is None else instances.after(gpu)


def lines(gpus: Sequence[Gpu], after: Mapping[str, MigState] | None = None) -> str:
    """Returns the GPUs' MIG state as diff text, with one line per GPU."""
    states = [(gpu.address, (after or {}).get(gpu.address) or _present(gpu)) for gpu in gpus]
    return "".join("%s\n" % " ".join([pf, "MIG", "on" if state.mode else "off", *state.instances]) for pf, state in states)
