# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the state after an empty layout: no vGPU and no GPU instance remains, and the VFs are still enabled."""

from __future__ import annotations


def test_no_vgpu_is_left(seen):
    assert seen.vgpus == {}


def test_no_gpu_instance_is_left(seen):
    assert seen.instances == []


def test_the_gpus_are_still_ready(seen):
    gpus = [line.split() for line in seen.lines["pf"]]
    assert gpus and all(driver == "nvidia" for dummy, driver, dummy2 in gpus)
    assert all(int(number) > 0 for address, dummy, number in gpus if address != "0000:e5:00.0")
