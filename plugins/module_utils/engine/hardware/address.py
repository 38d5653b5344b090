# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spellings of PCI addresses and GPU identifiers.

sysfs writes ``0000:e8:00.4``, nvidia-smi ``00000000:E8:00.0``, sriov-manage takes
``0:e8:0.0``, Cloudpods ``e8:00.4``. All are accepted; sysfs' own is printed.
"""

from __future__ import annotations

import re

from ..base.errors import trouble

_ADDRESS = re.compile(
    r"^(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,2}):(?P<slot>[0-9a-f]{1,2})\.(?P<function>[0-7])$",
    re.IGNORECASE,
)
_GPU_UUID = re.compile(
    r"^(?:GPU-)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE
)


def is_address(text: object) -> bool:
    """Whether the text is a PCI address in any known spelling."""
    match = _ADDRESS.match(str(text).strip())
    return bool(
        match
        and int(match["slot"], 16) < 32
        and int(match["domain"] or "0", 16) <= 0xFFFFFFFF
    )


def parse(text: object) -> str:
    """The address in sysfs' spelling; raises EngineError when it is none."""
    match = _ADDRESS.match(str(text).strip())
    if not match or int(match["slot"], 16) > 31:
        raise trouble(
            "%r is not a PCI address" % text,
            wanted="an address such as 0000:e8:00.0",
            code="bad_address",
        )
    return "%04x:%02x:%02x.%x" % (
        int(match["domain"] or "0", 16),
        int(match["bus"], 16),
        int(match["slot"], 16),
        int(match["function"], 16),
    )


def is_gpu_uuid(text: object) -> bool:
    """Whether the text is a GPU's UUID as nvidia-smi -L prints it (GPU-…)."""
    return bool(_GPU_UUID.match(str(text).strip()))


def routing_id(address: str) -> int:
    """Bus, device and function as one number, as SR-IOV counts VFs."""
    dummy, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return int(bus, 16) << 8 | int(slot, 16) << 3 | int(function, 16)


def vf_address(pf: str, offset: int, stride: int, index: int) -> str:
    """Address of a VF before it exists: PCI SR-IOV, First VF Offset and VF Stride."""
    number = routing_id(pf) + offset + stride * index
    return "%s:%02x:%02x.%x" % (
        pf.split(":")[0],
        number >> 8,
        number >> 3 & 31,
        number & 7,
    )
