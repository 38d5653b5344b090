# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""GPUs that a fake host can have: PCI ids, VFs, and the vGPU types that the driver lists for them."""

from __future__ import annotations


class FakeType:
    """A vGPU type as the driver has it."""

    def __init__(self, number, name, gib, most, heads=4):
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
        """A40-24Q of NVIDIA A40-24Q."""
        return self.name.split()[-1]


class FakeModel:
    """device: PCI device id. gib: framebuffer. vfs: sriov_totalvfs. vf_device: 0 where SR-IOV is an empty shell."""

    def __init__(self, device, title, gib, vfs, types, vf_device=None, offset=4, subsystem="0x145a"):
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


A40 = FakeModel("0x2235", "NVIDIA A40", 48, 32, _a40())
# An A40 with fewer VFs and types keeps tests of many runs short; nothing in the engine may know 32.
SMALL_A40 = FakeModel(
    "0x2235", "NVIDIA A40", 48, 6, [one for one in A40.types if one.short in ("A40-8Q", "A40-8A", "A40-24Q", "A40-48A")]
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
L40S = FakeModel("0x26b9", "NVIDIA L40S", 48, 32, [FakeType(1145, "NVIDIA L40S-1B", 1, 32), FakeType(1155, "NVIDIA L40S-24Q", 24, 2)])
