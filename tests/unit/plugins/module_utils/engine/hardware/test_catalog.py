# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the GPU tables that apply before a driver is installed. Their vGPU counts must match those of NVIDIA's device manager."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import catalog, guest_types
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.boards import BOARDS, PROFILES
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.vgpu_types import VgpuType, framebuffer_of, gpu_word, predicted

SAMPLES = Path(__file__).resolve().parents[4] / "samples"
# NVIDIA's device manager lists these DC types for GPU instances without +gfx. No driver offers them for these instances.
NOT_OFFERED = {"DC-1-16C", "DC-1-16Q", "DC-2-8C", "DC-2-8Q", "DC-2-32C", "DC-2-32Q"}


def counts():
    """Yields (type, number of vGPUs that fit on a GPU) from the sample."""
    for line in (SAMPLES / "vgpu-counts.txt").read_text(encoding="utf-8").splitlines():
        gpu, *words = line.split()
        for word in words:
            rest, _colon, count = word.partition(":")
            yield "%s-%s" % (gpu, rest), int(count)


def models():
    """Returns (PCI ID, GPU model) for each board in the table."""
    return [(line.split("|")[0].strip(), catalog.lookup(*line.split("|")[0].strip().split(":"))) for line in BOARDS.splitlines()]


@pytest.mark.parametrize(
    "ids, name, product, word, gib",
    [
        ("1db1", "V100", "Tesla V100-SXM2-16GB", "V100X", 16),
        ("1db5", "V100", "Tesla V100-SXM2-32GB", "V100DX", 32),
        ("1db6", "V100", "Tesla V100-PCIE-32GB", "V100D", 32),
        ("1db3", "V100", "Tesla V100-FHHL-16GB", "V100L", 16),
        ("1df6", "V100S", "Tesla V100S-PCIE-32GB", "V100S", 32),
        ("15f7", "P100", "Tesla P100-PCIE-12GB", "P100C", 12),
        ("15f9", "P100", "Tesla P100-SXM2-16GB", "P100X", 16),
        ("1e30:12ba", "RTX 6000", "Quadro RTX 6000", "RTX6000", 24),
        ("1e30:129e", "RTX 8000", "Quadro RTX 8000", "RTX8000", 48),
        ("1e78:13d9", "RTX 6000", "Quadro RTX 6000", "RTX6000P", 24),
        ("1e78:13d8", "RTX 8000", "Quadro RTX 8000", "RTX8000P", 48),
        ("25b6:157e", "A2", "NVIDIA A2", "A2", 16),
        ("25b6:14a9", "A16", "NVIDIA A16", "A16", 16),
        ("20b0", "A100", "NVIDIA A100-SXM4-40GB", "A100X", 40),
        ("20b5", "A100", "NVIDIA A100 80GB PCIe", "A100D", 80),
        ("2238", "A10M", "NVIDIA A10M", "A10M", 20),
        ("2321", "H100", "NVIDIA H100 NVL", "H100L", 94),
        ("2337", "H100", "NVIDIA H100 SXM5 64GB", "H100XS", 64),
        ("232c", "H20", "NVIDIA H20-3e", "H20X", 141),
        ("2342:1809", "GH200", "NVIDIA GH200 480GB", "GH200", 96),
        ("2348", "GH200", "NVIDIA GH200 144G HBM3e", "GH200L", 144),
        ("2941", "GB200", "NVIDIA GB200", "GB200", 189),
        ("3182", "B300", "NVIDIA B300 SXM6 AC", "B300X", 269),
        ("2bb9", "RTX 6000D", "NVIDIA RTX 6000D", "6000D", 84),
    ],
)
def test_boards_by_their_pci_ids(ids, name, product, word, gib):
    model = catalog.lookup(*["0x" + one for one in ids.split(":")])
    assert (model.name, model.product, model.word, model.framebuffer_gib) == (name, product, word, gib)


@pytest.mark.parametrize(
    "device",
    (
        "13bd 13f2 13f3 1bb3 1bb4 1b38 15f7 15f8 15f9 1db1 1db3 1db4 1db5 1db6 1df6 1eb8 1e30 1e36 1e37 1e78 25b6 2235 2236 2237 2238 20b7 20b9 "
        "20b0 20b1 20f1 20b2 20b5 20b8 20bd 20f3 20f5 20f6 20fd 2230 2231 2233 27b8 27b6 26b1 26b2 26b3 26b5 26b8 26b9 26ba 2321 2330 2331 2336 2337 "
        "2339 2322 2324 233a 2335 233b 2329 232c 230e 2342 2348 2901 2941 3182 31c2 2bb5 2bb9 2c3a"
    ).split(),
)
def test_every_gpu_that_nvidia_sells_for_vgpu_is_known(device):
    assert catalog.lookup("0x" + device)


def test_the_drivers_name_of_a_board_goes_before_its_subsystem():
    assert catalog.lookup("0x1e30", "0x1234").name == "RTX 6000"
    assert catalog.lookup("0x1e30", "0x1234", "Quadro RTX 8000").word == "RTX8000"
    assert catalog.lookup("0x1e78", "0x1234", "Quadro RTX 6000").word == "RTX6000P"
    assert catalog.lookup("0x2235", "0x1234", "Another Name").name == "A40"
    assert catalog.lookup("0x2504") is None


def test_the_table_counts_as_the_device_manager_does():
    """For each board, the table predicts the same vGPU count for a type as the device manager."""
    seen, wrong = 0, []
    for name, count in counts():
        for ids, model in models():
            if model.word == gpu_word(name) and name not in NOT_OFFERED:
                seen += 1
                if model.most(VgpuType("", name)) != count:
                    wrong.append((ids, name, count, model.most(VgpuType("", name))))
    assert not wrong and seen > 650


def test_each_word_of_the_device_manager_is_one_of_a_board():
    words = {model.word for _ids, model in models()}
    assert {gpu_word(name) for name, _count in counts()} <= words


def test_partitions_are_those_of_a_board():
    keys = set(re.findall(r"^(\S+):", PROFILES, re.MULTILINE))
    assert {line.rsplit("|", 1)[1].strip() for line in BOARDS.splitlines()} - {""} == keys
    for ids, model in models():
        assert bool(model.mig_slices) == bool(model.profiles), ids
        assert not model.profiles or (model.profiles[-1].slices, model.profiles[-1].total) == (model.mig_slices, 1), ids
        assert not model.profiles or model.profiles[-1].gib == model.framebuffer_gib, ids


def test_a_row_with_a_subsystem_stands_before_that_of_its_device():
    listed = [line.split("|")[0].strip() for line in BOARDS.splitlines()]
    assert len(listed) == len(set(listed))
    for one in listed:
        device = one.partition(":")[0]
        assert device in listed and listed.index(device) >= listed.index(one)


@pytest.mark.parametrize(
    "ids, type_name, expected",
    [
        ("1db5", "V100DX-32Q", True), ("1db5", "V100X-16Q", False), ("1e78:13d8", "RTX8000P-48Q", True), ("15f9", "P100X-16Q", True),
        ("15f7", "P100C-12Q", True), ("2235", "nvidia-565", True), ("20fd", "AX800-1-10C", True), ("2235", "T4-4Q", False),
        ("1eb8", "GRID T4-2B4", True),
    ],
)
def test_the_types_that_a_board_is_expected_to_have(ids, type_name, expected):
    assert catalog.lookup(*["0x" + one for one in ids.split(":")]).expects(type_name) is expected


def test_a_type_before_the_driver_is_there():
    assert (predicted("NVIDIA A40-24Q").short, predicted("A40-24Q").framebuffer_mib) == ("A40-24Q", 24576)
    number = predicted("nvidia-565")
    assert (number.id, number.framebuffer_mib, number.slices) == ("565", None, None)
    assert predicted("A40-24") is None and predicted("A40") is None
    assert (framebuffer_of("M60-0Q"), framebuffer_of("T4-2B4"), VgpuType("1", "GRID T4-2B4").series) == (512, 2048, "B")


def test_the_type_of_a_vgpu_by_its_subsystem():
    assert guest_types.type_of("0x2235", "0x14df") == "NVIDIA A40-24Q"
    assert guest_types.type_of("0x1eb8", "0x130B") == "GRID T4-2B4"
    assert guest_types.type_of("0x20f1", "0x160e") == "GRID A100-1-5CME"
    assert guest_types.type_of("0x2bb5", "0x2160") == "NVIDIA RTX Pro 6000 Blackwell DC-1-2Q"
    assert guest_types.type_of("0x26b1", "0x1727") == "NVIDIA RTX6000-Ada-48"
    assert guest_types.type_of("0x2235", "0x145a") is None and guest_types.type_of("0x2330", "") is None
    assert len(re.findall(r"\b[0-9a-f]{4}=", guest_types.TYPES)) > 990
