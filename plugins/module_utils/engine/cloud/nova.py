# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenStack's nova-compute: nova.conf's [devices] and [mdev_<type>], and [pci] device_spec for VFs that are vGPUs.

nova takes a type by the name of its directory in sysfs, and uses mediated devices of it that are there and free before it makes one.
So each type is given the addresses on which its vGPUs are, and as many of them as there are: nova makes none beyond the layout.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from .offered import Offered


@dataclass
class Rendered:
    """mdev_types and device_specs: data; warnings: what they can't express."""

    mdev_types: List[Dict[str, Any]]
    device_specs: List[Dict[str, Any]]
    warnings: List[str]

    def as_dict(self) -> Dict[str, List[Dict[str, Any]]]:
        """For a module's result."""
        return {"mdev_types": self.mdev_types, "device_specs": self.device_specs}

    @property
    def text(self) -> str:
        """Sections of nova.conf; empty where there are no vGPUs."""
        blocks = []
        if self.mdev_types:
            blocks.append(["[devices]", "enabled_mdev_types = " + ", ".join(one["type"] for one in self.mdev_types)])
        for one in self.mdev_types:
            lines = ["[mdev_%s]" % one["type"], "# " + one["name"], "device_addresses = " + ",".join(one["device_addresses"])]
            lines.append("max_instances = %d" % one["max_instances"])
            blocks.append(lines + (["mdev_class = " + one["mdev_class"]] if one["mdev_class"] else []))
        if self.device_specs:
            blocks.append(["[pci]"] + ["device_spec = " + json.dumps(one) for one in self.device_specs])
        return "\n\n".join("\n".join(lines) for lines in blocks) + ("\n" if blocks else "")


def resource_class(short: str) -> str:
    """A custom resource class of Placement for a type: CUSTOM_A40_24Q."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9_]", "_", short.upper())


def render(offered: Sequence[Offered], with_classes: bool) -> Rendered:
    """Rendered for vGPUs. with_classes: give each type a resource class of its own, by which flavors tell types apart."""
    types: Dict[str, Dict[str, Any]] = {}
    specs = []
    for one in offered:
        if one.mdev_type is None:
            spec = {"address": one.parent, "managed": "no"}
            specs.append(dict(spec, resource_class=resource_class(one.short)) if with_classes else spec)
            continue
        section = types.setdefault(
            one.mdev_type,
            {
                "type": one.mdev_type,
                "name": one.type_name,
                "device_addresses": [],
                "max_instances": 0,
                "mdev_class": resource_class(one.short) if with_classes else None,
            },
        )
        if one.parent not in section["device_addresses"]:
            section["device_addresses"].append(one.parent)
        section["max_instances"] += 1
    return Rendered(list(types.values()), specs, _warnings(offered, types, with_classes))


def _warnings(offered: Sequence[Offered], types: Dict[str, Dict[str, Any]], with_classes: bool) -> List[str]:
    found = []
    by_address: Dict[str, List[str]] = {}
    for name, section in types.items():
        for address in section["device_addresses"]:
            by_address.setdefault(address, []).append(name)
    for address in sorted(by_address):
        if len(by_address[address]) > 1:
            found.append(
                "nova: %s has vGPUs of several types (%s); nova-compute refuses to start with one address in two of them."
                % (address, ", ".join(sorted(by_address[address])))
            )
    shorts = sorted({one.short for one in offered})
    if len(shorts) > 1 and not with_classes:
        words = "nova: this host has vGPUs of several types (%s), which flavors can't tell apart: set nova_resource_classes: true."
        found.append(words % ", ".join(shorts))
    return found
