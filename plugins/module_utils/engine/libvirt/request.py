# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM should have which vGPUs, as a user writes it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ..base.errors import EngineError, Refusal, raise_if_any, shown, error
from ..vgpu.layout import MOST, check_ids


@dataclass(eq=False, repr=False)
class VgpuRequest:
    """One vGPU of a VM. Exactly one of uuid, vf (address) and type identifies it; gpu: address or model, with a type only.

    where: of the options, for messages. display, ramfb: None where the user does not set them.
    """

    where: str
    uuid: str | None
    vf: str | None
    type: str | None
    gpu: str | None
    display: bool | None
    ramfb: bool | None


@dataclass(eq=False, repr=False)
class DomainRequest:
    """A VM by its name, and the vGPUs that it should have."""

    name: str
    vgpus: Sequence[VgpuRequest]
    where: str


def parse(domains: Sequence[Mapping[str, Any]]) -> list[DomainRequest]:
    """The requests; raises EngineError with everything that is wrong with them."""
    requests: list[DomainRequest] = []
    errors: list[Refusal] = []
    taken: dict[str, str] = {}  # VM by UUID or VF
    for number, domain in enumerate(domains):
        name, where = domain["name"], "domains[%d]" % number  # with its spaces, which libvirt keeps
        if not name.strip() or "/" in name or "\n" in name:
            expected = "a name as 'virsh list --all' has it"
            errors.append(Refusal("%s is no VM's name" % shown(domain["name"]), device=where, expected=expected, code="bad_name"))
        if name in [one.name for one in requests]:
            remedy = "Put all of its vGPUs into one entry."
            errors.append(Refusal("the VM %s is named a second time" % name, device=where, remedy=remedy, code="twice"))
        vgpus: list[VgpuRequest] = []
        for index, entry in enumerate(domain["vgpus"]):
            try:
                vgpus += _vgpus(entry, "%s.vgpus[%d]" % (where, index))
            except EngineError as exc:
                errors += exc.errors
        for one in vgpus:
            key = one.uuid or one.vf
            if key and key in taken:
                where_it_is = "each vGPU in one VM (%s has it)" % taken[key]
                errors.append(Refusal("%s is expected a second time" % key, device=one.where, expected=where_it_is, code="twice"))
            elif key:
                taken[key] = name
        requests.append(DomainRequest(name, vgpus, where))
    raise_if_any(errors)
    return requests


def _vgpus(entry: Mapping[str, Any], where: str) -> list[VgpuRequest]:
    """The requests of one entry, as many as it counts."""
    ways = [name for name in ("type", "uuid", "vf") if entry.get(name)]
    count = entry.get("count")
    if len(ways) != 1:
        found = "%s are given" % " and ".join(ways) if ways else "neither type, uuid nor vf is given"
        raise error(found, device=where, expected="one of type, uuid and vf", code="bad_vgpu")
    errors = [
        Refusal("%s already selects the vGPU, so %s has no effect" % (ways[0], name), device=where, remedy="Leave %s out." % name, code="bad_vgpu")
        for name, given in (("count", count is not None), ("gpu", entry.get("gpu")))
        if given and ways != ["type"]
    ]
    if count is not None and not 1 <= count <= MOST:
        errors.append(Refusal("count is %d" % count, device=where, expected="1 to %d" % MOST, code="bad_count"))
    if entry.get("ramfb") and not entry.get("display"):
        errors.append(Refusal("ramfb is expected without a display", device=where, expected="display: true with it", code="bad_display"))
    uuid = vf = None
    try:
        uuid, vf = check_ids(entry.get("uuid"), entry.get("vf"), where)
    except EngineError as exc:
        errors += exc.errors
    raise_if_any(errors)
    return [VgpuRequest(where, uuid, vf, **{name: entry.get(name) for name in ("type", "gpu", "display", "ramfb")})] * (count or 1)
