# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses PCI addresses and GPU identifiers.

PCI address formats are 0000:e8:00.4 (sysfs), 00000000:E8:00.0 (nvidia-smi), and e8:00.4 (Cloudpods). Messages and results use the sysfs format.
"""

from __future__ import annotations

import re

from ..base.errors import error

# The pattern groups are the domain, bus, slot, and function of a PCI address.
_ADDRESS = re.compile(r"^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$", re.IGNORECASE)
_PCI_IDS = re.compile(r"^10de:([0-9a-f]{4})(?::([0-9a-f]{4}))?$", re.IGNORECASE)
_GPU_UUID = re.compile(r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


def is_address(text: object) -> bool:
    """Returns whether the text is a PCI address in any supported format."""
    return _numbers(text) is not None


def _numbers(text: object) -> tuple[int, ...] | None:
    """Returns the domain, bus, slot, and function of a PCI address, or None if the text is not a PCI address."""
    match = _ADDRESS.match(str(text).strip())
    numbers = tuple(int(one or "0", 16) for one in match.groups()) if match else ()
    return numbers if numbers and numbers[2] < 32 else None


def parse(text: object) -> str:
    """Returns a PCI address in sysfs format. Raises EngineError if the text is not a PCI address."""
    numbers = _numbers(text)
    if numbers is None:
        raise error("%r is not a PCI address" % text, expected="an address such as 0000:e8:00.0", code="bad_address")
    return "%04x:%02x:%02x.%x" % numbers


def is_gpu_uuid(text: object) -> bool:
    """Returns whether the text is a GPU UUID in the format of 'nvidia-smi -L' (GPU-…)."""
    return bool(_GPU_UUID.match(str(text).strip()))


def pci_ids(text: object) -> tuple[str, str] | None:
    """Parses PCI IDs in the form 10de:20b5, or 10de:25b6:157e with a subsystem device ID.

    Returns the device ID and the subsystem device ID in sysfs format. A missing subsystem device ID is an empty string. Returns None for other text.
    """
    match = _PCI_IDS.match(str(text).strip())
    return ("0x" + match.group(1).lower(), "0x" + match.group(2).lower() if match.group(2) else "") if match else None


def vf_address(pf: str, offset: int, stride: int, index: int) -> str:
    """Returns the future address of a VF, calculated from the First VF Offset and VF Stride in the SR-IOV capability."""
    domain, bus, slot, function = (int(part, 16) for part in re.split("[:.]", pf))
    number = (bus << 8 | slot << 3 | function) + offset + stride * index  # the routing ID as defined in the SR-IOV specification
    return "%04x:%02x:%02x.%x" % (domain, number >> 8, number >> 3 & 31, number & 7)
