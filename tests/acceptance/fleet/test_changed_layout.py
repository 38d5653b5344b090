# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the state after a changed layout: exactly its vGPUs and the required GPU instances exist."""

from __future__ import annotations

E8 = "0000:e8:00.0"
VGPUS = {
    "fleet-a40": {E8: ["A40-12Q"] * 3},
    "fleet-l40s": {E8: ["L40S-24Q"]},
    "fleet-a100": {E8: ["A100-1-5C", "A100-3-20C"]},
    "fleet-h100": {E8: ["H100-1-10C", "H100-1-10C", "H100-3-40C"]},
    "fleet-mixed": {
        "0000:e5:00.0": ["T4-4Q"] * 2,
        "0000:e6:00.0": ["A40-24Q", "A40-8Q", "A40-8Q"],
        "0000:e7:00.0": ["A100-1-5C", "A100-1-5C", "A100-3-20C"],
        E8: ["A100-10C"],
    },
}
NEEDED = {"fleet-a100": ["1g.5gb", "3g.20gb"], "fleet-h100": ["1g.10gb", "1g.10gb", "3g.40gb"], "fleet-mixed": ["1g.5gb", "1g.5gb", "3g.20gb"]}


def test_exactly_the_expected_vgpus_exist(seen):
    assert seen.vgpus == VGPUS[seen.name]


def test_the_gpu_instances_that_they_need_exist(seen):
    """One surplus GPU instance is allowed if the driver does not show whether the instance contains a vGPU."""
    left = list(seen.instances)
    for profile in NEEDED.get(seen.name, []):
        assert profile in left, seen.instances
        left.remove(profile)
    assert len(left) <= 1


def test_no_reboot_was_needed(seen):
    assert seen.lines["boots"] == ["2"]
