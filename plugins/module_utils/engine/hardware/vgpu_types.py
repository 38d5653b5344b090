# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPU types: their names, and how a user's word finds one of them.

A name is <GPU>-<framebuffer GiB><series>; series Q, B (also B4), A, C; 0 GiB stands for 512 MiB. With a number of slices before the
framebuffer (A100-1-5C) the type lives in a GPU instance of MIG. Numeric ids and the driver's prefix of a type's directory (nvidia-558,
vfio-pci-558) mean nothing across hosts, so types are found by name, or by the number at the end.
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
    """A type as a GPU offers it. gi_profile: id of the GPU instance profile that it needs; per_gi: how many share an instance. None: unknown."""

    def __init__(
        self, number: int | str | None, name: str, framebuffer_mib: int | None = None, max_instances: int | None = None,
        gi_profile: int | None = None, per_gi: int | None = None,
    ) -> None:
        self.id, self.name, self.short = str(number), name, short_name(name)
        self.framebuffer_mib = framebuffer_mib or framebuffer_of(name)
        self.max_instances, self.gi_profile, self.per_gi = max_instances, gi_profile, per_gi
        self.slices = slices_of(name)  # of the GPU instance that it lives in; None for a time-sliced type
        self.series = series_of(name)  # Q, B, A or C, or None
        self.suffix = (_part(name, "suffix") or "").upper()  # for media engines and graphics: ME, NOME, MEALL, GFX or nothing


def short_name(name: str) -> str:
    """Last word of a type's name: A40-24Q of NVIDIA A40-24Q (GRID T4-16Q likewise)."""
    return (name.split() or [name])[-1]


@functools.lru_cache(maxsize=2048)  # a layout has one name many times
def _part(name: str, part: str) -> str | None:
    match = _NAME.match(short_name(name))
    return match[part] if match else None


def framebuffer_of(name: str) -> int | None:
    """Framebuffer in MiB as the name has it, or None."""
    gib = _part(name, "gib")
    return (int(gib) * 1024 or 512) if gib else None  # M60-0Q has half a GiB


def slices_of(name: str) -> int | None:
    """Slices of the GPU instance that a type of this name lives in (1 of A100-1-5C), or None."""
    slices = _part(name, "slices")
    return int(slices) if slices else None


def series_of(name: str) -> str | None:
    """The series of a type's name (Q of A40-24Q, B of T4-2B4), or None."""
    series = _part(name, "series")
    return series[0].upper() if series else None


def gpu_word(name: str) -> str | None:
    """The GPU's part of a type's short name (A40 of A40-24Q), or None when it is no type name."""
    return _part(name, "gpu")


def parse_description(text: str) -> dict[str, str]:
    """mdev's description (num_heads=4, framebuffer=1024M, max_instance=32) as a dict of words."""
    pairs = [part.split("=", 1) for part in text.replace("\n", ",").split(",") if "=" in part]
    return {key.strip(): value.strip() for key, value in pairs}


def from_mdev(number: str, name: str, description: str | None) -> VgpuType:
    """A VgpuType from the files name and description of a type's directory."""
    values = parse_description(description or "")
    return VgpuType(number, name, mebibytes(values.get("framebuffer")), numbers.number(values.get("max_instance")))


def mebibytes(text: str | None) -> int | None:
    """The number in 1024M or 24576 MiB, or None."""
    size = re.match(r"^([0-9]{1,9})\s*M", text or "")
    return int(size.group(1)) if size else None


def by_number(types: Iterable[VgpuType]) -> list[VgpuType]:
    """Types in the order of their numbers; those without one first."""
    return sorted(types, key=lambda one: numbers.number(one.id, 0))


def find(requested: object, types: Sequence[VgpuType]) -> VgpuType | None:
    """The type that a user's word means: full name, short name, or id with any prefix. None if none."""
    word = " ".join(str(requested).split()).lower()
    match = _NUMBER.match(word)
    found = [one for one in types if word in (one.name.lower(), one.short.lower())]
    found += [one for one in types if one.name.lower().endswith(" " + word)]
    found += [one for one in types if match and one.id == match.group(1)]
    return found[0] if found else None


def predicted(requested: object) -> VgpuType | None:
    """The type that a user's word means before a driver lists its own: by its name, or a number that says nothing more. None if it is neither."""
    word = " ".join(str(requested).split())
    if gpu_word(word):
        return VgpuType("", short_name(word))
    match = re.match(r"^(?:[a-z]+-)*([0-9]{1,6})$", word, re.IGNORECASE)
    return VgpuType(match.group(1), word) if match else None


def merge(types: Iterable[VgpuType], others: Iterable[VgpuType]) -> list[VgpuType]:
    """types, with what others know besides: missing types, limits, GPU instance profiles. By number."""
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
    """Short names similar to the requested one, nearest first."""
    words = {one.short.lower(): one.short for one in types}
    close = difflib.get_close_matches(short_name(str(requested)).lower(), list(words), count, 0.5)
    return [words[word] for word in close]
