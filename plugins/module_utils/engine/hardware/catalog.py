# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs that NVIDIA supports for vGPU: data that a host does not show before its driver is installed.

The catalog is a hint: it fills in unknown values, and causes warnings. Only reports of the kernel, the driver or a tool on the host cause refusals.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from .boards import BOARDS, LIMITS, PROFILES
from .guest_types import listed
from .mig_profiles import Profile
from .vgpu_types import VgpuType, framebuffer_of, gpu_word, series_of, short_name

NVIDIA = "0x10de"
# The most vGPUs of one time-sliced type on a GPU of any model.
MOST = 32


@dataclass(eq=False, repr=False)
class Model:
    """A board. name: for selectors; product: the driver's name. framebuffer_gib: the size that types divide.

    mig_slices: 0 if MIG is unknown for the board. profiles: GPU instance profiles for vGPUs, without ids; total: the number that fits on the GPU.
    word: the first word of its types' names; empty if unknown.
    """

    name: str
    product: str
    architecture: str
    framebuffer_gib: int
    sriov: bool
    mig_slices: int
    word: str
    profiles: tuple[Profile, ...] = ()

    @property
    def module_type(self) -> str:
        """The flavour of kernel module that NVIDIA's installer selects: open for Ada and later."""
        return "open" if self.architecture in ("Ada", "Hopper", "Blackwell") else "proprietary"

    @property
    def prefix(self) -> str:
        """The first word of a type's name, for examples."""
        return self.word or self.name.replace(" ", "")

    def expects(self, type_name: str) -> bool:
        """Whether a type with this name belongs to the board, as far as known. A number (nvidia-565) may be any type."""
        word, short = gpu_word(type_name), short_name(type_name).upper()
        if word is None or not self.word:
            return True
        names = [one.upper() for one in listed(word)]
        if names:
            known = short[len(word) + 1:] in names or (short.endswith("GFX") and short[len(word) + 1:-3] in names)
        else:
            known = self.framebuffer_gib * 1024 % (framebuffer_of(type_name) or 1) == 0
        return known and word.lower() == self.word.lower()

    def needs_ai_enterprise(self, type_name: str) -> bool:
        """Whether only NVIDIA AI Enterprise's vGPU manager offers the type: series C on a GPU that also has other series."""
        others = [one for one in listed(self.word) if one.endswith("Q")] if self.word else []
        return series_of(type_name) == "C" and (bool(others) or not listed(self.word))

    def most(self, kind: VgpuType) -> int | None:
        """The most vGPUs of a type on the GPU; None if unknown. The driver's max_instance has priority."""
        size = kind.framebuffer_mib
        if not size:
            return None
        if not kind.slices:
            return _limits().get(kind.short.lower()) or min(self.framebuffer_gib * 1024 // size, MOST) or None
        return max([profile.total or 0 for profile in self.profiles if _suits(profile, kind)] or [0]) * self._share(kind) or None

    def _share(self, kind: VgpuType) -> int:
        """The number of MIG-backed vGPUs that share one GPU instance: several only if the instance has graphics."""
        sizes = [profile.gib for profile in self.profiles if _suits(profile, kind)]
        return max(sizes or [0]) * 1024 // (kind.framebuffer_mib or 1)


def _suits(profile: Profile, kind: VgpuType) -> bool:
    """Whether a GPU instance of the profile can have the type: one of its size or, with graphics, one that is not larger."""
    if profile.slices != kind.slices:
        return False
    if profile.suffix == "+gfx":
        return kind.suffix in ("", "GFX") and profile.gib * 1024 >= (kind.framebuffer_mib or 0)
    return profile.gib * 1024 == kind.framebuffer_mib and profile.suffix == {"": "", "ME": "+me"}.get(kind.suffix)


@functools.lru_cache(maxsize=None)
def _boards() -> dict[str, list[tuple[str, Model]]]:
    """(subsystem device id or an empty text, model) of each board, by PCI device id."""
    partitions = {key: _profiles(names) for key, names in re.findall(r"^(\S+): (.*)$", PROFILES, re.MULTILINE)}
    found: dict[str, list[tuple[str, Model]]] = {}
    for line in BOARDS.splitlines():
        ids, name, product, architecture, gib, vfs, word, mig = (column.strip() for column in line.split("|"))
        device, dummy, subsystem = ids.partition(":")
        slices = int(mig.split("x")[0]) if mig else 0
        model = Model(name, product, architecture, int(gib), vfs == "VF", mig_slices=slices, word=word, profiles=partitions.get(mig, ()))
        found.setdefault(device, []).append((subsystem, model))
    return found


@functools.lru_cache(maxsize=None)
def _limits() -> dict[str, int]:
    return {name.lower(): int(most) for name, dummy, most in (line.partition("*") for line in LIMITS.splitlines())}


def _profiles(text: str) -> tuple[Profile, ...]:
    return tuple(Profile(name, -1, total=int(total)) for name, dummy, total in (word.partition("*") for word in text.split()))


def lookup(device_id: str, subsystem_id: str = "", product: str | None = None) -> Model | None:
    """The model of a PCI device id (sysfs spelling, 0x2235), or None if unknown.

    If several boards have the same device id, the driver's product name decides, or else the PCI subsystem's device id.
    """
    number, subsystem = (word.lower().replace("0x", "") for word in (device_id, subsystem_id))
    boards = _boards().get(number, [])
    named = [(one, model) for one, model in boards if product and same_model(model.product, product)]
    found = dict(reversed(named or boards))
    return found.get(subsystem) or found.get("") or next(iter(found.values()), None)


@functools.lru_cache(maxsize=None)
def _names() -> tuple[frozenset[str], frozenset[str]]:
    models = [model for boards in _boards().values() for dummy, model in boards]
    return frozenset(_plain(model.name) for model in models), frozenset(_plain(model.product) for model in models)


def is_model(word: str) -> bool:
    """Whether a selector is the name of a model or product in the table, in any spelling."""
    return any(_plain(word) in names for names in _names())


def is_product(word: str) -> bool:
    """Whether a selector names one product of the table, not a model."""
    models, products = _names()
    return _plain(word) in products - models


def _plain(name: str) -> str:
    return re.sub("nvidia|tesla|quadro|grid| ", "", name.lower())


def same_model(name: str, other: str) -> bool:
    """Whether two spellings name the same model: NVIDIA A40, A40, rtx a6000, RTXA6000. The brand alone (NVIDIA, Tesla) names no model."""
    return _plain(name) == _plain(other) != ""
