# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi prints, as values. system/nvidia_smi.py runs it.

Its tables are for people: columns move between releases, names are short or have ``MIG`` before
them. So rows are found by what stands in them, never by position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Tuple

from ..base.numbers import number
from ..hardware import address
from ..hardware.gpu import GpuInstance
from ..hardware.mig_profiles import Profile, plain_profile
from ..hardware.vgpu_types import VgpuType, mebibytes, short_name

# A profile's name; tables put MIG before it. Numbers are short: a longer one is no row of ours.
_PROFILE = r"(?:MIG\s+)?([0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)"
_N = r"([0-9]{1,5})"
# Not compiled here: most hosts are never asked, and compiling them takes longer than all else of this file.
_LGIP = r"^\W*%s\s+%s\s+%s\s+%s\s*/\s*%s\s+([0-9]{1,5}(?:\.[0-9]+)?)(?![0-9.])" % (_N, _PROFILE, _N, _N, _N)
_LGI = r"^\W*%s\s+%s\s+%s\s+%s(?:\s+([0-9]{1,3}):([0-9]{1,3}))?[\s|]*$" % (_N, _PROFILE, _N, _N)
_LGIPP = r"(?i)^\s*GPU\s+[0-9]+\s+Profile\s+ID\s+%s\s+Placements?\s*:\s*\{([0-9,\s]+)\}\s*:\s*([0-9]{1,3})(?![0-9])" % _N
_LCI = r"^\W*%s\s+%s\s+(?:MIG\s+)?((?:[0-9]{1,2}c\.)?[0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)\s+%s\s+%s(?![0-9])" % (_N, _N, _N, _N)
# GRID Licensed Product until release 11, vGPU Software Licensed Product since.
_LICENSED_PRODUCT = r"(?i)(vGPU Software|GRID) Licensed Product$"
_HEAD = r"^GPU\s+(\S+)\s*$"
_ROW = r"^([ \t]*)([^:]*[^:\s])\s*:(?:\s(.*))?$"
_SECTION = r"^([ \t]*)(\S.*?)\s*$"

# (address of a GPU, MIG mode now, MIG mode after a reset); None where it has no MIG.
Mode = Tuple[str, Optional[bool], Optional[bool]]


def _switch(word: str) -> bool | None:
    """Enabled, Disabled, or (for [N/A] and what else there is) None."""
    return {"enabled": True, "disabled": False}.get(word.strip().strip("[]").lower())


def parse_modes(text: str) -> list[Mode]:
    """(address, current, pending) in the order of nvidia-smi's own numbers of GPUs."""
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3 and address.is_address(words[0]):
            found.append((address.parse(words[0]), _switch(words[1]), _switch(words[2])))
    return found


def parse_profiles(text: str) -> list[tuple[int, Profile]]:
    """(number of the GPU, Profile) for each row of mig -lgip."""
    return [
        (int(gpu), Profile(plain_profile(name), int(profile), int(free), int(total), float(memory)))
        for gpu, name, profile, free, total, memory in re.findall(_LGIP, text, re.MULTILINE)
    ]


def parse_placements(text: str) -> dict[int, tuple[list[int], int]]:
    """{profile id: (possible starts, size)} of mig -lgipp of one GPU."""
    return {
        int(profile): ([int(start) for start in re.findall(r"\b[0-9]{1,3}\b", starts)], int(size))
        for profile, starts, size in re.findall(_LGIPP, text, re.MULTILINE)
    }


def parse_instances(text: str) -> list[tuple[int, GpuInstance]]:
    """(number of the GPU, GpuInstance) for each row of mig -lgi."""
    return [
        (int(gpu), GpuInstance(int(instance), plain_profile(name), int(profile), int(start) if start else None, int(size) if size else None))
        for gpu, name, profile, instance, start, size in re.findall(_LGI, text, re.MULTILINE)
    ]


def parse_compute(text: str) -> list[tuple[int, int, int]]:
    """(number of the GPU, GPU instance, compute instance) for each row of mig -lci."""
    return [(int(gpu), int(instance), int(compute)) for gpu, instance, dummy, dummy2, compute in re.findall(_LCI, text, re.MULTILINE)]


def parse_types(text: str) -> dict[str, list[VgpuType]]:
    """VgpuTypes by GPU address, from vgpu -s -v."""
    found: dict[str, list[VgpuType]] = {}
    gpu: str | None = None
    rows: dict[str, str] = {}

    def flush() -> None:
        if gpu and rows.get("name") and rows.get("id"):
            found.setdefault(gpu, []).append(_type(rows))
        rows.clear()

    for line in text.splitlines():
        head = re.match(_HEAD, line)
        if head and address.is_address(head.group(1)):
            flush()
            gpu = address.parse(head.group(1))
            continue
        key, colon, value = line.partition(":")
        if not colon:
            continue
        key, value = " ".join(key.split()).lower(), value.strip()
        if key == "vgpu type id":
            flush()
            rows["id"] = value if number(value) is not None else ""
        else:
            rows.setdefault(key, value)
    flush()
    return found


def _type(rows: dict[str, str]) -> VgpuType:
    """A type of vgpu -s -v from its rows."""
    return VgpuType(
        number(rows["id"]),
        rows["name"],
        mebibytes(rows.get("fb memory")),
        number(rows.get("max instances")),
        gi_profile=number(rows.get("gpu instance profile id")),
        per_gi=number(rows.get("max instances per gi")),
    )


def parse_running(text: str) -> dict[str, int]:
    """{UUID of a mediated device: id of its GPU instance} of the vGPUs that VMs use, from vgpu -q."""
    found: dict[str, int] = {}
    uuid: str | None = None
    for line in text.splitlines():
        key, dummy, value = line.partition(":")
        key, value = " ".join(key.split()).lower(), value.strip()
        if key == "vgpu id":
            uuid = None
        elif key == "mdev uuid":
            uuid = value.lower() if len(value) == 36 else None
        elif key == "gpu instance id" and uuid:
            instance = number(value)
            if instance is not None:
                found[uuid] = instance
    return found


@dataclass(eq=False)
class Active:
    """A vGPU that a VM uses, as vgpu -q shows it. type: short name; uuid of its mediated device and vm: None when not shown."""

    gpu: str
    type: str | None = None
    uuid: str | None = None
    vm: str | None = None


def parse_active(text: str) -> list[Active]:
    """The Active vGPUs of vgpu -q."""
    found: list[Active] = []
    gpu: str | None = None
    for line in text.splitlines():
        head = re.match(_HEAD, line)
        if head and address.is_address(head.group(1)):
            gpu = address.parse(head.group(1))
            continue
        key, dummy, value = line.partition(":")
        key, value = " ".join(key.split()).lower(), value.strip()
        if key == "vgpu id" and gpu:
            found.append(Active(gpu))
        elif not found:
            continue
        elif key == "mdev uuid" and len(value) == 36:
            found[-1].uuid = value.lower()
        elif key == "vm name" and value not in ("", "N/A"):
            found[-1].vm = value
        elif key == "vgpu name":
            found[-1].type = short_name(value)
    return found


def parse_mixed(text: str) -> tuple[bool, bool]:
    """(supported, on) of mixed-size mode, from -q of one GPU. The spelling differs between releases."""
    sizes = re.search(r"^\s*heterogen\w*\s+time-?\s?slice\s+sizes\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    mode = re.search(r"^\s*(?:vgpu\s+heterogen\w*\s+mode|heterogen\w*\s+multi-?vgpu)\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    supported = bool(sizes and sizes.group(1).lower() == "supported")
    enabled = bool(mode and _switch(mode.group(1)))
    return supported or enabled, enabled


@dataclass(eq=False)
class GuestGpu:
    """A GPU as nvidia-smi -q shows it in a guest. product and status: of its license; each None where it is not shown."""

    address: str
    name: str | None = None
    virtualization: str | None = None
    framebuffer_mib: int | None = None
    product: str | None = None
    status: str | None = None


def parse_guest_gpus(text: str) -> list[GuestGpu]:
    """The GPUs of nvidia-smi -q. Rows are told apart by their sections, and sections by their indentation: some have rows of the same name."""
    found: list[GuestGpu] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        head = re.match(_HEAD, line)
        if head and address.is_address(head.group(1)):
            found.append(GuestGpu(address.parse(head.group(1))))
            path = []
            continue
        row = re.match(_ROW, line)
        part = row or re.match(_SECTION, line)
        if not found or not part:
            continue
        depth = len(part.group(1).expandtabs())
        path = [one for one in path if one[0] < depth]
        if not row:
            path.append((depth, part.group(2)))
            continue
        _take(found[-1], [name for dummy, name in path], row.group(2), (row.group(3) or "").strip())
    return found


def _take(gpu: GuestGpu, path: list[str], name: str, value: str) -> None:
    section = path[-1] if path else ""
    if re.search(_LICENSED_PRODUCT, section):
        if name == "Product Name":
            gpu.product = value
        elif name == "License Status":
            gpu.status = value
    elif not path and name == "Product Name":
        gpu.name = value
    elif section == "GPU Virtualization Mode" and name == "Virtualization Mode":
        gpu.virtualization = value
    elif section == "FB Memory Usage" and name == "Total":
        match = re.match(r"([0-9]{1,9}) MiB$", value)
        gpu.framebuffer_mib = int(match.group(1)) if match else None
