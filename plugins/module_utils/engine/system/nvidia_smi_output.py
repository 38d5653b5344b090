# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi prints, as values. system/nvidia_smi.py runs it.

Its tables are for people: columns move between releases, names are short or have ``MIG`` before
them. So rows are found by what stands in them, never by position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

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
_TYPE_ID = "vgpu type id"
_ROW = r"^([ \t]*)([^:]*[^:\s])\s*:(?:\s(.*))?$"
_SECTION = r"^([ \t]*)(\S.*?)\s*$"

# What becomes of a guest's row, by its section (license: _LICENSED_PRODUCT) and name.
_GUEST_ROWS = {
    ("", "Product Name"): "name",
    ("GPU Virtualization Mode", "Virtualization Mode"): "virtualization",
    ("license", "Product Name"): "product",
    ("license", "License Status"): "status",
}

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


def _rows(text: str) -> Iterator[tuple[str | None, str, str]]:
    """(address of the GPU, key in lower case, value) of each row with a colon."""
    gpu = None
    for line in text.splitlines():
        head = _head(line)
        key, colon, value = line.partition(":")
        if head:
            gpu = head
        elif colon:
            yield gpu, " ".join(key.split()).lower(), value.strip()


def _head(line: str) -> str | None:
    """The address in the line that begins a GPU's part; None for other lines."""
    head = re.match(r"^GPU\s+(\S+)\s*$", line)
    return address.parse(head.group(1)) if head and address.is_address(head.group(1)) else None


def parse_types(text: str) -> dict[str, list[VgpuType]]:
    """VgpuTypes by GPU address, from vgpu -s -v."""
    shown: list[tuple[str | None, dict[str, str]]] = []
    for gpu, key, value in _rows(text):
        if key == _TYPE_ID:
            shown.append((gpu, {key: value}))
        elif shown and shown[-1][0] == gpu:
            shown[-1][1].setdefault(key, value)
    found: dict[str, list[VgpuType]] = {}
    for gpu, rows in shown:
        kind, name = number(rows[_TYPE_ID]), rows.get("name")
        if gpu and name and kind is not None:
            profile, per_gi = number(rows.get("gpu instance profile id")), number(rows.get("max instances per gi"))
            size, most = mebibytes(rows.get("fb memory")), number(rows.get("max instances"))
            found.setdefault(gpu, []).append(VgpuType(kind, name, size, most, gi_profile=profile, per_gi=per_gi))
    return found


def parse_running(text: str) -> dict[str, int]:
    """{UUID of a mediated device: id of its GPU instance} of the vGPUs that VMs use, from vgpu -q."""
    return {one.uuid: one.instance for one in parse_active(text) if one.uuid and one.instance is not None}


@dataclass(eq=False)
class Active:
    """A vGPU that a VM uses, as vgpu -q shows it. type: short name; uuid: of its mediated device; instance: of MIG. None: not shown."""

    gpu: str
    type: str | None = None
    uuid: str | None = None
    vm: str | None = None
    instance: int | None = None


def parse_active(text: str) -> list[Active]:
    """The Active vGPUs of vgpu -q."""
    found: list[Active] = []
    for gpu, key, value in _rows(text):
        if key == "vgpu id" and gpu:
            found.append(Active(gpu))
        elif not found:
            continue
        elif key == "mdev uuid" and len(value) == 36:
            found[-1].uuid = value.lower()
        elif key == "gpu instance id":
            found[-1].instance = number(value)
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
        head = _head(line)
        if head:
            found.append(GuestGpu(head))
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
        _take(found[-1], path[-1][1] if path else "", row.group(2), (row.group(3) or "").strip())
    return found


def _take(gpu: GuestGpu, section: str, name: str, value: str) -> None:
    if (section, name) == ("FB Memory Usage", "Total"):
        gpu.framebuffer_mib = mebibytes(value)
    attribute = _GUEST_ROWS.get(("license" if re.search(_LICENSED_PRODUCT, section) else section, name))
    if attribute:
        setattr(gpu, attribute, value)
