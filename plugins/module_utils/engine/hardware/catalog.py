# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs that NVIDIA supports for vGPU: what no host shows before its driver is there. Another GPU that offers types is used, with a warning."""

from __future__ import annotations

from dataclasses import dataclass

NVIDIA = "0x10de"


@dataclass(eq=False, repr=False)
class Model:
    """A GPU model. framebuffer_gib is what type sizes are shares of; mig_slices 0: no MIG; prefix: its word in type names."""

    name: str
    architecture: str
    framebuffer_gib: int
    sriov: bool
    mig_slices: int
    prefix: str

    @property
    def module_type(self) -> str:
        """Flavour of kernel module that NVIDIA's installer takes: Ada and later are open."""
        return "open" if self.architecture in ("Ada", "Hopper", "Blackwell") else "proprietary"


_ROWS: tuple[tuple[str, str, str, int, bool, int, str | None], ...] = (
    # ids, name, architecture, GiB, SR-IOV vGPU, MIG slices, word in type names
    ("13bd", "M10", "Maxwell", 8, False, 0, None),
    ("13f2", "M60", "Maxwell", 8, False, 0, None),
    ("13f3", "M6", "Maxwell", 8, False, 0, None),
    ("1bb3", "P4", "Pascal", 8, False, 0, None),
    ("1bb4", "P6", "Pascal", 16, False, 0, None),
    ("1b38", "P40", "Pascal", 24, False, 0, None),
    ("15f7 15f8 15f9", "P100", "Pascal", 16, False, 0, None),
    ("1db1 1db4", "V100", "Volta", 16, False, 0, None),
    ("1db5 1db6", "V100", "Volta", 32, False, 0, None),
    ("1eb8", "T4", "Turing", 16, False, 0, None),
    ("1e30", "RTX 6000", "Turing", 24, False, 0, "RTX6000"),
    ("1e78", "RTX 8000", "Turing", 48, False, 0, "RTX8000"),
    ("25b6:157e", "A2", "Ampere", 16, True, 0, None),
    ("25b6", "A16", "Ampere", 16, True, 0, None),
    ("2236 2237", "A10", "Ampere", 24, True, 0, None),
    ("2235", "A40", "Ampere", 48, True, 0, None),
    ("20b7", "A30", "Ampere", 24, True, 4, None),
    ("20b0 20b1 20f1", "A100", "Ampere", 40, True, 7, None),
    ("20b2 20b5", "A100", "Ampere", 80, True, 7, None),
    ("20f3 20f5", "A800", "Ampere", 80, True, 7, None),
    ("20f6", "A800", "Ampere", 40, True, 7, None),
    ("2230", "RTX A6000", "Ampere", 48, True, 0, "RTXA6000"),
    ("2231", "RTX A5000", "Ampere", 24, True, 0, "RTXA5000"),
    ("2233", "RTX A5500", "Ampere", 24, True, 0, "RTXA5500"),
    ("27b8", "L4", "Ada", 24, True, 0, None),
    ("27b6", "L2", "Ada", 24, True, 0, None),
    ("26b5", "L40", "Ada", 48, True, 0, None),
    ("26b9", "L40S", "Ada", 48, True, 0, None),
    ("26ba", "L20", "Ada", 48, True, 0, None),
    ("26b1", "RTX 6000 Ada", "Ada", 48, True, 0, "RTX6000-Ada"),
    ("26b3", "RTX 5880 Ada", "Ada", 48, True, 0, "RTX5880-Ada"),
    ("26b2", "RTX 5000 Ada", "Ada", 32, True, 0, "RTX5000-Ada"),
    ("2331 2330 2321 2339", "H100", "Hopper", 80, True, 7, None),
    ("2322 2324 233a", "H800", "Hopper", 80, True, 7, None),
    ("2335 233b", "H200", "Hopper", 141, True, 7, None),
    ("2329 232c", "H20", "Hopper", 96, True, 7, None),
    ("2342 2348", "GH200", "Hopper", 96, True, 7, None),
    ("2901", "B200", "Blackwell", 180, True, 7, None),
    ("2941", "GB200", "Blackwell", 186, True, 7, None),
    ("3182", "B300", "Blackwell", 270, True, 7, None),
    ("2bb5", "RTX PRO 6000 Blackwell SE", "Blackwell", 96, True, 4, "DC"),
)
_MODELS = {
    number: Model(name, architecture, size, sriov, mig_slices=mig, prefix=prefix or name)
    for ids, name, architecture, size, sriov, mig, prefix in _ROWS
    for number in ids.split()
}


def lookup(device_id: str, subsystem_id: str = "") -> Model | None:
    """The model of a PCI device id (sysfs spelling, 0x2235), or None when it isn't known."""
    number = device_id.lower().replace("0x", "")
    exact = "%s:%s" % (number, subsystem_id.lower().replace("0x", ""))
    return _MODELS.get(exact) or _MODELS.get(number)


def model_names() -> list[str]:
    """All names that a selector may use."""
    return sorted({model.name for model in _MODELS.values()})


def is_model(word: str) -> bool:
    """Whether a selector is the name of a model in the table, in any spelling."""
    return any(same_model(name, word) for name in model_names())


def same_model(name: str, other: str) -> bool:
    """Whether two spellings name one model: NVIDIA A40, A40, rtx a6000, RTXA6000."""
    one, two = (text.lower().replace("nvidia", "").replace("tesla", "").replace(" ", "") for text in (name, other))
    return one == two
