# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the names of vGPU types and the selection of a type by the text that a user enters."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import catalog, vgpu_types
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

TYPES = [vgpu_types.from_mdev(one.id, one.name, one.description) for one in A40.types]
PRO = vgpu_types.VgpuType("1500", "NVIDIA RTX Pro 6000 Blackwell DC-1-24Q")


@pytest.mark.parametrize(
    "word",
    ["NVIDIA A40-24Q", "nvidia a40-24q", "A40-24Q", "a40-24q", " A40-24Q ", "NVIDIA  A40-24Q", "nvidia-565", "vfio-pci-565", "565", 565],
)
def test_each_word_for_one_type(word):
    assert vgpu_types.find(word, TYPES).short == "A40-24Q"


@pytest.mark.parametrize("word", ["A40-24", "A40-5Q", "40-24Q", "24Q", "nvidia-999", "nvidia", "", "65", "A40-4"])
def test_words_for_none(word):
    assert vgpu_types.find(word, TYPES) is None


def test_a_number_never_finds_a_name_by_its_end():
    """'nvidia-24' selects the type with that ID, not a type whose name ends in 24. 'DC-1-24Q' selects the type with that name."""
    types = [vgpu_types.VgpuType("1", "NVIDIA X-8Q"), vgpu_types.VgpuType("24", "NVIDIA X-4Q")]
    assert vgpu_types.find("nvidia-24", types).short == "X-4Q"
    assert vgpu_types.find("DC-1-24Q", [PRO]) is PRO
    assert vgpu_types.find("nvidia rtx pro 6000 blackwell dc-1-24q", [PRO]) is PRO


def test_what_the_description_contains():
    big = vgpu_types.find("A40-2Q", TYPES)
    assert (big.framebuffer_mib, big.max_instances) == (2048, 24)
    bare = vgpu_types.from_mdev("1", "GRID T4-16Q", "")
    assert (bare.short, bare.framebuffer_mib, bare.max_instances) == ("T4-16Q", 16384, None)
    lines = vgpu_types.from_mdev("1", "GRID X-1Q", "num_heads=4\nframebuffer=512M\nmax_instance=16")
    assert (lines.framebuffer_mib, lines.max_instances) == (512, 16)
    assert vgpu_types.parse_description("nonsense, a=b") == {"a": "b"}


@pytest.mark.parametrize(
    "name, gpu, mib",
    [
        ("NVIDIA A40-24Q", "A40", 24576),
        ("A100-1-5C", "A100", 5120),
        ("A100-1-5CME", "A100", 5120),
        ("NVIDIA RTX Pro 6000 Blackwell DC-1-24Q", "DC", 24576),
        ("RTX6000-Ada-48Q", "RTX6000-Ada", 49152),
        ("B200-180C", "B200", 184320),
        ("nonsense", None, None),
        ("nvidia-565", None, None),
    ],
)
def test_parts_of_a_name(name, gpu, mib):
    assert vgpu_types.gpu_word(name) == gpu and vgpu_types.framebuffer_of(name) == mib


def test_nearest():
    assert vgpu_types.nearest("A40-24X", TYPES)[0].startswith("A40-24")
    assert vgpu_types.nearest("zzz", TYPES) == []


def test_catalog():
    assert catalog.lookup("0x2235").name == "A40" and catalog.lookup("0x2235").module_type == "proprietary"
    assert catalog.lookup("0x25B6", "0x157E").name == "A2" and catalog.lookup("0x25b6", "0x14a9").name == "A16"
    assert catalog.lookup("0x2504") is None
    assert catalog.lookup("0x26b9").module_type == "open" and catalog.lookup("0x20f1").mig_slices == 7
    assert not catalog.lookup("0x1eb8").sriov
    assert all(map(catalog.is_model, ("A40", "T4", "H100", "L40S", "nvidia h100 pcie"))) and not catalog.is_model("A41")
    assert catalog.is_product("NVIDIA H100 PCIe") and not catalog.is_product("NVIDIA A40")
    assert catalog.same_model("NVIDIA A40", "a40") and catalog.same_model("RTX A6000", "rtxa6000")
    assert not catalog.same_model("A40", "A4")


def test_limits_from_the_catalog_match_the_driver():
    model = catalog.lookup("0x2235")
    for one in TYPES:
        assert one.max_instances == min(model.framebuffer_gib * 1024 // one.framebuffer_mib, 32)
