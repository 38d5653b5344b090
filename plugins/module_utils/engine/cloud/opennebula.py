# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates pci.conf for OpenNebula's probe, which lists the VFs on which OpenNebula may create vGPUs.

OpenNebula creates a vGPU when a VM starts, so OpenNebula cannot use VFs that already have a vGPU. VFs are listed by address, because PFs often have
the same device ID as their VFs, and the probe would then offer PFs as whole GPUs.
"""

from __future__ import annotations

from typing import Sequence

from ..hardware.gpu import Gpu
from .cloudstack import in_reach, short_address


def render(gpus: Sequence[Gpu]) -> str:
    """Returns the text of pci.conf, or an empty string without free VFs. The VFs and vGPUs of *gpus* must already be read."""
    filters: list[str] = []
    lines: list[str] = []
    for gpu in gpus:
        taken = {vgpu.parent for vgpu in gpu.vgpus}
        free = [vf.address for vf in gpu.vfs if vf.address not in taken and in_reach(vf.address)]
        if free:
            filters.append("10de:%s" % ("%04x" % gpu.vf_device if gpu.vf_device else gpu.device_id.replace("0x", "")))
            lines += ['  - "%s"\n' % short_address(address) for address in free]
    if not lines:
        return ""
    return ':filter: "%s"\n:short_address:\n%s' % (",".join(dict.fromkeys(filters)), "".join(lines))
