# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenStack's nova-compute: nova.conf's [devices] and [mdev_<type>], and [pci] device_spec for VFs that are vGPUs.

nova takes a type by the name of its directory in sysfs, and uses mediated devices of it that are there and free before it creates one.
So each type is given the addresses on which its vGPUs are, and as many of them as there are: nova creates none beyond the layout.
"""

from __future__ import annotations

import json
import re
from typing import Any, Sequence

from .offered import Offered, Rendered


def resource_class(short: str) -> str:
    """A custom resource class of Placement for a type: CUSTOM_A40_24Q."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9_]", "_", short.upper())


def render(offered: Sequence[Offered], with_classes: bool) -> Rendered:
    """Rendered for vGPUs. with_classes: give each type a resource class of its own, by which flavors distinguish types."""
    types: dict[str, dict[str, Any]] = {}
    specs = []
    for one in offered:
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
    mdevs = list(types.values())
    return Rendered({"mdev_types": mdevs, "device_specs": specs}, _text(mdevs, specs), _warnings(offered, mdevs, with_classes))


def _text(mdevs: Sequence[dict[str, Any]], specs: Sequence[dict[str, Any]]) -> str:
    """Sections of nova.conf; empty where there are no vGPUs."""
    blocks = []
    if mdevs:
        blocks.append(["[devices]", "enabled_mdev_types = " + ", ".join(one["type"] for one in mdevs)])
    for one in mdevs:
        lines = ["[mdev_%s]" % one["type"], "# " + one["name"], "device_addresses = " + ",".join(one["device_addresses"])]
        lines.append("max_instances = %d" % one["max_instances"])
        blocks.append(lines + (["mdev_class = " + one["mdev_class"]] if one["mdev_class"] else []))
    if specs:
        blocks.append(["[pci]"] + ["device_spec = " + json.dumps(one) for one in specs])
    return "\n\n".join("\n".join(lines) for lines in blocks) + ("\n" if blocks else "")


def _warnings(offered: Sequence[Offered], mdevs: Sequence[dict[str, Any]], with_classes: bool) -> list[str]:
    found = []
    for address in sorted({address for one in mdevs for address in one["device_addresses"]}):
        names = sorted(one["type"] for one in mdevs if address in one["device_addresses"])
        if len(names) > 1:
            words = "nova: %s has vGPUs of several types (%s); nova-compute refuses to start with one address in two of them."
            found.append(words % (address, ", ".join(names)))
    shorts = sorted({one.short for one in offered})
    if len(shorts) > 1 and not with_classes:
        words = "nova: this host has vGPUs of several types (%s), which flavors can't distinguish: set nova_resource_classes: true."
        found.append(words % ", ".join(shorts))
    return found
