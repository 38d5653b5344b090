# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog of GPUs that NVIDIA supports for vGPU, which provides data that is unavailable on a host before driver installation.

The catalog is only a hint: catalog values replace unknown values and cause warnings. Only output from the kernel, the driver, or a tool on the host
causes errors.
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
# The maximum number of vGPUs of one time-sliced type on any GPU.
MOST = 32


@dataclass(eq=False, repr=False)
class Model:
    """A GPU model in the catalog.

    Attributes:
        name: The name that selectors use.
        product: The product name that the driver reports.
        framebuffer_gib: The size of the framebuffer that vGPUs share, in GiB.
        sriov: Whether vGPUs are created on VFs.
        mig_slices: The number of MIG slices, or 0 if the catalog has no MIG profiles for the GPU.
        word: The first word in the names of the GPU's vGPU types. The string is empty if the word is unknown.
        profiles: The GPU instance profiles for vGPUs, without IDs. Profile.total is the number of GPU instances that fit on the GPU.
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
        """The kernel module type that NVIDIA's installer selects for the GPU: open for Ada and later, proprietary for earlier GPUs."""
        return "open" if self.architecture in ("Ada", "Hopper", "Blackwell") else "proprietary"

    @property
    def prefix(self) -> str:
        """The first word in the names of this GPU's vGPU types, for examples in messages."""
        return self.word or self.name.replace(" ", "")

    def expects(self, type_name: str) -> bool:
        """Returns whether a vGPU type name probably belongs to the GPU. A number instead of a name (nvidia-565) can belong to any GPU."""
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
        """Returns whether only NVIDIA AI Enterprise's vGPU manager offers the type: series C on a GPU that also has types of other series."""
        others = [one for one in listed(self.word) if one.endswith("Q")] if self.word else []
        return series_of(type_name) == "C" and (bool(others) or not listed(self.word))

    def most(self, kind: VgpuType) -> int | None:
        """Returns the maximum number of vGPUs of a type on the GPU, or None if unknown. The max_instance value from the driver takes precedence."""
        size = kind.framebuffer_mib
        if not size:
            return None
        if not kind.slices:
            return _limits().get(kind.short.lower()) or min(self.framebuffer_gib * 1024 // size, MOST) or None
        return max([profile.total or 0 for profile in self.profiles if _suits(profile, kind)] or [0]) * self._share(kind) or None

    def _share(self, kind: VgpuType) -> int:
        """Returns the number of MIG-backed vGPUs of a type that share one GPU instance. Only graphics-enabled instances can host several vGPUs."""
        sizes = [profile.gib for profile in self.profiles if _suits(profile, kind)]
        return max(sizes or [0]) * 1024 // (kind.framebuffer_mib or 1)


def _suits(profile: Profile, kind: VgpuType) -> bool:
    """Returns whether a GPU instance with the given profile can host a vGPU of the given type.

    The vGPU framebuffer must be as large as the GPU instance. On a graphics-enabled GPU instance, the framebuffer can also be smaller.
    """
    if profile.slices != kind.slices:
        return False
    if profile.suffix == "+gfx":
        return kind.suffix in ("", "GFX") and profile.gib * 1024 >= (kind.framebuffer_mib or 0)
    return profile.gib * 1024 == kind.framebuffer_mib and profile.suffix == {"": "", "ME": "+me"}.get(kind.suffix)


@functools.lru_cache(maxsize=None)
def _boards() -> dict[str, list[tuple[str, Model]]]:
    """Returns the subsystem device ID (or an empty string) and the model for each row in BOARDS, keyed by PCI device ID."""
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
    """Returns a GPU's model from the PCI device ID in sysfs format (0x2235), or None if the catalog does not contain the GPU.

    If several models have the same device ID, the model is selected by the driver's product name or, if unknown, by the subsystem device ID.
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
    """Returns whether a GPU selector is a model or product name in the catalog, in any spelling."""
    return any(_plain(word) in names for names in _names())


def is_product(word: str) -> bool:
    """Returns whether a GPU selector is a product name in the catalog, and not a model name."""
    models, products = _names()
    return _plain(word) in products - models


def _plain(name: str) -> str:
    return re.sub("nvidia|tesla|quadro|grid| ", "", name.lower())


def same_model(name: str, other: str) -> bool:
    """Returns whether two names denote the same model, such as NVIDIA A40 and A40, or rtx a6000 and RTXA6000.

    A brand alone, such as NVIDIA or Tesla, does not denote a model.
    """
    return _plain(name) == _plain(other) != ""
