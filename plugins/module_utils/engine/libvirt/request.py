# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM should have which vGPUs, as a user writes it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..base.errors import EngineError, Trouble, raise_if_any, shown
from ..hardware import address
from ..vgpu.layout import MOST, check_uuid


@dataclass
class VgpuRequest:
    """One vGPU of a VM. Exactly one of uuid, vf (address) and type identifies it; gpu: address or model, with a type only.

    where: of the options, for messages. display, ramfb: None where the user does not set them.
    """

    where: str
    uuid: Optional[str] = None
    vf: Optional[str] = None
    type: Optional[str] = None
    gpu: Optional[str] = None
    display: Optional[bool] = None
    ramfb: Optional[bool] = None


@dataclass
class DomainRequest:
    """A VM by its name, and the vGPUs that it should have."""

    name: str
    vgpus: Sequence[VgpuRequest]
    where: str


def parse(domains: Sequence[Mapping[str, Any]]) -> List[DomainRequest]:
    """The requests; raises EngineError with everything that is wrong with them."""
    requests: List[DomainRequest] = []
    troubles: List[Trouble] = []
    taken: Dict[str, str] = {}  # VM by UUID or VF
    for number, domain in enumerate(domains):
        where = "domains[%d]" % number
        name = domain["name"].strip()
        if not name or "/" in name or "\n" in name:
            troubles.append(Trouble("%s is no VM's name" % shown(domain["name"]), device=where, wanted="a name as 'virsh list --all' has it", code="bad_name"))
        if name in [one.name for one in requests]:
            troubles.append(Trouble("the VM %s is named a second time" % name, device=where, remedy="Put all of its vGPUs into one place.", code="twice"))
        vgpus: List[VgpuRequest] = []
        for index, entry in enumerate(domain["vgpus"]):
            try:
                vgpus += _vgpus(entry, "%s.vgpus[%d]" % (where, index))
            except EngineError as exc:
                troubles += exc.troubles
        for one in vgpus:
            key = one.uuid or one.vf
            if key and key in taken:
                troubles.append(
                    Trouble("%s is wanted a second time" % key, device=one.where, wanted="each vGPU in one VM (%s has it)" % taken[key], code="twice")
                )
            elif key:
                taken[key] = name
        requests.append(DomainRequest(name, vgpus, where))
    raise_if_any(troubles)
    return requests


def _vgpus(entry: Mapping[str, Any], where: str) -> List[VgpuRequest]:
    """The requests of one entry, as many as it counts."""
    ways = [name for name in ("type", "uuid", "vf") if entry.get(name)]
    count = entry.get("count")
    if len(ways) != 1:
        found = "%s are given" % " and ".join(ways) if ways else "neither type, uuid nor vf is given"
        raise EngineError(Trouble(found, device=where, wanted="one of type, uuid and vf", code="bad_vgpu"))
    troubles = []
    if ways != ["type"]:
        troubles += [
            Trouble("%s says which vGPU it is, so %s means nothing" % (ways[0], name), device=where, remedy="Leave %s out." % name, code="bad_vgpu")
            for name, given in (("count", count is not None), ("gpu", bool(entry.get("gpu"))))
            if given
        ]
    if count is not None and not 1 <= count <= MOST:
        troubles.append(Trouble("count is %d" % count, device=where, wanted="1 to %d" % MOST, code="bad_count"))
    if entry.get("ramfb") and not entry.get("display"):
        troubles.append(Trouble("ramfb is wanted without a display", device=where, wanted="display: true with it", code="bad_display"))
    uuid = vf = None
    try:
        uuid = check_uuid(entry["uuid"], where) if entry.get("uuid") else None
        vf = address.parse(entry["vf"]) if entry.get("vf") else None
    except EngineError as exc:
        for one in exc.troubles:
            one.device = where
        troubles += exc.troubles
    raise_if_any(troubles)
    options = {name: entry.get(name) for name in ("type", "gpu", "display", "ramfb")}
    return [VgpuRequest(where, uuid, vf, **options)] * (count or 1)
