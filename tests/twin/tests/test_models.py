# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the files of the GPU models are complete and consistent."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as tree

import pytest
from twinlib import cli, guest, models, qemu, state
from twinlib.progress import TwinError


def arguments(*words):
    return cli.parser().parse_args(["up", "t1", *words])


@pytest.mark.parametrize("name", models.names())
def test_model_is_consistent(name):
    model = models.load(name)
    slots = 255 if not model.yes("sriov_vgpu") else model.number("vfs")
    profiles = {p.id: p for p in model.profiles}
    assert len(model.types) <= 48, "NV_MAX_TYPES"
    for kind in model.types:
        assert kind.name.startswith(model.gpu["types"])
        assert 1 <= kind.most <= slots
        if kind.profile < 0:
            assert kind.most * kind.framebuffer <= model.number("framebuffer")
        else:
            profile = profiles[kind.profile]
            assert kind.most == profile.most * kind.per_instance
            assert kind.framebuffer <= model.number("framebuffer")
    for profile in model.profiles:
        assert all(start + profile.memory_slices <= int(model.mig["memory_slices"]) for start in profile.starts)
        assert profile.most * profile.compute_slices <= int(model.mig["compute_slices"])
        assert list(profile.starts) == sorted(profile.starts)


def test_type_ids_are_not_used_twice():
    ids = [kind.id for name in models.names() for kind in models.load(name).types]
    assert len(ids) == len(set(ids))


def test_products_name_every_type():
    xml, source = tree.fromstring(models.vgpu_config()), models.c_source()
    assert len(list(xml.iter("vgpuType"))) == sum(len(models.load(name).types) for name in models.names())
    assert '{ "689", "NVIDIA A30-1-6C", 5888, 1, 60, "4096x2160", 4, 14, 1 }' in source
    assert max(len(line.expandtabs(8)) for line in source.splitlines()) <= 160


@pytest.mark.parametrize("text, wanted", [
    ("a40", ["a40"] * 8), ("t4,a40,a100", ["t4", "a40", "a100"]), ("a40*2,t4", ["a40", "a40", "t4"]), ("h100*3", ["h100"] * 3),
])
def test_models_of_a_machine(text, wanted):
    assert cli._models(arguments("--model", text)) == wanted


def test_number_of_gpus_and_models():
    assert cli._models(arguments("--model", "l40s", "--gpus", "2")) == ["l40s"] * 2
    for words in (["--model", "t4,a40", "--gpus", "3"], ["--model", "a41"], ["--model", "a40*9"], ["--model", "a40*0"], ["--model", "t4,"]):
        with pytest.raises(TwinError):
            cli._models(arguments(*words))


def test_each_gpu_gets_what_differs_from_an_a40():
    machine = state.Machine(
        name="t1", tier="full", gpus=3, iommu="intel", start="bare", boot_iommu=False, port=1, accel="tcg", memory_mib=1024, cpus=1,
        hardware=["1.sriov=0"], models=["a40", "t4", "rtxpro6000"], driver=["vendor_vfio=1"],
    )
    settings = [word.partition("value=")[2] for word in qemu.command_line(machine) if word.startswith("type=11")]
    assert settings == [
        "twin_hw.gpus=3", "twin_hw.1.device=7864", "twin_hw.1.subsystem=4770", "twin_hw.1.totalvfs=16", "twin_hw.1.vf_device=0",
        "twin_hw.2.device=11189", "twin_hw.2.subsystem=8270", "twin_hw.2.totalvfs=48", "twin_hw.2.vf_offset=2", "twin_hw.2.vf_device=11189",
        "twin_hw.1.sriov=0", "nvidia.vendor_vfio=1",
    ]


def board_settings(*words):
    """Return the board settings that a machine with these options passes to the emulated hardware."""
    args = arguments("--model", "h200", *words)
    chosen = cli._models(args)
    cli._check_board(args, chosen)
    machine = state.Machine(
        name="t1", tier="full", gpus=len(chosen), iommu="intel", start="bare", boot_iommu=False, port=1, accel="tcg", memory_mib=1024, cpus=1,
        hardware=[], models=chosen, board=args.board or "",
    )
    words = [word.partition("value=twin_hw.")[2] for word in qemu.command_line(machine) if word.startswith("type=11")]
    return [word for word in words if "nvswitch" in word or "module_id" in word]


def test_a_board_has_switches_and_each_gpu_a_place_on_it():
    settings = board_settings("--board", "hgx")
    places = [int(word.partition("=")[2]) for word in settings[2:]]
    assert settings[:2] == ["nvswitches=4", "nvswitch_device=8867"] and [word.partition(".")[0] for word in settings[2:]] == list("01234567")
    assert sorted(places) == list(range(1, 9)) and places != sorted(places), "the module IDs must not be in address order"
    assert [int(word.partition("=")[2]) for word in board_settings("--board", "hgx", "--gpus", "2")[2:]] == places[-2:], "use the last module IDs"
    assert board_settings() == [], "without --board, no GPU must be on a board"


@pytest.mark.parametrize("words", [["--model", "a40"], ["--model", "h200,a40"], ["--guest", "H200X-141C"]])
def test_what_has_no_board(words):
    args = arguments("--board", "hgx", *words)
    with pytest.raises(TwinError, match="such a board .expected: h200"):
        cli._check_board(args, ["h200"] if args.guest else cli._models(args))


@pytest.mark.parametrize("name, settings", [("H200X-141C", ["partition=1"]), ("H200X-70C", []), ("H200X-7-141C", []), ("A40-48Q", [])])
def test_a_guest_with_a_whole_card_of_a_board_needs_a_partition(name, settings):
    args = arguments("--guest", name)
    guest.settle(args)
    assert [word for word in args.hw if word.startswith("partition")] == settings


def test_a_gpu_without_vfs_has_no_sriov_capability():
    assert models.load("v100s").hardware() == {
        "device": 0x1DF6, "subsystem": 0x13D6, "totalvfs": 1, "vf_offset": 4, "vf_device": 0x1DF6, "sriov": 0,
    }
    assert models.load("rtx8000").hardware()["sriov"] == 1 and models.load("rtx8000").hardware()["vf_device"] == 0


@pytest.mark.parametrize("text", ["device=1", "2.device=0x1eb8"])
def test_hardware_settings(text):
    assert cli._hardware(text) == text


@pytest.mark.parametrize("text", ["device", "x.device=1", "2.=1", "=1"])
def test_bad_hardware_settings(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cli._hardware(text)
