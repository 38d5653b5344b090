# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one GPU: which vGPUs stay, go and come. Pure."""

from __future__ import annotations

from .. import frameworks
from ..base import refusals
from ..base.errors import Trouble
from ..hardware import address, vgpu_types
from ..mig import placement as mig_placement, plan as mig_plan, profiles as mig_profiles
from .fit import names_model
from .layout import plain_params
from .order import changes_params
from .placement import Placed, Slot, stable_uuid


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
        chosen, troubles = self._choose_types(wishes, predicted)
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
        troubles = self._check_sizes(chosen, wishes) or self._check_room(chosen, predicted, wishes.mixed)
        if troubles:
            return troubles
        troubles = self._set_mixed(wishes, predicted)
        if not self.mixed[1]:
            self._match(chosen)
        else:
            self.surplus = list(gpu.vgpus)
        troubles += self._guard_surplus()
        troubles += self._place(chosen, predicted)
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

    def _choose_types(self, wishes, predicted):
        chosen, troubles, known = [], [], {}
        for wish in wishes:
            if wish.type not in known:
                known[wish.type] = self._predict(wish) if predicted else vgpu_types.find(wish.type, self.types)
            found = known[wish.type]
            if found:
                chosen.append((wish, found))
                continue
            near = vgpu_types.nearest(wish.type, self.types)
            series = sorted({one.series for one in self.types if one.series})
            remedy = None
            if series and vgpu_types.series_of(wish.type) not in series + [None]:
                remedy = "This driver offers the series %s on this GPU." % ", ".join(series)
                if vgpu_types.series_of(wish.type) == "C":
                    remedy += " Series C comes with NVIDIA AI Enterprise's vGPU manager."
            have = ", ".join(near) if near else ", ".join(one.short for one in self.types)
            if predicted and self.gpu.model:
                have = "names such as %s-4Q" % self.gpu.model.prefix
            troubles.append(
                Trouble(
                    "the type %r (%s) is not offered by this GPU (%s)" % (wish.type, wish.where, self.gpu.name),
                    device=self.gpu.address,
                    wanted=("one of: " if not near else "nearest: ") + have,
                    remedy=remedy,
                    code="unknown_type",
                )
            )
        return chosen, troubles

    def _predict(self, wish):
        """The type that a name means before the driver is there to list its own."""
        word = vgpu_types.gpu_word(wish.type)
        model = self.gpu.model
        if word is None or (model and not names_model(word, model)):
            return None
        size = vgpu_types.framebuffer_of(wish.type)
        slices = vgpu_types.slices_of(wish.type)
        most = model.framebuffer_gib * 1024 // size if model and size else None
        if model and slices:
            most = model.mig_slices // slices
        return vgpu_types.VgpuType("", vgpu_types.short_name(wish.type), size, most or None)

    def _check_sizes(self, chosen, wishes):
        if wishes.mixed or wishes.needs_mig:
            return []
        sizes = {}
        for dummy, one in chosen:
            sizes.setdefault(one.framebuffer_mib, one.short)
        if len(sizes) < 2:
            return []
        return [
            Trouble(
                "vGPUs of different framebuffer sizes are asked for: %s"
                % ", ".join("%s (%s MiB)" % (sizes[size], size) for size in sorted(sizes)),
                device=self.gpu.address,
                wanted="one framebuffer size per GPU",
                remedy="Put the sizes on different GPUs, or set mixed_sizes: true for this GPU if it supports that.",
                code="two_sizes",
            )
        ]

    def _most(self, vgpu_type):
        """How many of a type fit; by the framebuffer's size where the driver doesn't say."""
        if vgpu_type.max_instances:
            return vgpu_type.max_instances
        model = self.gpu.model
        if not model or not vgpu_type.framebuffer_mib:
            return None
        if vgpu_type.slices and model.mig_slices:
            return model.mig_slices // vgpu_type.slices
        return model.framebuffer_gib * 1024 // vgpu_type.framebuffer_mib or None

    def _check_room(self, chosen, predicted, mixed):
        """Limits in vGPUs: each type's max_instance, the number of VFs, and in mixed-size mode the framebuffer."""
        slots = len(self._slots(predicted))
        if mixed or any(one.slices for dummy, one in chosen):
            return self._check_shares(chosen, slots, mixed)
        most = min([self._most(one) for dummy, one in chosen if self._most(one)] or [len(chosen)])
        if len(chosen) <= min(slots, most):
            return []
        name = chosen[0][1].short
        if most <= slots:
            size = chosen[0][1].framebuffer_mib
            why = "max_instance of %s is %d" % (name, most)
            if size:
                why += ": each takes %d MiB of framebuffer" % size
        else:
            why = "the GPU has %d usable VFs, one for each vGPU" % slots
        return [self._too_many(len(chosen), name, min(slots, most), why)]

    def _check_shares(self, chosen, slots, mixed):
        """Limits where types of different sizes share a GPU."""
        troubles, counts = [], {}
        for dummy, one in chosen:
            counts.setdefault(one.short, [one, 0])[1] += 1
        for vgpu_type, count in counts.values():
            most = self._most(vgpu_type)
            if most and count > most:
                troubles.append(self._too_many(count, vgpu_type.short, most, "max_instance of %s is %d" % (vgpu_type.short, most)))
        if len(chosen) > slots:
            troubles.append(self._too_many(len(chosen), "all types", slots, "the GPU has %d usable VFs, one for each vGPU" % slots))
        whole = max([one.framebuffer_mib or 0 for one in self.types if not one.slices] or [0])
        whole = whole or (self.gpu.model.framebuffer_gib * 1024 if self.gpu.model else 0)
        asked = sum(one.framebuffer_mib or 0 for dummy, one in chosen)
        if mixed and not troubles and whole and asked > whole:
            troubles.append(
                Trouble(
                    "the vGPUs take %d MiB of framebuffer in all" % asked,
                    device=self.gpu.address,
                    wanted="at most %d MiB, the whole GPU" % whole,
                    remedy="Take fewer or smaller vGPUs.",
                    code="too_many",
                )
            )
        return troubles

    def _too_many(self, count, name, most, why):
        return Trouble(
            "%d vGPUs of %s are asked for" % (count, name),
            device=self.gpu.address,
            wanted="at most %d, because %s" % (most, why),
            code="too_many",
        )

    def _slots(self, predicted=False):
        gpu = self.gpu
        if predicted and gpu.sriov:
            return [
                Slot(address.vf_address(gpu.address, gpu.vf_offset, gpu.vf_stride, number), number)
                for number in range(gpu.total_vfs)
            ]
        if gpu.sriov:
            return [Slot(vf.address, vf.index) for vf in gpu.vfs if vf.offers_types]
        most = max([one.max_instances or 1 for one in self.types] or [32])
        return [Slot(gpu.address, number) for number in range(most)]

    def _match(self, chosen):
        """Existing vGPUs for wishes: by UUID, then by place in the store, then by type."""
        left = list(self.gpu.vgpus)
        stored = [one.key for one in self.stored]

        def keep(wish, vgpu_type, vgpu):
            left.remove(vgpu)
            chosen.remove((wish, vgpu_type))
            self.placed.append(Placed(Slot(vgpu.parent, vgpu.index), vgpu_type, vgpu.uuid, vgpu, self._params(wish, vgpu.key)))

        def is_it(wish, vgpu):
            if self.uuids:
                return wish.uuid == vgpu.uuid and wish.index in (None, vgpu.index)
            return wish.index is not None and wish.index == vgpu.index

        for wish, vgpu_type in [pair for pair in chosen if pair[0].uuid or pair[0].index is not None]:
            for vgpu in left:
                if is_it(wish, vgpu) and vgpu.type == vgpu_type.short:
                    keep(wish, vgpu_type, vgpu)
                    break

        def rank(vgpu):
            return (not vgpu.holders, vgpu.key not in stored, vgpu.index if vgpu.index is not None else 0, vgpu.key)

        ranked = sorted(left, key=rank)
        # First those that find a vGPU with their parameters, then the others.
        for exact, (wish, vgpu_type) in [(True, pair) for pair in chosen] + [(False, pair) for pair in chosen]:
            if (wish, vgpu_type) not in chosen or wish.uuid or (wish.index is not None and not self.uuids):
                continue
            for vgpu in ranked:
                if vgpu.type != vgpu_type.short or vgpu.uuid in self.explicit:
                    continue
                if not exact or self._intended_params(vgpu) == (wish.params or ""):
                    ranked.remove(vgpu)
                    keep(wish, vgpu_type, vgpu)
                    break
        self.surplus = left

    def _intended_params(self, vgpu):
        """Parameters that a vGPU was made for: a run that broke off may not have set them."""
        if vgpu.key in self.stored_params:
            return self.stored_params[vgpu.key]
        return plain_params(vgpu.params or "")

    def _params(self, wish, key):
        """vgpu_params that a vGPU shall have: as wished; none where only we had set some; None to leave them."""
        if wish.params is not None:
            return wish.params
        return "" if self.stored_params.get(key) else None

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

    def _place(self, chosen, predicted):
        """Places for the wishes that nothing existing matches."""
        slots = self._slots(predicted)
        if self.gpu.sriov:
            busy = {one.slot.index for one in self.placed}
        else:
            busy = set(range(len(self.placed)))
        free = [slot for slot in slots if slot.index not in busy]
        uuids_in_use = set(self.taken) - {vgpu.uuid for vgpu in self.surplus}
        uuids_in_use |= {one.key for one in self.placed} | self.explicit
        stored = [one for one in self.stored if one.key not in uuids_in_use]
        troubles = []
        # Wishes with a place of their own first, so that no other takes it. Larger before smaller: they need more room in one piece.
        order = sorted(chosen, key=lambda pair: (pair[0].index is None, pair[0].uuid is None, -(pair[1].framebuffer_mib or 0)))
        for wish, vgpu_type in order:
            fitting = [
                one
                for one in stored
                if one.type == vgpu_type.short
                and (one.index is None or one.index in [slot.index for slot in free])
            ]
            remembered = next((one for one in fitting if one.params == (wish.params or "")), next(iter(fitting), None))
            index = wish.index
            if index is None and not wish.uuid and remembered:
                index = remembered.index
            slot = next((slot for slot in free if index in (None, slot.index)), None)
            if slot is None:
                troubles.append(
                    Trouble(
                        "VF %s is not there or not free for %s" % (index, vgpu_type.short),
                        device=self.gpu.address,
                        remedy="Look with 'nvidia-vgpu status'.",
                        code="no_slot",
                    )
                )
                continue
            free.remove(slot)
            uuid = wish.uuid
            if not uuid and remembered and remembered.index in (None, slot.index):
                uuid = remembered.uuid
                stored.remove(remembered)
            if self.uuids and not uuid:
                uuid = stable_uuid(self.state.machine_id, self.gpu.address, slot.index, uuids_in_use)
            if not self.uuids:
                uuid = None
            uuids_in_use.add(uuid or slot.parent)
            # On a PF the number only made the UUID: once the vGPU is there, nothing tells it any more.
            self.placed.append(
                Placed(slot if self.gpu.sriov else Slot(slot.parent, None), vgpu_type, uuid, None, wish.params or None)
            )
        self.placed.sort(key=lambda one: (one.slot.index or 0, one.key))
        return troubles


def title(vgpu):
    return "%s (%s on %s)" % (vgpu.uuid, vgpu.type, vgpu.parent) if vgpu.uuid else "%s (%s)" % (vgpu.parent, vgpu.type)
