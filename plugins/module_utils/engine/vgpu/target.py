# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes for the initial state and the target of a vGPU plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Mapping, Sequence, cast

from ..base.plan import Plan
from ..frameworks import likely_uuids
from ..hardware import address
from ..hardware.gpu import Gpu, Vgpu
from ..hardware.vgpu_types import VgpuType
from ..mig.placement import Instances
from ..read.host import HostState, Identity
from ..read.inventory import Inventory
from ..state.layout_file import StoredGpu
from ..system.mdevctl import Definition
from .layout import GpuSpec, VgpuSpec, plain_params


@dataclass(eq=False, repr=False)
class Host:
    """The host's initial state.

    ``stored`` contains the GPUs in the layout file. ``definitions`` contains mdevctl definitions keyed by UUID.
    ``defined`` contains the keys of vGPUs in VM definitions.
    """

    inventory: Inventory
    state: HostState | Identity
    stored: Mapping[str, StoredGpu] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    defined: Collection[str] = ()

    @property
    def facts(self) -> HostState:
        """Returns the complete host state, which a run reads unless all GPUs that get vGPUs offer vGPU types."""
        return cast(HostState, self.state)


@dataclass(eq=False, repr=False)
class Options:
    """The options for a vGPU plan.

    ``force_remove`` lists vGPUs, by UUID or VF, that may be removed while in use. ``mdevctl`` is true if mdevctl definitions are managed.
    ``persist`` is true if the layout is stored for the boot. Check mode uses the check_mode_assume module option.
    ``unresponsive`` is one of plan.UNRESPONSIVE_POLICIES. ``keeps`` is true if vGPUs that are not requested remain, with their GPU instances.
    """

    force_remove: Sequence[str] = ()
    mdevctl: bool = False
    persist: bool = True
    assume: Sequence[str] = ()
    unresponsive: str = "fail"
    keeps: bool = False

    def __post_init__(self) -> None:
        self.force_remove = [address.parse(one) if address.is_address(one) else str(one).lower() for one in self.force_remove]


@dataclass(eq=False, repr=False)
class GpuRequest:
    """The request for one GPU.

    ``explicit`` maps every UUID in the user's request to whether the UUID's GPU responds. ``stored`` is the GPU in the layout file. ``known``
    contains the GPU's stored vGPUs by key. ``predicted`` is true if the GPU's VFs are enabled later. ``uuids`` is true if the GPU's vGPUs have UUIDs.
    """

    gpu: Gpu
    spec: GpuSpec
    host: Host
    options: Options
    explicit: Mapping[str, bool]

    def __post_init__(self) -> None:
        self.stored = self.host.stored.get(self.gpu.address)
        self.known = {one.key: one for one in self.stored.vgpus} if self.stored else {}
        self.predicted = self.gpu.framework == "none" and "vfs" in self.options.assume
        self.lists_profiles = bool(self.gpu.mig and self.gpu.mig.profiles)  # whether the driver lists GPU instance profiles
        self.uuids = likely_uuids(self.host.state.kernel) if self.predicted and self.gpu.sriov else self.gpu.uuids

    def gives_away(self, vgpu: Vgpu) -> bool:
        """Returns whether a request assigns the vGPU's UUID to a responsive GPU."""
        return self.explicit.get(vgpu.uuid or "", False)


@dataclass(eq=False, repr=False)
class Slot:
    """A vGPU slot: a VF or, without SR-IOV, one of several slots on the PF."""

    parent: str
    index: int | None


@dataclass(eq=False, repr=False)
class Placed:
    """A vGPU in a slot.

    ``spec`` is the vGPU's request. ``vgpu`` is the existing vGPU, or None if the vGPU must be created. ``params`` is None to keep current parameters.
    """

    slot: Slot
    type: VgpuType
    spec: VgpuSpec
    uuid: str | None
    vgpu: Vgpu | None = None
    params: str | None = None

    @property
    def key(self) -> str:
        """The vGPU's key, which has the same value as Vgpu.key."""
        return self.uuid or self.slot.parent

    @property
    def present_params(self) -> str:
        """Returns the vGPU's current vgpu_params."""
        return plain_params(self.vgpu.params) if self.vgpu else ""

    @property
    def changes_params(self) -> bool:
        """Returns whether the vGPU's vgpu_params must be changed."""
        return self.params not in (None, self.present_params)


@dataclass(eq=False, repr=False)
class GpuTarget:
    """The target of one GPU.

    ``placed`` contains the GPU's vGPUs, or is None if the layout does not include the GPU. ``removed`` contains vGPUs to remove, and ``left``
    contains other vGPUs that remain. ``instances`` contains the planned GPU instances, or is None if GPU instances are not managed. ``mig`` contains
    the profile names to store. ``mixed`` is the mixed-size mode in layout file format, and ``sets_mixed`` is true if a step sets mixed-size mode.
    See mig.selection.Selected for ``first``.
    """

    placed: list[Placed] | None = None
    removed: list[Vgpu] = field(default_factory=list)
    left: Sequence[Vgpu] = ()
    instances: Instances | None = None
    mig: list[str] | None = None
    mixed: bool | None = None
    sets_mixed: bool = False
    first: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def in_order(self) -> list[Placed]:
        """Returns the placed vGPUs in creation order. Larger vGPUs come first, because larger vGPUs need more contiguous space."""
        found = list(self.placed or ())
        if not self.mixed and not self.instances:
            return found
        left = dict(self.first)
        later = []
        found.sort(key=lambda one: -(one.type.framebuffer_mib or 0))
        for one in [one for one in found if one.vgpu is None]:
            key = (one.type.slices or 0, one.type.framebuffer_mib or 0)
            left[key] = left.get(key, 0) - 1
            if left[key] < 0:
                later.append(one)
        return [one for one in found if one not in later] + later


@dataclass(eq=False, repr=False)
class Target:
    """The host's planned vGPUs keyed by GPU, and the layout file's text if the file changes.

    ``forgets`` is true if the run must delete entries from the layout file after the steps.
    """

    gpus: dict[str, GpuTarget] = field(default_factory=dict)
    store_text: str | None = None
    forgets: bool = False

    def of(self, pf: str) -> GpuTarget:
        """Returns a GPU's target, or an empty target if the plan does not change the GPU."""
        return self.gpus.get(pf) or GpuTarget()


LayoutPlan = Plan[Target]


def titled(type_name: str, uuid: str | None) -> str:
    """Returns a vGPU as text: the type, followed by the UUID if the vGPU has a UUID."""
    return "%s (%s)" % (type_name, uuid) if uuid else type_name
