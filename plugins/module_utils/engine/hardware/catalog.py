# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs that NVIDIA supports for vGPU: what no host shows before its driver is there.

All of it is a hint: it fills in what is not known yet, and warns. Only what the kernel, the driver or a tool reports on a host refuses anything.
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
# The most vGPUs of one time-sliced type that a GPU of any model holds.
MOST = 32


@dataclass(eq=False, repr=False)
class Model:
    """A board. name: what a selector names; product: as the driver names it. framebuffer_gib is what type sizes are shares of.

    mig_slices 0: no MIG is known of it. profiles: GPU instance profiles that carry vGPUs; total: how many the GPU holds; no ids.
    word: what its types' names begin with; empty if that is not known.
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
        """Flavour of kernel module that NVIDIA's installer takes: Ada and later are open."""
        return "open" if self.architecture in ("Ada", "Hopper", "Blackwell") else "proprietary"

    @property
    def prefix(self) -> str:
        """The word for an example of a type's name."""
        return self.word or self.name.replace(" ", "")

    def expects(self, type_name: str) -> bool:
        """Whether a type of this name is one of such a board, as far as is known. A number (nvidia-565) may be any."""
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
        """Whether NVIDIA AI Enterprise's vGPU manager alone offers the type: series C on a GPU that has the others too."""
        others = [one for one in listed(self.word) if one.endswith("Q")] if self.word else []
        return series_of(type_name) == "C" and (bool(others) or not listed(self.word))

    def most(self, kind: VgpuType) -> int | None:
        """How many of a type the GPU holds; None if that is not known. The driver's max_instance is better where there is one."""
        size = kind.framebuffer_mib
        if not size:
            return None
        if not kind.slices:
            return _limits().get(kind.short.lower()) or min(self.framebuffer_gib * 1024 // size, MOST) or None
        return max([profile.total or 0 for profile in self.profiles if _suits(profile, kind)] or [0]) * self._share(kind) or None

    def _share(self, kind: VgpuType) -> int:
        """How many of a MIG-backed type share one GPU instance: several only where the instance has graphics."""
        sizes = [profile.gib for profile in self.profiles if _suits(profile, kind)]
        return max(sizes or [0]) * 1024 // (kind.framebuffer_mib or 1)


def _suits(profile: Profile, kind: VgpuType) -> bool:
    """Whether a GPU instance of the profile carries the type: of its size, or with graphics any that is not larger."""
    if profile.slices != kind.slices:
        return False
    if profile.suffix == "+gfx":
        return kind.suffix in ("", "GFX") and profile.gib * 1024 >= (kind.framebuffer_mib or 0)
    return profile.gib * 1024 == kind.framebuffer_mib and profile.suffix == {"": "", "ME": "+me"}.get(kind.suffix)


@functools.lru_cache(maxsize=None)
def _boards() -> dict[str, list[tuple[str, Model]]]:
    """(subsystem device id or nothing, model) of each board, by PCI device id."""
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
    """The model of a PCI device id (sysfs spelling, 0x2235), or None when it isn't known.

    Where one device id stands for several boards, the product's name as the driver has it decides, else the PCI subsystem's device id.
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
    """Whether two spellings name one model: NVIDIA A40, A40, rtx a6000, RTXA6000. The maker's name alone (NVIDIA, Tesla) names none."""
    return _plain(name) == _plain(other) != ""
