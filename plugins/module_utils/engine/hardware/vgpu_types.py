# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses vGPU type names, and finds a type by the name or number that a user specifies.

A type name has the form <GPU>-<framebuffer in GiB><series>. The series is Q, B (also B4), A, or C, and a framebuffer of 0 GiB stands for 512 MiB.
For a MIG GPU instance, a type name also contains the number of slices before the framebuffer (A100-1-5C). The number of a type and the driver in the
type directory's name (nvidia-558, vfio-pci-558) differ between hosts. Types are therefore found by name, or by the number at the end of the directory name.
"""

from __future__ import annotations

import difflib
import functools
import re
from typing import Iterable, Sequence

from ..base import numbers

_NAME = re.compile(r"^(?P<gpu>.+?)-(?:(?P<slices>[1-7])-)?(?P<gib>[0-9]{1,3})(?P<series>[QAC]|B4?)(?P<suffix>ME|NOME|MEALL|GFX)?$", re.IGNORECASE)
_NUMBER = re.compile(r"^(?:[a-z0-9_-]*-)?(\d+)$", re.IGNORECASE)


class VgpuType:
    """A vGPU type that a GPU offers. Unknown values are None.

    Attributes:
        gi_profile: The required GPU instance profile ID.
        per_gi: The number of vGPUs of this type that can share a GPU instance.
    """

    def __init__(
        self, number: int | str | None, name: str, framebuffer_mib: int | None = None, max_instances: int | None = None,
        gi_profile: int | None = None, per_gi: int | None = None,
    ) -> None:
        self.id, self.name, self.short = str(number), name, short_name(name)
        self.framebuffer_mib = framebuffer_mib or framebuffer_of(name)
        self.max_instances, self.gi_profile, self.per_gi = max_instances, gi_profile, per_gi
        self.slices = slices_of(name)  # the number of slices in the required GPU instance, or None for a time-sliced type
        self.series = series_of(name)  # the series (Q, B, A, or C), or None if the name contains no series
        self.suffix = (_part(name, "suffix") or "").upper()  # the suffix for media engines and graphics: ME, NOME, MEALL, GFX, or empty


def short_name(name: str) -> str:
    """Returns the last word of a type name: A40-24Q for NVIDIA A40-24Q, and T4-16Q for GRID T4-16Q."""
    return (name.split() or [name])[-1]


@functools.lru_cache(maxsize=2048)  # type names recur many times in a layout
def _part(name: str, part: str) -> str | None:
    match = _NAME.match(short_name(name))
    return match[part] if match else None


def framebuffer_of(name: str) -> int | None:
    """Returns the framebuffer size in MiB according to a type name, or None if the text is not a type name."""
    gib = _part(name, "gib")
    return (int(gib) * 1024 or 512) if gib else None  # types with size 0 in their names, such as M60-0Q, have 512 MiB


def slices_of(name: str) -> int | None:
    """Returns the number of GPU instance slices in a type name (1 for A100-1-5C), or None if the name does not contain a slice count."""
    slices = _part(name, "slices")
    return int(slices) if slices else None


def series_of(name: str) -> str | None:
    """Returns the series in a type name (Q for A40-24Q, B for T4-2B4), or None if the text is not a type name."""
    series = _part(name, "series")
    return series[0].upper() if series else None


def gpu_word(name: str) -> str | None:
    """Returns the GPU part of a type's short name (A40 for A40-24Q), or None if the text is not a type name."""
    return _part(name, "gpu")


def parse_description(text: str) -> dict[str, str]:
    """Parses a type's mdev description (num_heads=4, framebuffer=1024M, max_instance=32) into a dictionary."""
    pairs = [part.split("=", 1) for part in text.replace("\n", ",").split(",") if "=" in part]
    return {key.strip(): value.strip() for key, value in pairs}


def from_mdev(number: str, name: str, description: str | None) -> VgpuType:
    """Returns the VgpuType that the name and description files in a type directory describe."""
    values = parse_description(description or "")
    return VgpuType(number, name, mebibytes(values.get("framebuffer")), numbers.number(values.get("max_instance")))


def mebibytes(text: str | None) -> int | None:
    """Returns the number of mebibytes in text such as 1024M or 24576 MiB, or None for other text."""
    size = re.match(r"^([0-9]{1,9})\s*M", text or "")
    return int(size.group(1)) if size else None


def by_number(types: Iterable[VgpuType]) -> list[VgpuType]:
    """Returns the types sorted by number. Types without a number come first."""
    return sorted(types, key=lambda one: numbers.number(one.id, 0))


def find(requested: object, types: Sequence[VgpuType]) -> VgpuType | None:
    """Returns the type with the requested full name, short name, or number (with any prefix), or None if no type matches."""
    word = " ".join(str(requested).split()).lower()
    match = _NUMBER.match(word)
    found = [one for one in types if word in (one.name.lower(), one.short.lower())]
    found += [one for one in types if one.name.lower().endswith(" " + word)]
    found += [one for one in types if match and one.id == match.group(1)]
    return found[0] if found else None


def predicted(requested: object) -> VgpuType | None:
    """Returns a VgpuType for a requested name or number before the driver lists its types, or None for other text.

    If only a number is requested, the type name and all values derived from the name are unknown.
    """
    word = " ".join(str(requested).split())
    if gpu_word(word):
        return VgpuType("", short_name(word))
    match = re.match(r"^(?:[a-z]+-)*([0-9]{1,6})$", word, re.IGNORECASE)
    return VgpuType(match.group(1), word) if match else None


def merge(types: Iterable[VgpuType], others: Iterable[VgpuType]) -> list[VgpuType]:
    """Returns the types sorted by number, with missing types, limits, and GPU instance profiles added from the second list."""
    by_id = {one.id: one for one in types}
    for other in others:
        mine = by_id.get(other.id)
        if mine is None:
            by_id[other.id] = other
        elif mine.short == other.short:
            mine.max_instances = mine.max_instances or other.max_instances
            mine.gi_profile = other.gi_profile if mine.gi_profile is None else mine.gi_profile
            mine.per_gi = other.per_gi if mine.per_gi is None else mine.per_gi
    return by_number(by_id.values())


def nearest(requested: object, types: Iterable[VgpuType], count: int = 3) -> list[str]:
    """Returns the short names of types that resemble the requested name, most similar first."""
    words = {one.short.lower(): one.short for one in types}
    close = difflib.get_close_matches(short_name(str(requested)).lower(), list(words), count, 0.5)
    return [words[word] for word in close]
