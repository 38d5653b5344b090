# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spellings of PCI addresses and GPU identifiers: 0000:e8:00.4 (sysfs, which is printed), 00000000:E8:00.0 (nvidia-smi), e8:00.4 (Cloudpods)."""

from __future__ import annotations

import re

from ..base.errors import error

# Domain, bus, slot, function.
_ADDRESS = re.compile(r"^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$", re.IGNORECASE)
_PCI_IDS = re.compile(r"^10de:([0-9a-f]{4})(?::([0-9a-f]{4}))?$", re.IGNORECASE)
_GPU_UUID = re.compile(r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


def is_address(text: object) -> bool:
    """Whether the text is a PCI address in any known spelling."""
    return _numbers(text) is not None


def _numbers(text: object) -> tuple[int, ...] | None:
    """The domain, bus, slot and function of an address; None if the text is not an address."""
    match = _ADDRESS.match(str(text).strip())
    numbers = tuple(int(one or "0", 16) for one in match.groups()) if match else ()
    return numbers if numbers and numbers[2] < 32 else None


def parse(text: object) -> str:
    """The address in sysfs' spelling. Raises EngineError if the text is not an address."""
    numbers = _numbers(text)
    if numbers is None:
        raise error("%r is not a PCI address" % text, expected="an address such as 0000:e8:00.0", code="bad_address")
    return "%04x:%02x:%02x.%x" % numbers


def is_gpu_uuid(text: object) -> bool:
    """Whether the text is a GPU's UUID as nvidia-smi -L prints it (GPU-…)."""
    return bool(_GPU_UUID.match(str(text).strip()))


def pci_ids(text: object) -> tuple[str, str] | None:
    """The device id and, if given, subsystem device id of 10de:20b5 or 10de:25b6:157e, in sysfs' spelling; None for any other text."""
    match = _PCI_IDS.match(str(text).strip())
    return ("0x" + match.group(1).lower(), "0x" + match.group(2).lower() if match.group(2) else "") if match else None


def vf_address(pf: str, offset: int, stride: int, index: int) -> str:
    """The address of a VF before the VF exists, from First VF Offset and VF Stride of PCI SR-IOV."""
    domain, bus, slot, function = (int(part, 16) for part in re.split("[:.]", pf))
    number = (bus << 8 | slot << 3 | function) + offset + stride * index  # the routing id, as SR-IOV defines it
    return "%04x:%02x:%02x.%x" % (domain, number >> 8, number >> 3 & 31, number & 7)
