# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses a user's request for vGPUs in VMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ..base.errors import EngineError, Refusal, raise_if_any, shown, error
from ..vgpu.layout import MOST, check_ids


@dataclass(eq=False, repr=False)
class VgpuRequest:
    """A request for one vGPU in a VM. Exactly one of the attributes uuid, vf, and type is set.

    Attributes:
        where: The position of the request in the module options, for messages.
        uuid: The requested vGPU UUID, or None.
        vf: The address of the requested vGPU's VF, or None.
        type: The requested vGPU type, or None.
        gpu: The selector for the vGPU's GPU, or None. A selector requires a type.
        display: Whether the vGPU has a display, or None if the user does not set this option.
        ramfb: Whether the vGPU has a ramfb, or None if the user does not set this option.
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
    """The vGPUs requested for one VM.

    Attributes:
        where: The position of the VM in the module options, for messages.
    """

    name: str
    vgpus: Sequence[VgpuRequest]
    where: str


def parse(domains: Sequence[Mapping[str, Any]]) -> list[DomainRequest]:
    """Returns the requests in the domains option. Raises EngineError with the errors from all requests."""
    requests: list[DomainRequest] = []
    errors: list[Refusal] = []
    taken: dict[str, str] = {}  # VM names, keyed by requested UUID or VF
    for number, domain in enumerate(domains):
        name, where = domain["name"], "domains[%d]" % number  # libvirt allows spaces in VM names
        if not name.strip() or "/" in name or "\n" in name:
            expected = "a name from 'virsh list --all'"
            errors.append(Refusal("%s is not a valid VM name" % shown(domain["name"]), device=where, expected=expected, code="bad_name"))
        if name in [one.name for one in requests]:
            remedy = "List all vGPUs of this VM in one entry."
            errors.append(Refusal("the VM %s is listed twice" % name, device=where, remedy=remedy, code="twice"))
        vgpus: list[VgpuRequest] = []
        for index, entry in enumerate(domain["vgpus"]):
            try:
                vgpus += _vgpus(entry, "%s.vgpus[%d]" % (where, index))
            except EngineError as exc:
                errors += exc.errors
        for one in vgpus:
            key = one.uuid or one.vf
            if key and key in taken:
                where_it_is = "one request for each vGPU, but the VM %s already requests this vGPU" % taken[key]
                errors.append(Refusal("%s is requested twice" % key, device=one.where, expected=where_it_is, code="twice"))
            elif key:
                taken[key] = name
        requests.append(DomainRequest(name, vgpus, where))
    raise_if_any(errors)
    return requests


def _vgpus(entry: Mapping[str, Any], where: str) -> list[VgpuRequest]:
    """Returns the requests for one entry in vgpus, with one request for each vGPU in the entry's count."""
    ways = [name for name in ("type", "uuid", "vf") if entry.get(name)]
    count = entry.get("count")
    if len(ways) != 1:
        found = "%s are set" % " and ".join(ways) if ways else "none of type, uuid, and vf is set"
        raise error(found, device=where, expected="one of type, uuid, and vf", code="bad_vgpu")
    errors = [
        Refusal("%s already selects the vGPU, so %s has no effect" % (ways[0], name), device=where, remedy="Remove %s." % name, code="bad_vgpu")
        for name, given in (("count", count is not None), ("gpu", entry.get("gpu")))
        if given and ways != ["type"]
    ]
    if count is not None and not 1 <= count <= MOST:
        errors.append(Refusal("count is %d" % count, device=where, expected="1 to %d" % MOST, code="bad_count"))
    if entry.get("ramfb") and not entry.get("display"):
        errors.append(Refusal("ramfb is requested without a display", device=where, expected="display: true", code="bad_display"))
    uuid = vf = None
    try:
        uuid, vf = check_ids(entry.get("uuid"), entry.get("vf"), where)
    except EngineError as exc:
        errors += exc.errors
    raise_if_any(errors)
    return [VgpuRequest(where, uuid, vf, **{name: entry.get(name) for name in ("type", "gpu", "display", "ramfb")})] * (count or 1)
