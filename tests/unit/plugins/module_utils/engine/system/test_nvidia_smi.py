# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests each parser for output of nvidia-smi and the driver with samples of the formats, and tests the placement of GPU instances."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks import likely_uuids, vendor_vfio
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import vgpu_types
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.mig_profiles import Profile
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.mig import placement as mig_placement
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import nvidia_smi
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.tests.unit.fake import models
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import ANSWER
from ansible_collections.vgpu.kvm.tests.unit.fake.printed import printed

# The values of the GPU in a VM, for the template ANSWER.
RECORD = {"name": "NVIDIA A40-24Q", "product": "NVIDIA RTX Virtual Workstation", "status": "Licensed (Expiry: 2025-3-19 7:29:4 GMT)", "mib": 24576}
SAMPLES = pathlib.Path(__file__).resolve().parents[4] / "samples"


def sample(name):
    """Returns the text of a sample."""
    return (SAMPLES / name).read_text(encoding="utf-8")


def test_modes():
    assert nvidia_smi.modes(printed(sample("modes.txt"))) == [
        (0, "0000:17:00.0", True, True),
        (1, "0000:3b:00.0", None, None),
        (3, "0000:65:00.0", False, True),
        (4, "10000:e8:00.0", False, False),
    ]
    assert nvidia_smi.modes(printed("No devices were found\n")) == []


def test_profiles_of_an_h100():
    found = nvidia_smi.profiles(printed(sample("h100-lgip.txt")))
    assert [(gpu, one.name, one.id, one.free, one.total, one.memory) for gpu, one in found] == [
        (0, "1g.10gb", 19, 7, 7, 9.75),
        (0, "1g.10gb+me", 20, 1, 1, 9.75),
        (0, "1g.20gb", 15, 4, 4, 19.62),
        (0, "2g.20gb", 14, 3, 3, 19.62),
        (0, "3g.40gb", 9, 2, 2, 39.5),
        (0, "4g.40gb", 5, 1, 1, 39.5),
        (0, "7g.80gb", 0, 1, 1, 79.25),
    ]
    assert [(one.slices, one.gib, one.suffix) for dummy, one in found][:2] == [(1, 10, ""), (1, 10, "+me")]


def test_profiles_with_all_suffixes():
    found = [one for dummy, one in nvidia_smi.profiles(printed(sample("blackwell-lgip.txt")))]
    assert [one.suffix for one in found] == ["", "+me", "+gfx", "+me.all", "-me", ""] and found[0].free == 3


@pytest.mark.parametrize(
    "name, rows",
    [
        ("lgi-narrow.txt", [(0, 13, "1g.5gb", 19, 6, 1), (0, 2, "3g.20gb", 9, 0, 4)]),
        ("lgi-wide.txt", [(1, 4, "1g.24gb+gfx", 47, 3, 3), (2, 0, "7g.80gb", 0, 0, 8)]),
        ("lgi-spare.txt", [(0, 1, "3g.20gb", 9, 4, 4), (0, 2, "3g.20gb", 9, None, None)]),
    ],
)
def test_gpu_instances(name, rows):
    found = nvidia_smi.instances(printed(sample(name)))
    assert [(gpu, one.id, one.profile, one.profile_id, one.start, one.size) for gpu, one in found] == rows


@pytest.mark.parametrize("text", ["No MIG-enabled devices found.\n", "No GPU instances found: Not Found\n", ""])
def test_text_without_numbers_has_no_values(text):
    assert nvidia_smi.instances(printed(text)) == nvidia_smi.compute_instances(printed(text)) == nvidia_smi.profiles(printed(text)) == []


def test_compute_instances():
    assert nvidia_smi.compute_instances(printed(sample("lci-old.txt"))) == [(0, 1, 0), (0, 1, 1)]
    assert nvidia_smi.compute_instances(printed(sample("lci.txt"))) == [(0, 9, 0), (1, 0, 0)]


def test_placements():
    found = nvidia_smi.placements(printed(sample("lgipp.txt")), "0000:17:00.0")
    assert found == {19: ([0, 1, 2, 3, 4, 5, 6], 1), 14: ([0, 2, 4], 2), 9: ([0, 4], 4), 0: ([0], 8)}


def test_placements_of_an_h100_are_those_of_our_model():
    from ansible_collections.vgpu.kvm.tests.unit.fake import nvidia_smi as fake

    real = nvidia_smi.placements(printed(sample("h100-lgipp.txt")), "0000:17:00.0")
    ours = {one.id: (fake.starts(models.H100, one), one.memory) for one in models.H100.profiles}
    assert len(real) == 5 and real == {number: ours[number] for number in real}


def test_supported_types():
    found = nvidia_smi.types(printed(sample("types.txt")))
    assert sorted(found) == ["0000:8c:00.0", "0000:e8:00.0"]
    rows = [(one.id, one.short, one.framebuffer_mib, one.max_instances, one.gi_profile, one.per_gi) for one in found["0000:8c:00.0"]]
    assert rows == [("1518", "DC-2B", 2048, 32, None, None), ("1546", "DC-1-2Q", 2048, 48, 47, 12)]
    assert [(one.id, one.short) for one in found["0000:e8:00.0"]] == [("1145", "L40S-1B")]
    assert nvidia_smi.types(printed("No supported devices in vGPU mode\n")) == {}


def test_running_vgpus():
    assert nvidia_smi.running(printed(sample("running.txt"))) == {"7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1": 3}
    assert nvidia_smi.running(printed("No supported devices in vGPU mode\n")) == {}


@pytest.mark.parametrize("name, expected", [("h100-q.txt", (False, False)), ("l40s-q.txt", (True, True)), ("h100-host-q.txt", (False, False))])
def test_mixed_sizes(name, expected):
    assert nvidia_smi.mixed(printed(sample(name)), "0000:17:00.0") == expected


def test_mixed_sizes_in_another_spelling():
    text = "  Heterogenous Time-Slice Sizes : Supported\n  Heterogenous Multi-vGPU : Enabled\n"
    assert nvidia_smi.mixed(printed(text), "0000:17:00.0") == (True, True)


def test_creatable_types_in_both_formats():
    assert [(one.id, one.short, one.slices) for one in vendor_vfio.parse_creatable(sample("creatable-table.txt"))] == [
        ("1145", "L40S-1B", None),
        ("1414", "H200X-1-18C", 1),
        ("1546", "DC-1-24Q", 1),
    ]
    assert [(one.id, one.name) for one in vendor_vfio.parse_creatable(sample("creatable-short.txt"))] == [
        ("557", "NVIDIA A40-1Q"),
        ("1519", "NVIDIA RTX Pro 6000 Blackwell DC-3Q"),
    ]
    assert vendor_vfio.parse_creatable(sample("creatable-empty.txt")) == vendor_vfio.parse_creatable("") == []


def test_kernels_with_and_without_mdev():
    assert likely_uuids("6.1.0-50-amd64") and likely_uuids("5.14.0-503.el9.x86_64") and likely_uuids(None)
    assert not likely_uuids("6.8.0-51-generic") and not likely_uuids("6.12.0-55.el10.x86_64") and not likely_uuids("7.0.0")


@pytest.mark.parametrize(
    "name, profile",
    [
        ("H100-1-10C", "1g.10gb"),
        ("H100-1-20C", "1g.20gb"),
        ("H100XM-2-20C", "2g.20gb"),
        ("H100-3-40C", "3g.40gb"),
        ("H100-7-80C", "7g.80gb"),
        ("H100-1-10CME", "1g.10gb+me"),
        ("H100-1-5C", "1g.10gb"),
        ("H100-2-40C", None),
        ("H100-5-40C", None),
    ],
)
def test_the_profile_of_a_type_by_its_name(name, profile):
    profiles = [one for dummy, one in nvidia_smi.profiles(printed(sample("h100-lgip.txt")))]
    found = mig_placement.profile_for(vgpu_types.VgpuType(1, "NVIDIA " + name), profiles)
    assert (found.name if found else None) == profile


def test_the_profile_of_a_type_as_the_driver_reports_it():
    profiles = [one for dummy, one in nvidia_smi.profiles(printed(sample("blackwell-lgip.txt")))]
    assert mig_placement.profile_for(vgpu_types.VgpuType(1, "DC-1-24Q", gi_profile=47), profiles).name == "1g.24gb+gfx"
    assert mig_placement.profile_for(vgpu_types.VgpuType(1, "DC-1-24QGFX"), profiles).name == "1g.24gb+gfx"
    assert mig_placement.profile_for(vgpu_types.VgpuType(1, "DC-1-24QNOME"), profiles).name in ("1g.24gb-me", "1g.24gb")
    assert mig_placement.profile_for(vgpu_types.VgpuType(1, "DC-1-24QMEALL"), profiles).name == "1g.24gb+me.all"


@pytest.mark.parametrize(
    "expected, good",
    [
        (["7g.40gb"], True),
        (["4g.20gb", "3g.20gb"], True),
        (["4g.20gb", "2g.10gb", "1g.5gb"], True),
        (["3g.20gb", "3g.20gb"], True),
        (["3g.20gb", "2g.10gb", "2g.10gb"], True),
        (["2g.10gb", "2g.10gb", "2g.10gb", "1g.5gb"], True),
        (["1g.5gb"] * 7, True),
        (["1g.5gb"] * 8, False),
        (["4g.20gb", "4g.20gb"], False),
        (["3g.20gb", "3g.20gb", "1g.5gb"], False),
        (["2g.10gb"] * 4, False),
        (["7g.40gb", "1g.5gb"], False),
    ],
)
def test_what_fits_on_an_a100(expected, good):
    profiles = [Profile(one.name, one.id, one.total, one.total, one.gib) for one in models.A100.profiles]
    assert mig_placement.fits(profiles, [], [mig_placement.find_profile(word, profiles) for word in expected]) is good


def test_names_are_distinguished_by_their_section():
    (gpu,) = nvidia_smi.guest_gpus(printed(ANSWER % RECORD))[0]
    assert (gpu.address, gpu.name, gpu.virtualization, gpu.framebuffer_mib) == ("0000:02:00.0", "NVIDIA A40-24Q", "VGPU", 24576)
    assert (gpu.product, gpu.status) == (RECORD["product"], RECORD["status"])


def test_the_older_section_and_several_gpus():
    text = (ANSWER % RECORD).replace("vGPU Software Licensed", "GRID Licensed")
    two = text + text[text.index("GPU 0000"):].replace("02:00.0", "03:00.0").replace("Licensed (Exp", "Unlicensed (Exp")
    assert [gpu.status.partition(" ")[0] for gpu in nvidia_smi.guest_gpus(printed(two))[0]] == ["Licensed", "Unlicensed"]


def test_a_gpu_without_the_section_has_no_status():
    head, dummy, tail = (ANSWER % RECORD).partition("    vGPU Software Licensed Product\n")
    (gpu,) = nvidia_smi.guest_gpus(printed(head + tail.split("\n", 2)[2]))[0]
    assert gpu.status is None and gpu.framebuffer_mib == 24576


def test_a_gpu_for_which_it_hangs_does_not_silence_the_others():
    calls = []

    def command(argv, timeout, env=None, keeps_lock=False):
        calls.append(argv[-1])
        return Result(124, "", True) if argv[-1] in hung else Result(0, sample("running.txt"))

    ctx, first, second, third = Context(command=command), "0000:17:00.0", "0000:3b:00.0", "0000:65:00.0"
    hung = [first]
    for dummy in range(2):
        assert nvidia_smi.active(ctx, first) == ([], "nvidia-smi did not exit within 60 s and was stopped")
        assert len(nvidia_smi.active(ctx, second)[0]) == 2
    assert calls == [first, second, second], "the engine must not run nvidia-smi again for a GPU for which it hung"
    hung += [second, third]
    for gpu in (second, third, "0000:e8:00.0"):
        assert nvidia_smi.active(ctx, gpu) == ([], "nvidia-smi did not exit within 60 s and was stopped")
    assert calls[3:] == [second, third], "after nvidia-smi hung for several GPUs, the engine must not run it again"


def test_a_corrupted_inforom_is_a_warning_not_silence():
    """If an infoROM is corrupted, nvidia-smi prints its full output and a warning, and exits with status 14."""
    row, warning = "0, 00000000:17:00.0, Disabled, Disabled\n", "WARNING: infoROM is corrupted at gpu 0000:17:00.0\n"
    ctx = Context(command=lambda argv, timeout: Result(14, row + warning))
    assert nvidia_smi.modes(ctx) == [(0, "0000:17:00.0", False, False)]
    assert nvidia_smi.active(ctx, "0000:17:00.0") == ([], None)


@pytest.mark.parametrize(
    "text, expected",
    [
        (sample("l40s-q.txt"), {"0000:e8:00.0": "SR-IOV"}),
        (sample("h100-host-q.txt"), {"0000:65:00.0": "SR-IOV"}),
        (sample("h100-q.txt"), {}),  # in a VM, nvidia-smi prints N/A as the mode
        ("GPU 00000000:3B:00.0\n    GPU Virtualization Mode\n        Host VGPU Mode : Non SR-IOV\n", {"0000:3b:00.0": "Non SR-IOV"}),
        (sample("l40s-q.txt") + sample("h100-host-q.txt"), {"0000:e8:00.0": "SR-IOV", "0000:65:00.0": "SR-IOV"}),
        ("Host VGPU Mode : SR-IOV\n", {}),
        ("", {}),
    ],
)
def test_the_mode_in_which_the_driver_has_its_vgpus(text, expected):
    assert nvidia_smi.host_modes(printed(text), ["0000:e8:00.0"]) == expected
