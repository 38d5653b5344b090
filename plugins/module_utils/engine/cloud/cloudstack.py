# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the vGPUs that Apache CloudStack discovers on a host.

For each vGPU profile of a GPU model, the list contains vGPU addresses in CloudStack's notation, which omits the PCI domain. CloudStack uses only
existing vGPUs. Mediated devices are identified by UUID, and VFs in the vendor-specific VFIO framework by address.
"""

from __future__ import annotations

from typing import Any, Sequence

from ..hardware.gpu import Gpu
from .offered import Offered


def in_reach(address: str) -> bool:
    """Returns whether CloudStack and OpenNebula, which always use PCI domain 0000, can represent an address."""
    return address.partition(":")[0] == "0000"


def short_address(address: str) -> str:
    """Returns an address in lspci notation, such as e8:00.4."""
    return address.partition(":")[2]


def render(offered: Sequence[Offered]) -> list[dict[str, Any]]:
    """Returns a list of dictionaries for a module result.

    All vGPUs on a GPU without SR-IOV have the GPU's address, which is listed once for each vGPU.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for one in offered:
        if in_reach(one.vgpu.parent):
            found.setdefault(("10de:" + one.gpu.device_id.replace("0x", ""), one.type_name), []).append(short_address(one.vgpu.parent))
    return [{"gpu": gpu, "profile": profile, "addresses": addresses} for (gpu, profile), addresses in found.items()]


def warnings(gpus: Sequence[Gpu]) -> list[str]:
    """Returns a warning for each GPU whose address CloudStack and OpenNebula cannot represent."""
    words = "CloudStack and OpenNebula: %s is in PCI domain %s, but both platforms support only domain 0000. The GPU's vGPUs and VFs are omitted."
    return [words % (gpu.address, gpu.address.partition(":")[0]) for gpu in gpus if not in_reach(gpu.address)]
