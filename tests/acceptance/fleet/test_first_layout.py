# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the state after converge and a power cut: the restore unit of each machine has restored the first layout."""

from __future__ import annotations

E8 = "0000:e8:00.0"
VGPUS = {
    "fleet-a40": {E8: ["A40-24Q"] * 2},
    "fleet-l40s": {E8: ["L40S-24Q"] * 2},
    "fleet-a100": {E8: ["A100-1-5C", "A100-1-5C", "A100-2-10C"]},
    "fleet-h100": {E8: ["H100-1-10C", "H100-1-10C", "H100-2-20C"]},
    "fleet-mixed": {
        "0000:e5:00.0": ["T4-4Q"] * 3,
        "0000:e6:00.0": ["A40-12Q", "A40-24Q", "A40-8Q"],
        "0000:e7:00.0": ["A100-1-5C", "A100-1-5C", "A100-2-10C"],
        E8: ["A100-10C"] * 3,
    },
}
INSTANCES = {"fleet-a100": ["1g.5gb", "1g.5gb", "2g.10gb"], "fleet-h100": ["1g.10gb", "1g.10gb", "2g.20gb"], "fleet-mixed": ["1g.5gb", "1g.5gb", "2g.10gb"]}
MIG = {
    "fleet-a40": {"e8": "[N/A]"},
    "fleet-l40s": {"e8": "[N/A]"},
    "fleet-a100": {"e8": "Enabled"},
    "fleet-h100": {"e8": "Enabled"},
    "fleet-mixed": {"e5": "[N/A]", "e6": "[N/A]", "e7": "Enabled", "e8": "Disabled"},
}


def test_exactly_the_expected_vgpus_exist(seen):
    assert seen.vgpus == VGPUS[seen.name]


def test_each_vgpu_has_a_vf_of_its_own_and_the_t4s_live_on_the_pf(seen):
    on_vfs = [place for place in seen.places if place != "0000:e5:00.0"]
    assert len(set(on_vfs)) == len(on_vfs) and not any(place.endswith("00.0") for place in on_vfs)
    assert seen.places.count("0000:e5:00.0") == (3 if seen.name == "fleet-mixed" else 0)


def test_the_frameworks_are_those_of_the_kernels(seen):
    vendor = seen.name in ("fleet-l40s", "fleet-h100")
    assert bool(seen.lines["vf"]) == vendor and bool(seen.lines["mdev"]) != vendor


def test_gpu_instances_are_those_that_the_types_need(seen):
    assert seen.instances == INSTANCES.get(seen.name, [])


def test_mig_mode_is_on_where_it_is_needed(seen):
    assert seen.mig == MIG[seen.name]


def test_the_machine_brought_it_back_by_itself(seen):
    assert (seen.lines["boots"], seen.lines["restore"]) == (["2"], ["active"])
