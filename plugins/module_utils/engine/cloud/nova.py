# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates settings for OpenStack's nova-compute: the [devices], [mdev_<type>], and [pci] sections of nova.conf.

The [pci] section contains a device_spec for each VF that is a vGPU. nova identifies a vGPU type by the name of its sysfs directory, and uses existing
free mediated devices of that type before creating new mediated devices. Each type is therefore configured with the addresses of its vGPUs. For VFs,
max_instances is the number of vGPUs, which prevents nova from creating vGPUs beyond the layout. For a GPU without SR-IOV, max_instances is omitted,
because nova would otherwise ignore the GPU.
"""

from __future__ import annotations

import json
import re
from typing import Any, Sequence

from ..base.errors import Refusal
from .offered import Offered, Rendered


def resource_class(short: str) -> str:
    """Returns a vGPU type's custom resource class in OpenStack Placement, such as CUSTOM_A40_24Q."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9_]", "_", short.upper())


def _spelled(offered: Sequence[Offered]) -> list[Offered]:
    """Returns the vGPUs whose addresses nova accepts. nova-compute fails if a PCI domain does not have four digits."""
    return [one for one in offered if one.gpu.address.index(":") == 4]


def contradictions(offered: Sequence[Offered], with_classes: bool) -> list[Refusal]:
    """Returns the errors for a request that nova.conf cannot represent.

    nova-compute does not start if VFs of one GPU have two resource classes.
    """
    vfs = [one for one in _spelled(offered) if one.mdev_type is None]
    names = {one.gpu.address: [other.short for other in vfs if other.gpu is one.gpu] for one in vfs}
    return [
        Refusal(
            "the GPU's VFs are vGPUs of several types (%s), but nova supports only one resource class for all VFs of a GPU" % ", ".join(sorted(set(shorts))),
            device=address, expected="vGPUs of only one type on the GPU, because nova-compute otherwise exits with PlacementPciMixedResourceClassException",
            remedy="Create vGPUs of only one type on this GPU (the vgpu_layout variable), or set nova_resource_classes: false. "
            "Without resource classes, flavors cannot distinguish the types.",
            code="nova_mixed_classes",
        )
        for address, shorts in names.items() if with_classes and len(set(shorts)) > 1
    ]


def render(offered: Sequence[Offered], with_classes: bool) -> Rendered:
    """Returns nova-compute's vGPU settings.

    If *with_classes* is true, each vGPU type gets a separate resource class, by which flavors distinguish types.
    """
    types: dict[str, dict[str, Any]] = {}
    specs = []
    unlimited: set[str] = set()
    for one in _spelled(offered):
        name = resource_class(one.short) if with_classes else None
        if one.mdev_type is None:
            spec = {"address": one.vgpu.parent, "managed": "no"}
            specs.append(dict(spec, resource_class=name) if name else spec)
            continue
        fresh = {"type": one.mdev_type, "name": one.type_name, "device_addresses": [], "max_instances": 0, "mdev_class": name}
        section = types.setdefault(one.mdev_type, fresh)
        if one.vgpu.parent not in section["device_addresses"]:
            section["device_addresses"].append(one.vgpu.parent)
        section["max_instances"] += 1
        if one.vgpu.parent == one.gpu.address:
            unlimited.add(one.mdev_type)
    for kind in sorted(unlimited):
        # nova adds the number of existing vGPUs and the number that the GPU can still create. If the sum exceeds max_instances, nova offers no vGPUs.
        types[kind]["max_instances"] = None
    mdevs = list(types.values())
    shared = _shared(mdevs)
    text = "" if shared else _text(mdevs, specs)
    return Rendered({"mdev_types": mdevs, "device_specs": specs}, text, [*shared, *_warnings(offered, with_classes, unlimited)])


def _text(mdevs: Sequence[dict[str, Any]], specs: Sequence[dict[str, Any]]) -> str:
    """Returns the nova.conf sections, or an empty string without vGPUs."""
    blocks = []
    if mdevs:
        blocks.append(["[devices]", "enabled_mdev_types = " + ", ".join(one["type"] for one in mdevs)])
    for one in mdevs:
        lines = ["[mdev_%s]" % one["type"], "# " + one["name"], "device_addresses = " + ",".join(one["device_addresses"])]
        lines += ["%s = %s" % (key, one[key]) for key in ("max_instances", "mdev_class") if one[key] is not None]
        blocks.append(lines)
    if specs:
        blocks.append(["[pci]"] + ["device_spec = " + json.dumps(one) for one in specs])
    return "\n\n".join("\n".join(lines) for lines in blocks) + ("\n" if blocks else "")


def _shared(mdevs: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the warnings for addresses with vGPUs of several types, for which no valid nova.conf exists."""
    found = []
    for address in sorted({address for one in mdevs for address in one["device_addresses"]}):
        names = sorted(one["type"] for one in mdevs if address in one["device_addresses"])
        if len(names) > 1:
            words = (
                "nova: %s has vGPUs of several types (%s). nova_conf is empty, "
                "because nova-compute does not start if one address is configured for two types.")
            found.append(words % (address, ", ".join(names)))
    return found


def _warnings(offered: Sequence[Offered], with_classes: bool, unlimited: set[str]) -> list[str]:
    found = []
    for address in dict.fromkeys(one.gpu.address for one in offered if one not in _spelled(offered)):
        words = "nova: %s is in PCI domain %s, but nova accepts only domains with four digits. The GPU's vGPUs are omitted from nova_conf."
        found.append(words % (address, address.partition(":")[0]))
    offered = _spelled(offered)
    for address in dict.fromkeys(one.gpu.address for one in offered if one.mdev_type in unlimited):
        words = (
            "nova: %s has no SR-IOV, so nova can create more vGPUs on this GPU than the layout contains. "
            "To prevent additional vGPUs, use the GPU's full capacity in the layout (the vgpu_layout variable).")
        found.append(words % address)
    shorts = sorted({one.short for one in offered})
    if len(shorts) > 1 and not with_classes:
        advice = "Set nova_resource_classes: true"
        if contradictions(offered, True):
            advice = "Create vGPUs of only one type on each GPU, then set nova_resource_classes: true"
        words = "nova: this host has vGPUs of several types (%s), which flavors cannot distinguish. %s."
        found.append(words % (", ".join(shorts), advice))
    return found
