# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates the permittedHostDevices setting for KubeVirt's custom resource.

KubeVirt selects mediated devices by full type name, and VFs by vendor and product. KubeVirt cannot distinguish VFs of the same GPU model.
"""

from __future__ import annotations

import json
import re
from typing import Any, Sequence

from ..base.errors import Refusal
from .offered import Offered, Rendered

# A device plugin listens at DIRECTORY/kubevirt-NAME.sock, and a socket path has at most 107 bytes.
# For a mediated device, NAME is the resource name without its prefix. For a PCI device, NAME includes the prefix, with a hyphen instead of the slash.
_MOST = 107 - len("/var/lib/kubelet/device-plugins/kubevirt-.sock")


def resource_name(prefix: str, name: str) -> str:
    """Returns a resource name that Kubernetes accepts, such as <prefix>/NVIDIA_A40-24Q."""
    return "%s/%s" % (prefix, re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:_MOST].rstrip("_.-"))


def too_long(data: dict[str, list[dict[str, Any]]]) -> list[Refusal]:
    """Returns the errors for resource names that are too long for KubeVirt's device plugin. *data* has the same format as Rendered.data.

    The limits of other device plugins are unknown.
    """
    names = [one["resourceName"] for one in data["pciHostDevices"] if not one.get("externalResourceProvider")]
    return [
        Refusal(
            "the resource name %s is too long, because KubeVirt uses the name in the path of a socket" % name, device="kubevirt_prefix",
            expected="at most %d characters, including the prefix and the slash" % _MOST, remedy="Choose a shorter kubevirt_prefix.", code="long_resource",
        )
        for name in names if len(name) > _MOST
    ]


def render(offered: Sequence[Offered], prefix: str, external: bool) -> Rendered:
    """Returns KubeVirt's vGPU settings. *prefix* is the prefix for resource names.

    The *external* argument is true if a device plugin other than KubeVirt's own allocates the resources.
    """

    def device(selector: str, value: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {selector: value, "resourceName": resource_name(prefix, name)}
        return dict(found, externalResourceProvider=True) if external else found

    names = dict.fromkeys(one.type_name for one in offered if one.mdev_type is not None)
    products: dict[str, list[Offered]] = {}
    for one in offered:
        if one.mdev_type is None:
            product = "%04x" % one.gpu.vf_device if one.gpu.vf_device else one.gpu.device_id.replace("0x", "")
            products.setdefault("10DE:" + product.upper(), []).append(one)
    pci, warnings = [], []
    for selector, ones in products.items():
        types = sorted({one.type_name for one in ones})
        pci.append(device("pciVendorSelector", selector, types[0] if len(types) == 1 else "%s vGPU" % ones[0].gpu.name))
        if len(types) > 1:
            warnings.append(
                "KubeVirt: VFs with the PCI ID %s are vGPUs of several types (%s). "
                "KubeVirt cannot distinguish these types, so a VM can get any of these types. "
                "Create vGPUs of only one type on all GPUs of the same model." % (selector, ", ".join(types)))
    data = {"mediatedDevices": [device("mdevNameSelector", name, name) for name in names], "pciHostDevices": pci}
    return Rendered(data, _patch(data), warnings)


def _patch(data: dict[str, list[dict[str, Any]]]) -> str:
    """Returns a YAML patch for the KubeVirt custom resource. The patch is empty without devices."""
    if not any(data.values()):
        return ""
    lines = ["spec:", "  configuration:", "    permittedHostDevices:"]
    for name, devices in data.items():
        lines += [" " * 6 + name + ":"] if devices else []
        for device in devices:
            keys = ["%s: %s" % (key, json.dumps(device[key])) for key in device]
            lines += [" " * 6 + ("  " if number else "- ") + key for number, key in enumerate(keys)]
    return "\n".join(lines) + "\n"
