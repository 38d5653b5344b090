# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initial state and the target of a plan of vGPUs, as values."""

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
    """The initial state. stored: of the layout file, by GPU. definitions: mdevctl's, by UUID. defined: keys of the vGPUs in VMs' definitions."""

    inventory: Inventory
    state: HostState | Identity
    stored: Mapping[str, StoredGpu] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    defined: Collection[str] = ()

    @property
    def facts(self) -> HostState:
        """The complete state. It is read unless all GPUs that get vGPUs offer vGPU types."""
        return cast(HostState, self.state)


@dataclass(eq=False, repr=False)
class Options:
    """force_remove: vGPUs that may be removed although in use, by UUID or VF. mdevctl: whether definitions are managed.

    persist: whether the layout is stored for the boot. assume: see the module's option. unresponsive: see plan.UNRESPONSIVE_POLICIES.
    keeps: whether vGPUs that are not requested, and their GPU instances, stay.
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
    """One GPU and its request. explicit: all UUIDs that the whole request names, and whether the GPU of each responds.

    stored: the GPU in the layout file. known: its stored vGPUs, by key. predicted: its VFs are enabled later. uuids: whether its vGPUs have UUIDs.
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
        self.lists_profiles = bool(self.gpu.mig and self.gpu.mig.profiles)  # profiles of GPU instances
        self.uuids = likely_uuids(self.host.state.kernel) if self.predicted and self.gpu.sriov else self.gpu.uuids

    def gives_away(self, vgpu: Vgpu) -> bool:
        """Whether a vGPU's UUID is reserved for a request that names it, on a GPU that can get it."""
        return self.explicit.get(vgpu.uuid or "", False)


@dataclass(eq=False, repr=False)
class Slot:
    """The slot for one vGPU: a VF or, without SR-IOV, one of several on the PF."""

    parent: str
    index: int | None


@dataclass(eq=False, repr=False)
class Placed:
    """A vGPU in its slot. spec: its request. vgpu: the existing vGPU, or None to create it. params: None to keep them."""

    slot: Slot
    type: VgpuType
    spec: VgpuSpec
    uuid: str | None
    vgpu: Vgpu | None = None
    params: str | None = None

    @property
    def key(self) -> str:
        """The vGPU's key, as Vgpu.key."""
        return self.uuid or self.slot.parent

    @property
    def present_params(self) -> str:
        """The vGPU's current vgpu_params."""
        return plain_params(self.vgpu.params) if self.vgpu else ""

    @property
    def changes_params(self) -> bool:
        """Whether the vGPU's vgpu_params must be changed."""
        return self.params not in (None, self.present_params)


@dataclass(eq=False, repr=False)
class GpuTarget:
    """The target of one GPU.

    placed: its vGPUs; None if the layout does not name the GPU. removed: vGPUs to remove; left: others that stay. instances: the planned GPU
    instances, None if they are not managed. mig: names of the profiles to store. mixed: mixed-size mode, as in the layout file; sets_mixed: whether
    a step sets the mode.
    first: see mig.selection.Selected.
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
        """The placed vGPUs in the order of creation: larger ones first, because they need more contiguous space."""
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
    """The vGPUs of the host by GPU, and the text of the layout file if it changes. forgets: whether the file lists vGPUs to remove."""

    gpus: dict[str, GpuTarget] = field(default_factory=dict)
    store_text: str | None = None
    forgets: bool = False

    def of(self, pf: str) -> GpuTarget:
        """The target of a GPU; an empty one if the plan does not change it."""
        return self.gpus.get(pf) or GpuTarget()


LayoutPlan = Plan[Target]


def titled(type_name: str, uuid: str | None) -> str:
    """A vGPU as text: its type, and its UUID if it has one."""
    return "%s (%s)" % (type_name, uuid) if uuid else type_name
