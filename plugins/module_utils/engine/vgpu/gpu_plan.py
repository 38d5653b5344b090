# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one GPU: which vGPUs stay, go and come. Pure."""

from __future__ import annotations

from .. import frameworks
from ..base import refusals
from ..base.errors import Trouble
from ..hardware import vgpu_types
from ..mig import placement as mig_placement, plan as mig_plan, profiles as mig_profiles
from .fit import check_room, check_sizes, choose_types
from .order import changes_params
from .placement import match, place


class GpuPlanner:
    """The plan of one GPU."""

    def __init__(self, inventory, gpu, state, stored, taken, explicit, options):
        self.inventory = inventory
        self.gpu = gpu
        self.state = state
        self.stored_gpu = stored
        self.stored = stored.vgpus if stored else []
        self.stored_params = {one.key: one.params for one in self.stored}
        self.taken = taken
        self.explicit = explicit
        self.options = options
        self.placed = []
        self.surplus = []
        self.types = list(gpu.types)
        self.uuids = gpu.uuids
        self.instances = None  # what becomes of the GPU instances; None: they are not our matter
        self.mig = None  # names of the profiles to be stored
        self.mixed = None  # (mode that is wanted, whether a step brings it)
        self.warnings = []

    def plan(self, wishes):
        """Fills placed, surplus and what becomes of GPU instances and mixed-size mode; returns troubles."""
        gpu = self.gpu
        ours = self.stored_gpu is not None and self.stored_gpu.mig is not None
        if not wishes and wishes.mig is None:
            self.surplus = list(gpu.vgpus)
            troubles = self._guard_surplus()
            if ours and gpu.mig and gpu.mig.current:
                self.instances, more = mig_placement.plan_instances(gpu, [], [], gpu.mig.profiles)
                troubles += more
            self.mig = [] if ours else None  # until the next layout, so that a run that broke off is finished
            return troubles
        predicted = gpu.framework == "none" and "vfs" in self.options.assume
        if predicted and gpu.sriov:
            self.uuids = frameworks.likely_uuids(self.state.kernel)
        if not predicted and not gpu.types and wishes:
            return refusals.no_types(gpu, self.state)
        troubles = self._check_mode(wishes)
        if troubles:
            return troubles
        chosen, troubles = choose_types(self, wishes, predicted)
        troubles += self._check_uuids(wishes, predicted)
        troubles += [
            Trouble(
                "the type %r (%s) is %s, which lives in a GPU instance of MIG" % (wish.type, wish.where, one.short),
                device=self.gpu.address,
                wanted="its name, which tells so",
                code="unknown_type",
            )
            for wish, one in chosen
            if one.slices and not vgpu_types.slices_of(wish.type)
        ]
        if troubles:
            return troubles
        self.mixed = (wishes.mixed, False)
        troubles = check_sizes(self, chosen, wishes) or check_room(self, chosen, predicted, wishes.mixed)
        if troubles:
            return troubles
        troubles = self._set_mixed(wishes, predicted)
        if not self.mixed[1]:
            match(self, chosen)
        else:
            self.surplus = list(gpu.vgpus)
        troubles += self._guard_surplus()
        troubles += place(self, chosen, predicted)
        return troubles + self._guard_params() + self._plan_instances(wishes)

    def _check_mode(self, wishes):
        """MIG mode as the types need it; it is set before the VFs, so not here."""
        gpu, needs = self.gpu, wishes.needs_mig
        sliced = [wish for wish in wishes if vgpu_types.slices_of(wish.type)]
        shared = [wish for wish in wishes if vgpu_types.gpu_word(wish.type) and not vgpu_types.slices_of(wish.type)]
        others = [one.address for one in self.inventory.gpus if one.has_mig]
        if needs and not gpu.has_mig:
            asked = "%s needs MIG" % sliced[0].type if sliced else "GPU instances are asked for (mig)"
            return [refusals.no_mig(gpu, others, asked)]
        if needs and shared:
            return [
                Trouble(
                    "a GPU is in MIG mode or time-sliced, not both: %s and %s are asked for"
                    % (sliced[0].type if sliced else "GPU instances (mig)", shared[0].type),
                    device=gpu.address,
                    wanted="types with a number of slices only, or types without only",
                    remedy="Put one kind on another GPU.",
                    code="mig_and_time_sliced",
                )
            ]
        if "mig" in self.options.assume:
            return []
        if needs and gpu.mig is None:
            return refusals.no_vfs_yet(gpu, self.state) or [refusals.mig_unknown(gpu)]
        on = bool(gpu.mig and gpu.mig.current)
        if needs != on and (needs or shared):
            return [
                Trouble(
                    "MIG mode is %s, but %s needs it %s"
                    % ("on" if on else "off", (sliced or shared)[0].type if sliced or shared else "mig", "on" if needs else "off"),
                    device=gpu.address,
                    wanted="MIG mode %s" % ("on" if needs else "off"),
                    remedy="Role mig sets it before the VFs are made; by hand: VFs off, module nvidia_mig, VFs on.",
                    code="mig_mode",
                )
            ]
        return []

    def _check_uuids(self, wishes, predicted):
        if self.uuids or predicted:
            return []
        return [
            Trouble(
                "a UUID is given (%s), but on this host vGPUs have none: a VF itself becomes the vGPU" % wish.uuid,
                device=wish.where or self.gpu.address,
                wanted="type and count only",
                remedy="Leave uuid out; VMs get the vGPU by its VF's PCI address.",
                code="uuid_not_here",
            )
            for wish in wishes
            if wish.uuid
        ]

    def _set_mixed(self, wishes, predicted):
        """Whether mixed-size mode must be turned on or off; only an empty GPU takes that."""
        gpu = self.gpu
        was_ours = bool(self.stored_gpu and self.stored_gpu.mixed)
        if not wishes.mixed and not was_ours:
            return []
        supported, on = gpu.mixed or (False, False)
        if wishes.mixed and predicted and gpu.mixed is None:
            self.mixed = (True, True)
            return []
        if wishes.mixed and not supported:
            return [
                Trouble(
                    "mixed_sizes is asked for, but this GPU (%s) does not support it with this driver" % gpu.name,
                    device=gpu.address,
                    wanted="'Heterogeneous Time-Slice Sizes: Supported' in 'nvidia-smi -q'",
                    remedy="Take one framebuffer size per GPU, without mixed_sizes.",
                    code="mixed_unsupported",
                )
            ]
        if wishes.mixed and not on:
            busy = [vgpu for vgpu in gpu.vgpus if vgpu.holders and vgpu.key not in self.options.force_remove]
            self.mixed = (True, True)
            return [refusals.in_use(vgpu.key, vgpu.holders, "turning mixed-size mode on, which takes an empty GPU") for vgpu in busy]
        if not wishes.mixed and on and not gpu.vgpus:
            self.mixed = (False, True)
        elif not wishes.mixed and on:
            self.warnings.append("%s: mixed-size mode stays on until the GPU is empty or the host reboots" % gpu.address)
        return []

    def _plan_instances(self, wishes):
        """GPU instances for the types; troubles where they don't fit."""
        if not wishes.needs_mig:
            return []
        gpu = self.gpu
        predicted = not (gpu.mig and gpu.mig.current)
        profiles = gpu.mig.profiles if gpu.mig else []
        types = [one.type for one in self.placed]
        if not profiles:
            words = {mig_plan.plain_profile(word) for word in wishes.mig or ()}
            words |= {"%dg.%dgb" % (one.slices, (one.framebuffer_mib or 1024) // 1024) for one in types}
            profiles = mig_profiles.predicted_profiles(words)
        if wishes.mig is not None:
            found, troubles = mig_plan.given(gpu, wishes.mig, types, profiles)
        else:
            found, troubles = mig_plan.needed(gpu, types, profiles)
        if troubles:
            return troubles
        staying = [one for one in self.placed if one.vgpu]
        self.instances, troubles = mig_placement.plan_instances(gpu, found, [(one.vgpu, one.type) for one in staying], profiles, predicted)
        idle = [one for one in staying if not one.vgpu.holders]
        if idle and [one for one in troubles if one.code == "mig_no_room"]:
            # Their GPU instances are in the way: vGPUs that nobody uses are made again in others.
            busy = [(one.vgpu, one.type) for one in staying if one not in idle]
            instances, wrong = mig_placement.plan_instances(gpu, found, busy, profiles, predicted)
            if not wrong:
                self.instances, troubles = instances, []
                self.surplus += [one.vgpu for one in idle]
                for one in idle:
                    one.vgpu = None
        self.mig = sorted(one.name for one in found)
        self.warnings += self.instances.warnings
        return troubles

    def _guard_params(self):
        """A running VM has read its parameters: they are changed only while nobody uses the vGPU."""
        return [
            refusals.in_use(one.key, one.vgpu.holders, "changing its vgpu_params")
            for one in self.placed
            if one.vgpu and one.vgpu.holders and changes_params(one)
        ]

    def _guard_surplus(self):
        return [
            refusals.in_use(
                title(vgpu),
                vgpu.holders,
                "removing it",
                "force_remove (role variable vgpu_force_remove)",
            )
            for vgpu in self.surplus
            if vgpu.holders and vgpu.key not in self.options.force_remove
        ]


def title(vgpu):
    return "%s (%s on %s)" % (vgpu.uuid, vgpu.type, vgpu.parent) if vgpu.uuid else "%s (%s)" % (vgpu.parent, vgpu.type)
