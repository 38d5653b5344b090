# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""GPU models of fake hosts: their PCI IDs, VFs, and the vGPU types that the driver lists."""

from __future__ import annotations


class FakeType:
    """A vGPU type that the driver lists.

    profile: the GPU instance profile of the type, or None for a time-sliced type. per_gi: number of vGPUs that share one GPU instance.
    """

    def __init__(self, number, name, gib, most, heads=4, profile=None, per_gi=1):
        self.profile = profile
        self.per_gi = per_gi
        self.id = str(number)
        self.name = name
        self.gib = gib
        self.most = most
        self.description = "num_heads=%d, frl_config=60, framebuffer=%dM, max_resolution=5120x2880, max_instance=%d" % (
            heads,
            gib * 1024,
            most,
        )

    @property
    def short(self):
        """Return the short name of the type, such as A40-24Q for NVIDIA A40-24Q."""
        return self.name.split()[-1]


class FakeProfile:
    """A GPU instance profile: compute slices, memory slices, GiB as nvidia-smi prints them, and the number of instances that fit on an empty GPU."""

    def __init__(self, name, number, slices, memory, gib, total):
        self.name = name
        self.id = number
        self.slices = slices
        self.memory = memory
        self.gib = gib
        self.total = total


class FakeModel:
    """A GPU model.

    device: PCI device ID. gib: framebuffer in GiB. vfs: sriov_totalvfs. vf_device: device ID of the VFs, or 0 if the SR-IOV capability is unusable.
    profiles: MIG profiles. mig_needs_reset: as on Ampere, a mode change needs a reset and survives a reboot. mixed: whether it supports mixed sizes.
    """

    def __init__(
        self, device, title, gib, vfs, types, vf_device=None, offset=4, subsystem="0x145a", profiles=(), mig_needs_reset=False, mixed=False
    ):
        self.profiles = list(profiles)
        self.mig_needs_reset = mig_needs_reset
        self.mixed = mixed
        self.device = device
        self.title = title
        self.gib = gib
        self.vfs = vfs
        self.types = types
        self.vf_device = device if vf_device is None else vf_device
        self.offset = offset
        self.subsystem = subsystem


def _a40():
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 48)
    names = [(555, "1B", 1), (556, "2B", 2)]
    names += [(557 + number, "%dQ" % size, size) for number, size in enumerate(sizes)]
    names += [(567 + number, "%dA" % size, size) for number, size in enumerate(sizes)]
    return [FakeType(number, "NVIDIA A40-" + name, size, min(48 // size, 32)) for number, name, size in names]


def _types(first, word, whole, sizes, series="Q", most=32):
    return [
        FakeType(first + number, "NVIDIA %s-%d%s" % (word, size, series), size, min(whole // size, most)) for number, size in enumerate(sizes)
    ]


def _mig_types(first, word, profiles, series="C"):
    """Return one type for each profile. The size is that in the profile's name."""
    found = []
    for number, one in enumerate(profiles):
        gib = int(one.name.split(".")[1].split("gb")[0])
        suffix = {"+me": "ME"}.get(one.name[one.name.index("gb") + 2:], "")
        found.append(FakeType(first + number, "NVIDIA %s-%d-%d%s%s" % (word, one.slices, gib, series, suffix), gib, one.total, profile=one))
    return found


A40 = FakeModel("0x2235", "NVIDIA A40", 48, 32, _a40(), mixed=True)
# An A40 with fewer VFs and types keeps tests with many runs short and verifies that the engine does not depend on 32 VFs.
SMALL_A40 = FakeModel(
    "0x2235", "NVIDIA A40", 48, 6, [one for one in A40.types if one.short in ("A40-8Q", "A40-8A", "A40-24Q", "A40-48A")], mixed=True
)
T4 = FakeModel(
    "0x1eb8",
    "Tesla T4",
    16,
    16,
    [FakeType(230 + number, "GRID T4-%dQ" % size, size, 16 // size) for number, size in enumerate((1, 2, 4, 8, 16))],
    vf_device=0,
)
GEFORCE = FakeModel("0x2504", "NVIDIA GeForce RTX 3060", 12, 0, [])
V100 = FakeModel("0x1db6", "Tesla V100-PCIE-32GB", 32, 0, _types(180, "V100D", 32, (4, 8, 16, 32)))
P40 = FakeModel("0x1b38", "Tesla P40", 24, 0, _types(46, "P40", 24, (1, 2, 4, 8, 24)))
A2 = FakeModel("0x25b6", "NVIDIA A2", 16, 16, _types(745, "A2", 16, (1, 2, 4, 8, 16)), subsystem="0x157e", mixed=True)
L40S = FakeModel(
    "0x26b9", "NVIDIA L40S", 48, 32, [FakeType(1145, "NVIDIA L40S-1B", 1, 32)] + _types(1149, "L40S", 48, (4, 8, 12, 16, 24, 48)), mixed=True
)
SMALL_L40S = FakeModel(
    "0x26b9", "NVIDIA L40S", 48, 6, [one for one in L40S.types if one.short in ("L40S-8Q", "L40S-12Q", "L40S-24Q", "L40S-48Q")], mixed=True
)
_A30_MIG = [
    FakeProfile("1g.6gb", 14, 1, 1, 5.81, 4),
    FakeProfile("1g.6gb+me", 21, 1, 1, 5.81, 1),
    FakeProfile("2g.12gb", 5, 2, 2, 11.69, 2),
    FakeProfile("4g.24gb", 0, 4, 4, 23.44, 1),
]
A30 = FakeModel(
    "0x20b7", "NVIDIA A30", 24, 16, _types(689, "A30", 24, (4, 6, 8, 12, 24), "C") + _mig_types(697, "A30", _A30_MIG),
    profiles=_A30_MIG, mig_needs_reset=True,
)
_A100_MIG = [
    FakeProfile("1g.5gb", 19, 1, 1, 4.75, 7),
    FakeProfile("1g.5gb+me", 20, 1, 1, 4.75, 1),
    FakeProfile("2g.10gb", 14, 2, 2, 9.75, 3),
    FakeProfile("3g.20gb", 9, 3, 4, 19.62, 2),
    FakeProfile("4g.20gb", 5, 4, 4, 19.62, 1),
    FakeProfile("7g.40gb", 0, 7, 8, 39.38, 1),
]
A100 = FakeModel(
    "0x20f1", "NVIDIA A100-PCIE-40GB", 40, 16, _types(468, "A100", 40, (4, 5, 8, 10, 20, 40), "C") + _mig_types(474, "A100", _A100_MIG),
    profiles=_A100_MIG, mig_needs_reset=True,
)
_H100_MIG = [
    FakeProfile("1g.10gb", 19, 1, 1, 9.75, 7),
    FakeProfile("1g.10gb+me", 20, 1, 1, 9.75, 1),
    FakeProfile("1g.20gb", 15, 1, 2, 19.62, 4),
    FakeProfile("2g.20gb", 14, 2, 2, 19.62, 3),
    FakeProfile("3g.40gb", 9, 3, 4, 39.5, 2),
    FakeProfile("4g.40gb", 5, 4, 4, 39.5, 1),
    FakeProfile("7g.80gb", 0, 7, 8, 79.25, 1),
]
H100 = FakeModel(
    "0x2331", "NVIDIA H100 PCIe", 80, 16, _types(821, "H100", 80, (4, 5, 8, 10, 16, 20, 40, 80), "C") + _mig_types(835, "H100", _H100_MIG),
    profiles=_H100_MIG,
)
# A GPU of an HGX board. NVSwitches connect the GPUs of the board.
H200X = FakeModel("0x2335", "NVIDIA H200", 141, 6, _types(1300, "H200X", 141, (28, 70, 141), "C") + _mig_types(1310, "H200X", _H100_MIG), profiles=_H100_MIG)
_RTX_MIG = [
    FakeProfile("1g.24gb+gfx", 47, 1, 1, 23.12, 4),
    FakeProfile("2g.48gb+gfx", 35, 2, 2, 46.5, 2),
    FakeProfile("4g.96gb+gfx", 32, 4, 4, 93.38, 1),
    FakeProfile("1g.24gb", 14, 1, 1, 23.12, 4),
    FakeProfile("1g.24gb+me", 21, 1, 1, 23.12, 1),
    FakeProfile("2g.48gb", 5, 2, 2, 46.5, 2),
    FakeProfile("4g.96gb", 0, 4, 4, 93.38, 1),
]


def _shared_types(first, word):
    """Return types for GPU instances with graphics. Several vGPUs of the same size share one instance."""
    sizes = [(_RTX_MIG[0], 24, (2, 3, 4, 6, 8, 12, 24)), (_RTX_MIG[1], 48, (12, 16, 24, 48)), (_RTX_MIG[2], 96, (24, 32, 48, 96))]
    found = []
    for profile, whole, each in sizes:
        for gib in each:
            for series in "QAC" if gib >= 8 else "QA":
                name = "NVIDIA %s-%d-%d%s" % (word, profile.slices, gib, series)
                found.append(FakeType(first + len(found), name, gib, whole // gib * profile.total, profile=profile, per_gi=whole // gib))
    return found


# On this GPU, the address of the first VF ends in .2, and the type names have several words before the size.
RTXPRO6000 = FakeModel(
    "0x2bb5",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    96,
    48,
    _types(1519, "RTX Pro 6000 Blackwell DC", 96, (2, 3, 4, 24, 48, 96)) + _shared_types(1546, "RTX Pro 6000 Blackwell DC"),
    offset=2,
    profiles=_RTX_MIG,
    mixed=True,
)
# This GPU has fewer VFs, which keeps tests with many runs short.
SMALL_A100 = FakeModel(
    "0x20f1", "NVIDIA A100-PCIE-40GB", 40, 8, [one for one in A100.types if one.profile or one.short in ("A100-10C", "A100-20C")],
    profiles=_A100_MIG, mig_needs_reset=True,
)
SMALL_H100 = FakeModel(
    "0x2331", "NVIDIA H100 PCIe", 80, 8, [one for one in H100.types if one.profile or one.short in ("H100-20C", "H100-40C")], profiles=_H100_MIG
)
