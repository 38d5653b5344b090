# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""KubeVirt's permittedHostDevices, as its custom resource has them.

Mediated devices are selected by the full name of their type, VFs by vendor and product: all VFs of a model look alike to it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from .offered import NVIDIA, Offered

_INDENT = " " * 6


@dataclass
class Rendered:
    """mediated and pci: data, as KubeVirt spells it; warnings: what they can't express."""

    mediated: List[Dict[str, Any]]
    pci: List[Dict[str, Any]]
    warnings: List[str]

    def as_dict(self) -> Dict[str, List[Dict[str, Any]]]:
        """For a module's result."""
        return {"mediatedDevices": self.mediated, "pciHostDevices": self.pci}

    @property
    def text(self) -> str:
        """A patch of the KubeVirt custom resource in YAML; empty where there are no devices."""
        if not self.mediated and not self.pci:
            return ""
        lines = ["spec:", "  configuration:", "    permittedHostDevices:"]
        for name, devices in sorted(self.as_dict().items()):
            if devices:
                lines.append(_INDENT + name + ":")
            for device in devices:
                keys = ["%s: %s" % (key, json.dumps(device[key])) for key in device]
                lines += [_INDENT + "- " + keys[0]] + [_INDENT + "  " + key for key in keys[1:]]
        return "\n".join(lines) + "\n"


def resource_name(prefix: str, name: str) -> str:
    """A resource's name as Kubernetes allows it: <prefix>/NVIDIA_A40-24Q."""
    return "%s/%s" % (prefix, re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:63].rstrip("_.-"))


def render(offered: Sequence[Offered], prefix: str, external: bool) -> Rendered:
    """Rendered for vGPUs. prefix: of the resources' names. external: another device plugin than KubeVirt's own hands them out."""
    more = {"externalResourceProvider": True} if external else {}
    mediated: Dict[str, Dict[str, Any]] = {}
    products: Dict[str, List[Offered]] = {}
    for one in offered:
        if one.mdev_type is not None:
            mediated[one.type_name] = dict({"mdevNameSelector": one.type_name, "resourceName": resource_name(prefix, one.type_name)}, **more)
        else:
            products.setdefault(one.product, []).append(one)
    pci, warnings = [], []
    for product, ones in products.items():
        types = sorted({one.type_name for one in ones})
        name = types[0] if len(types) == 1 else "%s vGPU" % ones[0].gpu.name
        selector = "%s:%s" % (NVIDIA.upper(), product.upper())
        pci.append(dict({"pciVendorSelector": selector, "resourceName": resource_name(prefix, name)}, **more))
        if len(types) > 1:
            warnings.append(
                "KubeVirt: VFs with the id %s are vGPUs of several types (%s), which KubeVirt can't tell apart: a VM gets any of them. "
                "Give the GPUs of one model vGPUs of one type." % (selector, ", ".join(types))
            )
    return Rendered(list(mediated.values()), pci, warnings)
