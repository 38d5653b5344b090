# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The GPU models in ../models/*.ini, and the files that are generated from them: the driver's tables (C), vgpuConfig.xml, and hardware settings."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

FOLDER = Path(__file__).resolve().parent.parent / "models"
SPDX = ("SPDX-" + "License-Identifier: ", "SPDX-" + "FileCopyrightText: The vgpu.kvm authors")
LICENSES = {
    "Q": "Quadro-Virtual-DWS,5.0;GRID-Virtual-WS,2.0;GRID-Virtual-WS-Ext,2.0",
    "B": "GRID-Virtual-PC,2.0;Quadro-Virtual-DWS,5.0;GRID-Virtual-WS,2.0;GRID-Virtual-WS-Ext,2.0",
    "A": "GRID-Virtual-Apps,3.0",
    "C": "NVIDIA-vComputeServer,9.0;Quadro-Virtual-DWS,5.0",
}
CLASSES = {"Q": "Quadro", "C": "Compute"}


class BadModel(Exception):
    """A model does not exist, or a model's file is invalid."""


@dataclass(frozen=True)
class Type:
    """A vGPU type. `profile`: the GPU instance profile of a MIG-backed type, otherwise -1."""

    id: int
    name: str
    framebuffer: int
    heads: int
    frl: int
    resolution: str
    most: int
    profile: int = -1
    per_instance: int = 0

    @property
    def whole(self) -> bool:
        """Return whether the type uses the whole card without a GPU instance."""
        return self.most == 1 and self.profile < 0

    @property
    def series(self) -> str:
        """Return the series Q, B, A, or C. For 1-5CME, this is C."""
        return re.sub(r".*-\d+", "", self.name)[0]


@dataclass(frozen=True)
class Profile:
    """A GPU instance profile, with the numbers that `nvidia-smi mig -lgip` shows."""

    id: int
    name: str
    gib: str
    units: tuple[int, ...]  # SM, CE, DEC, ENC, JPEG, OFA
    memory_slices: int
    compute_slices: int
    most: int
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A GPU model."""

    key: str
    gpu: dict[str, str]
    mig: dict[str, str]
    profiles: tuple[Profile, ...]
    types: tuple[Type, ...]
    board: dict[str, str] = field(default_factory=dict)  # settings of the NVSwitch board; empty if no such board exists

    def number(self, name: str) -> int:
        """Return a number from the section [gpu]."""
        return int(self.gpu[name], 0)

    def yes(self, name: str) -> bool:
        """Return a yes-or-no value from the section [gpu]."""
        return self.gpu[name] == "yes"

    def hardware(self) -> dict[str, int]:
        """Return the settings of twin_hw."""
        device = self.number("device")
        return {
            "device": device, "subsystem": self.number("subsystem"), "totalvfs": max(self.number("vfs"), 1), "vf_offset": self.number("vf_offset"),
            "vf_device": self.number("vf_device") if "vf_device" in self.gpu else device, "sriov": int(self.number("vfs") > 0),
        }


def names() -> list[str]:
    """Return the names of all models."""
    return sorted(p.stem for p in FOLDER.glob("*.ini"))


def load(key: str) -> Model:
    """Return the model with this name."""
    path = FOLDER / f"{key}.ini"
    if key not in names():
        raise BadModel(f"'{key}' is not a known GPU model (expected one of: {', '.join(names())}).")
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read(path, encoding="utf-8")
    gpu = dict(parser["gpu"])
    profiles = tuple(_profile(i, row) for i, row in (parser["profiles"].items() if "profiles" in parser else ()))
    types = tuple(_type(gpu["types"], i, row) for i, row in parser["types"].items())
    mig, board = (dict(parser[name]) if name in parser else {} for name in ("mig", "board"))
    return Model(key, gpu, mig, profiles, types, board)


def _type(prefix: str, type_id: str, row: str) -> Type:
    name, framebuffer, heads, frl, resolution, most, *mig = [w.strip() for w in row.split(",")]
    return Type(int(type_id), prefix + name, int(framebuffer), int(heads), int(frl), resolution, int(most), *map(int, mig))


def _profile(profile_id: str, row: str) -> Profile:
    name, gib, *numbers, starts = [w.strip() for w in row.split(",")]
    values = [int(n) for n in numbers]
    return Profile(int(profile_id), f"MIG {name}", gib, tuple(values[:6]), *values[6:], tuple(int(s) for s in starts.split()))


def parse(text: str, most: int) -> list[str]:
    """Return the models of the GPUs in address order, from `a40` (all GPUs), `t4,a40,a100` (one of each), or `a40*4,t4`."""
    chosen: list[str] = []
    for item in text.split(","):
        match = re.fullmatch(r"([a-z0-9]+)(?:\*(\d+))?", item.strip())
        if not match:
            raise BadModel(f"'{item}' is neither MODEL nor MODEL*NUMBER (expected: a list such as a40*4,t4).")
        load(match[1])
        chosen += [match[1]] * int(match[2] or 1)
    if not 1 <= len(chosen) <= most:
        raise BadModel(f"A machine has 1 to {most} GPUs, but '{text}' selects {len(chosen)}.")
    return chosen


# ------------------------------------------------------------------------------ generated files
def c_source() -> str:
    """Return nv-models.c, the driver's tables. The subsystem ID is compared only if two models have the same device ID."""
    models = [load(key) for key in names()]
    lines = [
        f"// {SPDX[0]}GPL-2.0", f"// {SPDX[1]}",
        "/* Generated from tests/twin/models by twinlib/models.py. */", '#include "nv.h"', "",
    ]
    for m in models:
        lines.append(f"static const struct nv_type types_{m.key}[] = {{")
        for t in m.types:
            lines.append(f'\t{{ "{t.id}", "{t.name}", {t.framebuffer}, {t.heads}, {t.frl}, "{t.resolution}", {t.most}, {t.profile}, {t.per_instance} }},')
        lines += ["};", ""]
        if not m.profiles:
            continue
        lines.append(f"static const struct nv_profile profiles_{m.key}[] = {{")
        for p in m.profiles:
            units = ", ".join(map(str, p.units))
            starts = ", ".join(map(str, p.starts))
            numbers = f"{{ {units} }}, {p.memory_slices}, {p.compute_slices}, {p.most}, {len(p.starts)}, {{ {starts} }}"
            lines.append(f'\t{{ {p.id}, "{p.name}", "{p.gib}", {numbers} }},')
        lines += ["};", ""]
    lines.append("const struct nv_model nv_models[] = {")
    for m in models:
        lines += [
            "\t{", f'\t\t.device = {m.gpu["device"]}, .subsystem = {m.gpu["subsystem"] if "strict_subsystem" in m.gpu else 0}, .name = "{m.gpu["name"]}",',
            f'\t\t.fb_mib = {m.gpu["framebuffer"]}, .memory_mib = {m.gpu["memory"]}, .watts = {m.gpu["power"]},',
            f'\t\t.architecture = "{m.gpu["architecture"]}", .vbios = "{m.gpu["vbios"]}",',
            f"\t\t.sriov_vgpu = {int(m.yes('sriov_vgpu'))}, .mixed_sizes = {int(m.yes('mixed_sizes'))},",
            f"\t\t.types = types_{m.key}, .ntypes = ARRAY_SIZE(types_{m.key}),",
        ]
        if m.profiles:
            lines += [
                f"\t\t.profiles = profiles_{m.key}, .nprofiles = ARRAY_SIZE(profiles_{m.key}),",
                f"\t\t.mig_needs_reset = {int(m.mig['needs_reset'] == 'yes')},",
                f"\t\t.memory_slices = {m.mig['memory_slices']}, .compute_slices = {m.mig['compute_slices']},",
            ]
        lines.append("\t},")
    lines += [
        '\t{ .name = "NVIDIA Graphics Device", .fb_mib = 16384, .memory_mib = 16384, .watts = 250, .architecture = "Unknown", .vbios = "N/A" },',
        "};", "",
    ]
    return "\n".join(lines)


def guest_subsystem(vgpu_type: Type) -> int:
    """Return the subsystem ID of a type in a guest. No public table lists NVIDIA's IDs, so the value is computed from the type ID."""
    return 0x1000 + vgpu_type.id


def find_type(name: str) -> tuple[Model, Type]:
    """Return the model and the type for a vGPU type's short name, such as A40-24Q."""
    for key in names():
        model = load(key)
        for one in model.types:
            if one.name.split()[-1] == name:
                return model, one
    raise BadModel(f"'{name}' is not a known vGPU type (expected: a type such as A40-24Q).")


def guest_types() -> str:
    """Return the file guest-types for the tools in a guest: device ID, subsystem ID, MiB, and name of each type."""
    lines = [f"# {SPDX[0]}GPL-3.0-or-later", f"# {SPDX[1]}"]
    for key in names():
        model = load(key)
        lines += [f"{model.gpu['device']} {guest_subsystem(t):#06x} {t.framebuffer} {t.name}" for t in model.types]
    return "\n".join([*lines, ""])


def vgpu_config() -> str:
    """Return vgpuConfig.xml, from which nvidia-vgpud and nvidia-smi read the types. Each element is on its own line, for the shell script nvidia-vgpud."""
    models = [load(key) for key in names()]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>', f"<!-- {SPDX[0]}GPL-3.0-or-later -->", f"<!-- {SPDX[1]} -->",
        '<vgpuconfig version="1">',
    ]
    for t in sorted((t for m in models for t in m.types), key=lambda t: t.id):
        x, y = t.resolution.split("x")
        values = {
            "id": t.id, "name": t.name, "class": CLASSES.get(t.series, "NVS"), "framebuffer": t.framebuffer, "numHeads": t.heads,
            "maxResolutionX": x, "maxResolutionY": y, "frlConfig": t.frl, "license": LICENSES[t.series],
        }
        if t.profile >= 0:
            values.update(gpuInstanceProfileId=t.profile, maxVgpusPerGpuInstance=t.per_instance)
        lines.append("  <vgpuType " + " ".join(f"{k}={quoteattr(str(v))}" for k, v in values.items()) + "/>")
    for m in models:
        lines.append("  <pgpu>")
        lines.append(f'    <devId vendorId="0x10de" deviceId="{m.gpu["device"]}" subsystemId="{m.gpu["subsystem"]}" name={quoteattr(m.gpu["name"])}/>')
        lines += [f'    <supportedVgpu vgpuId="{t.id}" maxVgpus="{t.most}"/>' for t in m.types]
        lines.append("  </pgpu>")
    return "\n".join([*lines, "</vgpuconfig>", ""])
