# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses the user's layout (types and counts for each GPU), and selects entries for each GPU. This module does not access the host."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Collection, Mapping, Sequence

from ..base import refusals
from ..base.errors import EngineError, Refusal, shown, error
from ..hardware import address, catalog, vgpu_types
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import VgpuType
from ..mig.selection import Request as MigRequest
from ..read.inventory import SELECTORS, Inventory

# The maximum count, which exceeds the capacity of any GPU. The limit prevents a typing error from exhausting the memory.
MOST = 1024


@dataclass(eq=False, repr=False)
class VgpuSpec:
    """One requested vGPU.

    ``uuid`` and ``index`` (the VF number) are None if the engine chooses the values. ``vf`` is the VF address until the number is known. ``where`` is
    the layout entry. ``params`` contains the vgpu_params, or is None if not set by the user. See fabric.plan.Card.group for ``fabric``. ``managed``
    is False for a vGPU that must only be kept, without changes to parameters and definitions.
    """

    type: str
    uuid: str | None = None
    index: int | None = None
    where: str = ""
    params: str | None = None
    managed: bool = True
    vf: str | None = None
    fabric: str | None = None


@dataclass(eq=False, repr=False)
class GpuSpec:
    """The request for one GPU.

    ``mixed`` requests mixed-size mode. ``mig`` lists GPU instance profiles, or is None if the vGPU types determine the GPU instances. ``removes``
    contains the keys of vGPUs to be removed, and all other vGPUs remain. If ``removes`` is None, all vGPUs that are not requested are removed.
    """

    vgpus: list[VgpuSpec] = field(default_factory=list)
    mixed: bool = False
    mig: list[str] | None = None
    removes: Collection[str] | None = None

    @property
    def needs_mig(self) -> bool:
        """Returns whether the GPU must be in MIG mode."""
        return self.mig is not None or any(vgpu_types.slices_of(word) for word in {one.type for one in self.vgpus})

    @property
    def numbered(self) -> set[str]:
        """Returns the types that the user specifies by number."""
        return {one.type for one in self.vgpus if not vgpu_types.gpu_word(one.type)}

    def add(self, other: GpuSpec) -> None:
        """Adds another spec's request to this spec."""
        self.vgpus += [replace(one) for one in other.vgpus]
        self.mixed = self.mixed or other.mixed
        if other.mig is not None:
            self.mig = (self.mig or []) + other.mig


@dataclass(eq=False, repr=False)
class Entry(GpuSpec):
    """A layout entry, which is a request for each GPU that the entry's selectors match."""

    selectors: list[str] = field(default_factory=list)
    where: str = ""


def check_uuid(text: object, where: str) -> str:
    """Returns the UUID in the kernel's format (36 characters, lower case). Raises EngineError for other text."""
    word = str(text).strip().lower()
    if not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", word):
        expected = "36 characters, such as 3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
        raise error("%s is not a UUID" % shown(text), device=where, expected=expected, code="bad_uuid")
    return word


def check_ids(uuid: object, parent: object, where: str) -> tuple[str | None, str | None]:
    """Returns a UUID and a PCI address in the kernel's format, with None for a missing value. Raises EngineError for invalid values."""
    try:
        return check_uuid(uuid, where) if uuid else None, address.parse(parent) if parent else None
    except EngineError as exc:
        for one in exc.errors:
            one.device = where
        raise


def plain_params(text: object) -> str:
    """Returns vgpu_params (frame_rate_limiter=0, disable_vnc=1) without spaces, for comparisons, or an empty string for None."""
    return ",".join(part.strip() for part in str("" if text is None else text).split(",") if part.strip())


def parse(layout: Any, name: str = "layout") -> tuple[list[Entry], list[Refusal]]:
    """Returns the entries in a layout (a list of {gpu, vgpus, mixed_sizes, mig}), and errors in the layout."""
    if not isinstance(layout, list):
        return [], _wrong_shape(layout, name, "a list of entries, each with gpu and vgpus").errors
    entries: list[Entry] = []
    errors: list[Refusal] = []
    seen: dict[str, str] = {}
    for number, item in enumerate(layout):
        where = "%s[%d]" % (name, number)
        try:
            entry = _entry(item, where)
        except EngineError as exc:
            errors += exc.errors
            continue
        for position, vgpu in enumerate(item.get("vgpus") or []):
            try:
                entry.vgpus += _vgpus(vgpu, "%s.vgpus[%d]" % (where, position), seen)
            except EngineError as exc:
                errors += exc.errors
        entries.append(entry)
    return entries, errors


def _entry(item: Any, where: str) -> Entry:
    """Returns a layout entry without vGPUs. Raises EngineError if the entry's format is invalid."""
    if not isinstance(item, dict):
        raise _wrong_shape(item, where, "an entry with gpu and vgpus")
    selectors, vgpus, mig = item.get("gpu"), item.get("vgpus"), item.get("mig")
    selectors = selectors if isinstance(selectors, list) else [selectors]
    if not selectors or not all(selectors) or any(isinstance(word, (list, dict)) for word in selectors):
        raise error("the entry names no GPU", device=where, expected="gpu: %s" % SELECTORS)
    if vgpus is not None and not isinstance(vgpus, list):
        raise _wrong_shape(vgpus, where + ".vgpus", "a list of vGPUs, such as [{type: A40-24Q}]")
    if mig is not None and not (isinstance(mig, list) and all(isinstance(word, str) for word in mig)):
        raise _wrong_shape(mig, where + ".mig", "a list of profiles, such as [3g.20gb]")
    return Entry(mixed=bool(item.get("mixed_sizes")), mig=mig, selectors=[str(word).strip() for word in selectors], where=where)


def _wrong_shape(value: object, where: str, expected: str) -> EngineError:
    return error("the value is %s" % shown(value), device=where, expected=expected, code="wrong_shape")


def _vgpus(vgpu: Any, where: str, seen: dict[str, str]) -> list[VgpuSpec]:
    """Returns the vGPUs in one element. Raises EngineError if the element is invalid. ``seen`` maps UUIDs to layout entries."""
    if not isinstance(vgpu, dict):
        raise _wrong_shape(vgpu, where, "a vGPU, such as {type: A40-24Q}")
    count = 1 if vgpu.get("count") is None else vgpu["count"]
    uuid, params = vgpu.get("uuid"), vgpu.get("vgpu_params")
    plain = None if params is None else plain_params(params)
    if isinstance(params, (bool, list, dict)) or (plain and not re.match(r"^[\x20-\x7e]+$", plain)):
        raise error("vgpu_params is %s" % shown(params), device=where, expected="letters, digits, and punctuation on one line", code="bad_params")
    if not vgpu.get("type"):
        raise error("the type is missing", device=where, expected="type: a name such as A40-24Q")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST:
        raise error("count is %s" % shown(count), device=where, expected="a number from 0 to %d" % MOST)
    spec = VgpuSpec(str(vgpu["type"]), where=where, params=plain, fabric=str(vgpu.get("fabric") or "").strip() or None)
    if vgpu.get("vf") not in (None, ""):
        if count != 1:
            raise error("vf is set together with count %d" % count, device=where, expected="count 1, because a VF has one vGPU")
        spec.index, spec.vf = _vf(vgpu["vf"], where)
    if uuid not in (None, ""):
        if count != 1:
            raise error("uuid is set together with count %d" % count, device=where, expected="count 1, because a UUID identifies one vGPU")
        spec.uuid = check_uuid(uuid, where)
        if spec.uuid in seen:
            raise EngineError(duplicate(spec.uuid, where, seen[spec.uuid]))
        seen[spec.uuid] = where
    return [spec] * count


def _vf(value: object, where: str) -> tuple[int | None, str | None]:
    """Returns a VF as a number, or as an address in the kernel's format. Raises EngineError for other values."""
    word = str(value).strip()
    if re.fullmatch("[0-9]{1,5}", word):
        return int(word), None
    if not address.is_address(word):
        raise error("vf is %s" % shown(value), device=where, expected="the number of a VF, from 0, or the address of a VF, such as 0000:e8:00.4", code="bad_vf")
    return None, address.parse(word)


def duplicate(uuid: str, where: str, first: str) -> Refusal:
    """Returns the error if a request assigns the same UUID to two vGPUs."""
    return Refusal("the UUID %s is also set in %s" % (uuid, first), device=where, expected="each UUID only once", code="duplicate_uuid")


def _rank(word: str) -> int:
    """Returns the specificity of a selector for a GPU. The most specific selector takes precedence."""
    if address.is_address(word) or address.is_gpu_uuid(word):
        return 5
    if word.lower() == "all":
        return 1
    ids = address.pci_ids(word)
    if ids:
        return 4 if ids[1] else 3
    return 3 if catalog.is_product(word) else 2


def by_gpu(entries: Sequence[Entry], inventory: Inventory) -> tuple[dict[str, GpuSpec], list[Refusal]]:
    """Returns the request for each GPU in the layout, keyed by GPU address, and errors.

    For each GPU, only the entries with the most specific selector apply. The precedence is address, PCI IDs or product, model, and ``all``. Entries
    with equal precedence are combined. PCI IDs, products, and models that are in the table but not on this host are ignored, because hosts with
    different GPUs can share a layout.
    """
    specs: dict[str, GpuSpec] = {}
    rank: dict[str, int] = {}
    errors: list[Refusal] = []
    absent: list[str] = []
    for entry in entries:
        named: dict[str, int] = {}  # rank keyed by GPU: if several selectors in an entry match a GPU, the GPU gets the entry's vGPUs once
        for word in entry.selectors:
            gpus, wrong = inventory.select([word])
            if not gpus and (address.pci_ids(word) or catalog.is_model(word)):
                absent.append(word)
                continue
            for one in wrong:
                one.device = one.device or entry.where
            errors += wrong
            named.update({gpu.address: max(_rank(word), named.get(gpu.address, 0)) for gpu in gpus})
        for pf, here in named.items():
            if here > rank.get(pf, 0):
                specs[pf], rank[pf] = GpuSpec(), here
            if here == rank[pf]:
                specs[pf].add(entry)
    errors += _absent_models(absent, inventory, specs, bool(errors)) + _given_twice(specs)
    return specs, errors + [one for gpu in inventory.gpus if gpu.address in specs for one in _find_vfs(gpu, specs[gpu.address])]


def _find_vfs(gpu: Gpu, spec: GpuSpec) -> list[Refusal]:
    """Sets the numbers of VFs that the layout specifies by address. Returns errors for VFs that do not belong to the GPU."""
    errors = []
    for one in [one for one in spec.vgpus if one.vf or one.index is not None]:
        numbers = {vf.address: vf.index for vf in gpu.vfs}
        if gpu.sriov and not numbers:
            numbers = {address.vf_address(gpu.address, gpu.vf_offset, gpu.vf_stride, number): number for number in range(gpu.total_vfs)}
        if one.vf:
            one.index = numbers.get(one.vf)
        if one.index not in numbers.values():
            found = "this GPU has no VF %s" % (one.vf or one.index)
            have = "one of the GPU's %d VFs" % len(numbers) if numbers else "no vf, because vGPUs are created on the GPU itself"
            errors.append(Refusal("%s (%s)" % (found, one.where), device=gpu.address, expected=have, code="bad_vf"))
            one.index = None
    return errors


def _named(gpus: Sequence[Gpu]) -> str:
    return ", ".join("%s (%s)" % (gpu.address, gpu.name) for gpu in gpus)


def _absent_models(absent: Sequence[str], inventory: Inventory, specs: Mapping[str, GpuSpec], wrong: bool) -> list[Refusal]:
    """Returns errors for models that are not on this host, if no entry matches or the layout omits some GPUs.

    ``wrong`` is true if other errors exist.
    """
    words, left = ", ".join(absent), [gpu for gpu in inventory.gpus if (gpu.model or gpu.offers) and gpu.address not in specs]
    if absent and not specs and not wrong:
        return [Refusal(
            "the layout is for %s, but this host has %s" % (words, _named(inventory.gpus) or "no NVIDIA GPU"),
            expected="an entry for a GPU on this host", code="unknown_gpu",
        )]
    if absent and specs and left:
        # An incorrect model in an entry would otherwise cause the removal of all vGPUs on the intended GPUs.
        return [Refusal(
            "the layout has an entry for %s, which this host does not have, but no entry for %s" % (words, _named(left)),
            expected="an entry for each GPU on this host", code="gpu_not_in_layout",
            remedy="Correct the model, or add an entry with an empty vgpus list for these GPUs (gpu: all applies to all other GPUs).",
        )]
    return []


def _given_twice(specs: Mapping[str, GpuSpec]) -> list[Refusal]:
    """Returns errors for UUIDs that are requested on two GPUs."""
    errors = []
    given: dict[str, str] = {}
    for pf, spec in sorted(specs.items()):
        for one in [one for one in spec.vgpus if one.uuid]:
            if one.uuid in given:
                found = "the UUID %s is requested for both %s and %s" % (one.uuid, given[one.uuid], pf)
                errors.append(Refusal(found, device=one.where, expected="each UUID for only one vGPU", code="duplicate_uuid"))
            given[str(one.uuid)] = pf
    return errors


def named(gpu: Gpu, spec: GpuSpec, types: Sequence[VgpuType] = ()) -> GpuSpec:
    """Returns the spec with type names instead of numbers if the driver lists the types, because type names determine MIG mode.

    ``types`` contains the types that nvidia-smi lists if no VF lists types.
    """
    names = {word: found.short for word, found in ((word, vgpu_types.find(word, gpu.types or types)) for word in spec.numbered) if found}
    return replace(spec, vgpus=[replace(one, type=names.get(one.type, one.type)) for one in spec.vgpus]) if names else spec


def two_kinds(gpu: Gpu, spec: GpuSpec) -> list[Refusal]:
    """Returns the error if both MIG-backed and time-sliced types are requested for one GPU."""
    sliced = [one.type for one in spec.vgpus if vgpu_types.slices_of(one.type)]
    shared = [one.type for one in spec.vgpus if vgpu_types.gpu_word(one.type) and not vgpu_types.slices_of(one.type)]
    if not (spec.needs_mig and shared):
        return []
    both = "%s and %s are requested, but a GPU is either in MIG mode or time-sliced" % (sliced[0] if sliced else "GPU instances (mig)", shared[0])
    expected = "either only types with a number of slices or only types without slices"
    return [Refusal(both, gpu.address, expected, "Use another GPU for one kind of vGPU.", "mig_and_time_sliced")]


def mig_requests(
    specs: Mapping[str, GpuSpec], inventory: Inventory, listed: Mapping[str, Sequence[VgpuType]]
) -> tuple[dict[str, MigRequest], list[Refusal]]:
    """Returns the MIG mode that the vGPU types require for each GPU in the layout, and errors.

    If types are only known by number, the GPU keeps the current mode. ``listed`` contains the types keyed by GPU if no VF lists types.
    """
    requests: dict[str, MigRequest] = {}
    errors: list[Refusal] = []
    for gpu in inventory.gpus:
        spec = named(gpu, specs.get(gpu.address) or GpuSpec(), listed.get(gpu.address, ()))
        errors += two_kinds(gpu, spec)
        if spec.needs_mig:
            requests[gpu.address] = MigRequest(True)
        elif spec.vgpus and gpu.has_mig:
            requests[gpu.address] = MigRequest(False if any(vgpu_types.gpu_word(one.type) for one in spec.vgpus) else None)
    return requests, errors


def guesses(gpu: Gpu, spec: GpuSpec) -> list[str]:
    """Returns warnings about a GPU and types that are missing in the tables, before the driver lists the types."""
    found, model = refusals.unlisted_warnings([gpu]), gpu.model
    for name in dict.fromkeys(one.type for one in spec.vgpus):
        if not vgpu_types.gpu_word(name):
            found.append("%s: the type %s and the requirements of the type are unknown until the driver lists the vGPU types" % (gpu.address, name))
        elif model and not model.expects(name):
            text = "%s: the type %s is unknown for this GPU (%s; expected: names such as %s-4Q). The installed driver determines the offered types"
            found.append(text % (gpu.address, name, gpu.name, model.prefix))
        elif model and model.needs_ai_enterprise(name):
            found.append("%s: only NVIDIA AI Enterprise's vGPU manager offers the type %s on this GPU" % (gpu.address, name))
    return found
